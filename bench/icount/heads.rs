//! Parsing and serialising of heads, and path normalisation: shared by the instruction counts and
//! the criterion benchmarks.

use std::hint::black_box;

use osmia_core::http1::response::Asked;
use osmia_core::http1::write::{self, ConnectionField, RequestRewrite, ResponseRewrite};
use osmia_core::http1::{RequestHead, ResponseHead};
use osmia_core::limits::HttpLimits;
use osmia_core::path;

/// Does a scenario that many times.
pub(crate) type Work = Box<dyn FnMut(u32)>;
/// Prepares a scenario.
pub(crate) type Make = fn() -> Work;

/// What wrk sends.
pub(crate) const SMALL_REQUEST: &[u8] = b"GET /bytes/1024 HTTP/1.1\r\nHost: 127.0.0.1:9080\r\n\r\n";

/// What a browser sends.
pub(crate) const BROWSER_REQUEST: &[u8] =
    b"GET /catalogue/shoes/running?size=42&colour=blue&page=2 \
HTTP/1.1\r\n\
Host: shop.example.com\r\n\
Connection: keep-alive\r\n\
sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
sec-ch-ua-mobile: ?0\r\n\
sec-ch-ua-platform: \"Linux\"\r\n\
Upgrade-Insecure-Requests: 1\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/140.0.0.0 Safari/537.36\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Sec-Fetch-Site: same-origin\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-User: ?1\r\n\
Sec-Fetch-Dest: document\r\n\
Referer: https://shop.example.com/catalogue/shoes\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
Cookie: session=7f3c9a1e5b2d4860; consent=all; basket=3; seen=18%2C19%2C44\r\n\
\r\n";

/// What the demo upstream answers.
pub(crate) const SMALL_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Server: osmia-demo-upstream\r\n\
Content-Type: text/plain\r\n\
Content-Length: 1024\r\n\
\r\n";

/// What an application server answers.
pub(crate) const TYPICAL_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
Server: Apache\r\n\
Content-Type: application/json; charset=utf-8\r\n\
Content-Length: 1024\r\n\
Connection: keep-alive\r\n\
Cache-Control: private, max-age=0, must-revalidate\r\n\
ETag: W/\"5f3-8Kx0mJ0q0nGkY2bH6o0sM3l1l5w\"\r\n\
Vary: Accept-Encoding, Origin\r\n\
X-Request-Id: 0f7d2f0c-2f5f-4a53-b2b5-5a2d1b8c7e11\r\n\
Set-Cookie: session=7f3c9a1e5b2d4860; Path=/; HttpOnly; Secure; SameSite=Lax\r\n\
Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
\r\n";

/// As many fields, and about as many bytes, as a head may carry in practice: tokens and tracing.
pub(crate) fn large_request() -> Vec<u8> {
    let mut head = b"POST /api/v2/orders HTTP/1.1\r\nHost: api.example.com\r\n".to_vec();
    for number in 0..60 {
        let line = format!("X-Context-Field-{number}: {}\r\n", "0123456789abcdef".repeat(6));
        head.extend_from_slice(line.as_bytes());
    }
    head.extend_from_slice(b"Content-Length: 12\r\n\r\n");
    head
}

/// All scenarios on heads and paths.
pub(crate) fn scenarios() -> Vec<(&'static str, Make)> {
    vec![
        ("request-parse-small", || parse_request(SMALL_REQUEST.to_vec())),
        ("request-parse-browser", || parse_request(BROWSER_REQUEST.to_vec())),
        ("request-parse-large", || parse_request(large_request())),
        ("request-write-small", || write_request(SMALL_REQUEST)),
        ("request-write-browser", || write_request(BROWSER_REQUEST)),
        ("response-parse-small", || parse_response(SMALL_RESPONSE)),
        ("response-parse-typical", || parse_response(TYPICAL_RESPONSE)),
        ("response-write-small", || write_response(SMALL_RESPONSE)),
        ("response-write-typical", || write_response(TYPICAL_RESPONSE)),
        ("path-normal", || normalise(b"/catalogue/shoes/running")),
        ("path-odd", || normalise(b"/catalogue//shoes/./%72unning/../walking%20boots")),
    ]
}

fn parse_request(bytes: Vec<u8>) -> Work {
    let limits = HttpLimits::default();
    let mut head = RequestHead::default();
    Box::new(move |times| {
        for _ in 0..times {
            head.reset();
            let parsed = head.parse(black_box(&bytes), &limits);
            assert_eq!(parsed, Ok(true));
            black_box(&head);
        }
    })
}

fn parse_response(bytes: &'static [u8]) -> Work {
    let limits = HttpLimits::default();
    let mut head = ResponseHead::default();
    Box::new(move |times| {
        for _ in 0..times {
            head.reset();
            let parsed = head.parse(black_box(bytes), Asked::default(), &limits);
            assert_eq!(parsed, Ok(true));
            black_box(&head);
        }
    })
}

fn write_request(bytes: &'static [u8]) -> Work {
    let mut head = RequestHead::default();
    assert_eq!(head.parse(bytes, &HttpLimits::default()), Ok(true));
    let mut out = Vec::with_capacity(8192);
    Box::new(move |times| {
        for _ in 0..times {
            out.clear();
            let rewrite = RequestRewrite {
                host: head.host.get(bytes),
                target: None,
                client_ip: b"192.0.2.33",
                scheme: b"http",
                server_port: b"9080",
                trust: osmia_core::forwarded::Trust::Unset,
                upgrade: false,
            };
            write::request_head(&mut out, black_box(&head), bytes, &rewrite);
            black_box(&out);
        }
    })
}

fn write_response(bytes: &'static [u8]) -> Work {
    let mut head = ResponseHead::default();
    assert_eq!(head.parse(bytes, Asked::default(), &HttpLimits::default()), Ok(true));
    let mut out = Vec::with_capacity(8192);
    Box::new(move |times| {
        for _ in 0..times {
            out.clear();
            let rewrite = ResponseRewrite {
                server: b"Osmia/0.1.0",
                date: b"Sun, 06 Nov 1994 08:49:37 GMT",
                connection: ConnectionField::Implied,
                framing: head.body,
                extra: b"",
            };
            write::response_head(&mut out, black_box(&head), bytes, &rewrite);
            black_box(&out);
        }
    })
}

fn normalise(target: &'static [u8]) -> Work {
    Box::new(move |times| {
        for _ in 0..times {
            let normal = path::normalize(black_box(target));
            assert!(black_box(normal).is_ok());
        }
    })
}
