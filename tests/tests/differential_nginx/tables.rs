//! What is sent, and what becomes of it.
//!
//! `{get}`, `{post}`, `{host}`, `{te}` and `{next}` stand for what
//! [`expand`](crate::expand) says; one character is one byte.

/// An input, and the final statuses that Osmia and nginx answer it with. `9`: a response without
/// status, as in HTTP/0.9.
pub(crate) type Case = (&'static str, &'static str, &'static str);

/// What both treat alike.
#[rustfmt::skip]
pub(crate) const ALIKE: &[Case] = &[
    ("{get}\r\n", "200", "200"),
    ("PROPFIND / HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("A_B / HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("M-SEARCH / HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("TRACE / HTTP/1.1\r\n{host}\r\n", "405", "405"),
    ("CONNECT a:80 HTTP/1.1\r\n{host}\r\n", "405", "400"),
    ("CONNECT /x HTTP/1.1\r\n{host}\r\n", "405", "405"),
    ("GET * HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET /a b HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET\t/ HTTP/1.1\r\n{host}\r\n", "400", "400"),
    (" GET / HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("\r\n{get}\r\n", "200", "200"),
    ("\r\n\r\n\r\n{get}\r\n", "200", "200"),
    ("GET / HTTP/2.0\r\n{host}\r\n", "505", "505"),
    ("GET / HTTP/0.9\r\n{host}\r\n", "505", "400"),
    ("GET / http/1.1\r\n{host}\r\n", "400", "400"),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505", "400"),
    ("\x16\x03\x01\x00\x05\x01", "400", "400"),
    ("\x00\x01\x02\r\n\r\n", "400", "400"),
    ("{get}A: b\rC: d\r\n\r\n", "400", "400"),
    ("{get}A: b\r\n\rC: d\r\n\r\n", "400", "400"),
    ("{get}A: b\x00c\r\n\r\n", "400", "400"),
    ("GET /a\x00b HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("{get}A: b\tc\r\n\r\n", "200", "200"),
    ("{get}A: \u{e9}\r\n\r\n", "200", "200"),
    ("GET /\u{c3}\u{a9} HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET /\x01 HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET /\x7f HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET /\"<>\\^`{|} HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET /%zz HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET /?%zz HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET /%00 HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET /.. HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET /a/../b/./c//d HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET /a/%2e%2e/b HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET http://a.example/x?y HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET http://a.example HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET http://a.example?y HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET HTTP://a.example/ HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET https://a.example/ HTTP/1.1\r\n{host}\r\n", "200", "200"),
    ("GET http://u@a.example/ HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET http://u:p@a.example/ HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET http:///x HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET http://a:x/ HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET http://a.example/ HTTP/1.1\r\n\r\n", "400", "400"),
    ("GET a.example:80 HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET a/b HTTP/1.1\r\n{host}\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.0\r\n\r\n", "200", "200"),
    ("GET / HTTP/1.0\r\n{host}\r\n", "200", "200"),
    ("{get}Host: b\r\n\r\n", "400", "400"),
    ("{get}{host}\r\n", "400", "400"),
    ("GET / HTTP/1.0\r\n{host}Host: b\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "200", "200"),
    ("GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "200", "200"),
    ("GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\nHost: A.Example\r\n\r\n", "200", "200"),
    ("GET / HTTP/1.1\r\nHost: a_b\r\n\r\n", "200", "200"),
    ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "200", "200"),
    ("GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\nHost: a%41\r\n\r\n", "200", "200"),
    ("{get}A : b\r\n\r\n", "400", "400"),
    ("{get}A\t: b\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400", "400"),
    ("{get}A: b\r\n c\r\n\r\n", "400", "400"),
    ("{get}A: b\r\n\tc\r\n\r\n", "400", "400"),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400", "400"),
    ("{get}: b\r\n\r\n", "400", "400"),
    ("{get}a_b: c\r\n\r\n", "200", "200"),
    ("{get}A:\r\n\r\n", "200", "200"),
    ("{get}A:b\r\n\r\n", "200", "200"),
    ("{get}A: \t b  c \t\r\n\r\n", "200", "200"),
    ("{post}Content-Length: 5\r\n\r\nhello", "200", "200"),
    ("{post}Content-Length: 0\r\n\r\n{next}", "200 200", "200 200"),
    ("{post}Content-Length: 005\r\n\r\nhello", "200", "200"),
    ("{post}Content-Length: +5\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: -5\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: 0x5\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: 5, 5\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "400", "400"),
    ("{post}Content-Length:\r\n\r\n{next}", "400", "400"),
    ("{post}Content-Length: 1 2\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: 5.0\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: 18446744073709551621\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: 9999999999999999999\r\n\r\nhello", "400", "400"),
    ("{post}Content-Length: \u{b2}\r\n\r\nhello", "400", "400"),
    ("{get}Content-Length: 5\r\n\r\nhello{next}", "200 200", "200 200"),
    ("{post}{te}\r\n5\r\nhello\r\n0\r\n\r\n{next}", "200 200", "200 200"),
    ("{post}Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200", "200"),
    ("{post}Transfer-Encoding: \x0bchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "400", "501"),
    ("{post}{te}Content-Length: 5\r\n\r\n0\r\n\r\n", "400", "400"),
    ("{post}Content-Length: 5\r\n{te}\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}{te}\r\n0\r\n\r\n", "400", "400"),
    ("{post}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400", "501"),
    ("{post}Transfer-Encoding: identity\r\n\r\n", "400", "501"),
    ("{post}Transfer-Encoding: identity\r\n{te}\r\n0\r\n\r\n", "400", "400"),
    ("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501", "501"),
    ("{post}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "400", "501"),
    ("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400", "501"),
    ("{post}Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", "400", "501"),
    ("{post}Transfer-Encoding:\r\n\r\n{next}", "400", "501"),
    ("{post}Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "501", "501"),
    ("POST / HTTP/1.0\r\n{host}{te}\r\n0\r\n\r\n", "400", "400"),
    ("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400", "400"),
    ("{post}Transfer_Encoding: chunked\r\n\r\n{next}", "200 200", "200 200"),
    ("{post}{te}\r\n5;a=b\r\nhello\r\n0;x\r\n\r\n", "200", "200"),
    ("{post}{te}\r\n5;a=\"\r\nhello\r\n0\r\n\r\n", "200", "200"),
    ("{post}{te}\r\n5 ;a\r\nhello\r\n0\r\n\r\n", "200", "200"),
    ("{post}{te}\r\n 5\r\nhello\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n0x5\r\nhello\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n+5\r\nhello\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n-5\r\nhello\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n\r\n{next}", "400", "400"),
    ("{post}{te}\r\n0000000000000005\r\nhello\r\n0\r\n\r\n", "200", "200"),
    ("{post}{te}\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n5\r\nhello0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n4\r\nhello\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n5\r\r\nhello\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", "400", "400"),
    ("{post}{te}\r\n0\r\nX-T: 1\r\n\r\n{next}", "200 200", "200 200"),
    ("{post}Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "200", "200"),
    (
        "POST / HTTP/1.0\r\n{host}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n\
         hello",
        "200",
        "200",
    ),
    ("{get}Connection: close\r\n\r\n{next}", "200", "200"),
    ("{post}Connection: content-length\r\nContent-Length: 5\r\n\r\nhello", "200", "200"),
    ("GET / HTTP/1.0\r\n{host}Connection: keep-alive\r\n\r\n{next}", "200 200", "200 200"),
    ("GET / HTTP/1.0\r\n{host}\r\n{next}", "200", "200"),
    ("{get}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", "200", "200"),
    (
        "{post}Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\n\
         hello{next}",
        "200 200",
        "200 200",
    ),
    ("{get}\r\n{next}{next}", "200 200 200", "200 200 200"),
    ("{post}Content-Length: 5\r\n\r\nhello\r\n{next}", "200 200", "200 200"),
    ("{get}\r\n\x00\x01", "200 400", "200 400"),
    ("{post}Content-Length: 50\r\n\r\nhello", "", ""),
    ("GET / HTTP/1.1\r\nHos", "", ""),
    ("{get}Cookie: a=1\r\nCookie: b=2\r\n\r\n", "200", "200"),
    ("{get}A: 1\r\nB: 2\r\nA: 3\r\n\r\n", "200", "200"),
    ("{post}Trailer: x\r\n{te}\r\n0\r\n\r\n", "200", "200"),
    ("{get}Proxy-Authorization: x\r\nAuthorization: y\r\n\r\n", "200", "200"),
    ("{get}Date: x\r\nServer: y\r\nVia: z\r\n\r\n", "200", "200"),
];

/// What they treat differently, by the reason why Osmia does what it does. Where both answer 200,
/// what the upstream sees differs.
#[rustfmt::skip]
pub(crate) const DIFFERENT: &[(&str, &[Case])] = &[
    (
        "methods are tokens, in any case (RFC 9110, 9.1)",
        &[
            ("get / HTTP/1.1\r\n{host}\r\n", "200", "400"),
            ("M1 / HTTP/1.1\r\n{host}\r\n", "200", "400"),
        ],
    ),
    (
        "asterisk-form is valid with OPTIONS (RFC 9112, 3.2.4)",
        &[
            ("OPTIONS * HTTP/1.1\r\n{host}\r\n", "200", "400"),
        ],
    ),
    (
        "a request line has one space where one is due: some readers split it elsewhere (RFC \
         9112, 3)",
        &[
            ("GET  / HTTP/1.1\r\n{host}\r\n", "400", "200"),
            ("GET /  HTTP/1.1\r\n{host}\r\n", "400", "200"),
            ("GET / HTTP/1.1 \r\n{host}\r\n", "400", "200"),
        ],
    ),
    (
        "a line ends in CRLF and in nothing else (RFC 9112, 2.2): readers that want CR see \
         another line",
        &[
            ("\n{get}\r\n", "400", "200"),
            ("GET / HTTP/1.1\nHost: a.example\n\n", "400", "200"),
            ("GET / HTTP/1.1\n{host}\r\n", "400", "200"),
            ("{get}A: b\nC: d\r\n\r\n", "400", "200"),
            ("{get}A: b\r\n\n", "400", "200"),
        ],
    ),
    (
        "a CR is followed by LF (RFC 9112, 2.2)",
        &[
            ("\r{get}\r\n", "400", "200"),
            ("{get}A: b\r\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "HTTP/0.9 has no fields, no status and no end; nobody speaks it",
        &[
            ("GET /\r\n", "400", "9"),
        ],
    ),
    (
        "nginx takes any 1.x; another minor version was never defined",
        &[
            ("GET / HTTP/1.2\r\n{host}\r\n", "505", "200"),
        ],
    ),
    (
        "HTTP-version has one digit on each side (RFC 9112, 2.3)",
        &[
            ("GET / HTTP/1.10\r\n{host}\r\n", "400", "200"),
        ],
    ),
    (
        "no control bytes in values (RFC 9110, 5.5)",
        &[
            ("{get}A: b\x0bc\r\n\r\n", "400", "200"),
            ("{get}A: b\x7fc\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "what is no UTF-8 reads as different paths in different places",
        &[
            ("GET /\u{e9} HTTP/1.1\r\n{host}\r\n", "400", "200"),
        ],
    ),
    (
        "no fragment in a target (RFC 9112, 3.2): servers disagree on what it hides \
         (CVE-2023-45539)",
        &[
            ("GET /a#b HTTP/1.1\r\n{host}\r\n", "400", "200"),
            ("GET /a#/../b HTTP/1.1\r\n{host}\r\n", "400", "200"),
            ("GET /a?b#c HTTP/1.1\r\n{host}\r\n", "400", "200"),
        ],
    ),
    (
        "the target's authority wins over Host (RFC 9112, 3.2.2); nginx matches the one and \
         forwards the other",
        &[
            ("GET http://b.example/x HTTP/1.1\r\n{host}\r\n", "200", "200"),
        ],
    ),
    (
        "without a path it asks about the whole server (RFC 9112, 3.2.4)",
        &[
            ("OPTIONS http://a.example HTTP/1.1\r\n{host}\r\n", "200", "200"),
        ],
    ),
    (
        "a gateway for http and https",
        &[
            ("GET ftp://a.example/ HTTP/1.1\r\n{host}\r\n", "400", "200"),
        ],
    ),
    (
        "user information is no part of Host (RFC 9110, 4.2.4)",
        &[
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "not uri-host [\":\" port] (RFC 9110, 7.2): what is matched must be what the upstream \
         reads",
        &[
            ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "400", "200"),
            ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", "400", "200"),
            ("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "400", "200"),
            ("GET / HTTP/1.1\r\nHost: [zz]\r\n\r\n", "400", "200"),
            ("GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", "400", "200"),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "400", "200"),
            ("GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", "400", "200"),
            ("GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "a tab is white space like a space (RFC 9110, 5.6.3); it is not forwarded",
        &[
            ("GET / HTTP/1.1\r\nHost:\ta.example\r\n\r\n", "200", "400"),
            ("{post}Content-Length:\t5\t\r\n\r\nhello", "200", "400"),
            ("{post}Transfer-Encoding:\tchunked \r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200", "501"),
        ],
    ),
    (
        "a field line has a colon (RFC 9112, 5)",
        &[
            ("{get}abc\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "not a token (RFC 9110, 5.6.2): refused, where nginx leaves the field out without a \
         word",
        &[
            ("{get}A(b): c\r\n\r\n", "400", "200"),
            ("{get}A/b: c\r\n\r\n", "400", "200"),
            ("{get}\u{e9}: c\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "a token (RFC 9110, 5.6.2); nginx leaves fields out whose names it does not like",
        &[
            ("{get}a.b: c\r\n\r\n", "200", "200"),
            ("{get}!#$%&'*+-.^_`|~: c\r\n\r\n", "200", "200"),
        ],
    ),
    (
        "white space belongs before an extension only (RFC 9112, 7.1.1)",
        &[
            ("{post}{te}\r\n5 \r\nhello\r\n0\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "more than 16 digits: some readers take the last ones only",
        &[
            (
                "{post}{te}\r\n00000000000000000000005\r\nhello\r\n000000000000000000000\r\n\r\n\
                 ",
                "400",
                "200",
            ),
        ],
    ),
    (
        "as in heads: CRLF and nothing else (RFC 9112, 7.1)",
        &[
            ("{post}{te}\r\n5\nhello\r\n0\r\n\r\n", "400", "200"),
            ("{post}{te}\r\n5\r\nhello\n0\r\n\r\n", "400", "200"),
            ("{post}{te}\r\n0\n\n", "400", "200"),
            ("{post}{te}\r\n5;a\nhello\r\n0\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "no control bytes in extensions (RFC 9112, 7.1.1)",
        &[
            ("{post}{te}\r\n5;a\x00b\r\nhello\r\n0\r\n\r\n", "400", "200"),
        ],
    ),
    (
        "framing in a trailer (RFC 9110, 6.5.1): a reader that merges trailers is misled",
        &[
            ("{post}{te}\r\n0\r\nContent-Length: 5\r\n\r\n{next}", "400", "200 200"),
        ],
    ),
    (
        "nginx throws trailers away unread; Osmia forwards them, and only well-formed ones",
        &[
            ("{post}{te}\r\n0\r\nX T\r\n\r\n{next}", "400", "200 200"),
            ("{post}{te}\r\n0\r\nX: 1\n\r\n{next}", "400", "200 200"),
            ("{post}{te}\r\n0\r\nX: 1\r\n 2\r\n\r\n{next}", "400", "200 200"),
        ],
    ),
    (
        "an expectation that cannot be met is answered 417 (RFC 9110, 10.1.1); nginx drops it",
        &[
            ("{post}Expect: something\r\nContent-Length: 5\r\n\r\nhello", "417", "200"),
        ],
    ),
    (
        "what Connection names is for one hop (RFC 9110, 7.6.1)",
        &[
            ("{get}Connection: x-hop\r\nX-Hop: 1\r\nA: b\r\n\r\n", "200", "200"),
            ("{get}Connection: cookie\r\nCookie: x\r\n\r\n", "200", "200"),
            (
                "{get}Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: x\r\n\r\n{next}",
                "200 200",
                "200 200",
            ),
        ],
    ),
    (
        "Proxy-Connection is for one hop (RFC 9110, 7.6.1)",
        &[
            (
                "{get}Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\r\n\
                 ",
                "200",
                "200",
            ),
        ],
    ),
];
