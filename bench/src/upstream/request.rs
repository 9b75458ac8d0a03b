//! Request heads, as far as the demo upstream cares.

/// Most header fields a request may have.
const MAX_HEADERS: usize = 128;

/// How the body of a request is delimited (RFC 9112, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// `Content-Length`, or 0 without a body.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// `/bytes/N`: N bytes with a Content-Length.
    Bytes(u64),
    /// `/chunked/N`: N bytes in chunks.
    Chunked(u64),
    /// `/upload`: how many bytes the request's body had.
    Upload,
    /// `/delay/MS`: an answer after that many milliseconds.
    Delay(u64),
    /// `/sse` and `/sse/N`: N events, or events until the client leaves.
    Events(Option<u64>),
    /// Anything else: who was asked for what.
    Hello,
}

impl Ask {
    fn from_target(target: &str) -> Self {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let name = parts.next().unwrap_or_default();
        let number = parts.next().and_then(|n| n.parse::<u64>().ok());
        match (name, number) {
            ("bytes", Some(n)) => Self::Bytes(n),
            ("chunked", Some(n)) => Self::Chunked(n),
            ("upload", _) => Self::Upload,
            ("delay", Some(ms)) => Self::Delay(ms),
            ("sse", events) => Self::Events(events),
            _ => Self::Hello,
        }
    }
}

/// One parsed request head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// What to answer.
    pub(super) ask: Ask,
    /// How the body is delimited.
    pub(super) framing: Framing,
    /// Whether the client waits for `100 Continue`.
    pub(super) expects_continue: bool,
    /// Whether the connection stays open afterwards.
    pub(super) keep_alive: bool,
    /// Whether the method is HEAD.
    pub(super) is_head: bool,
    /// Length of the head in bytes.
    pub(super) head_len: usize,
    /// What [`Ask::Hello`] tells; empty for the rest.
    pub(super) hello: Vec<u8>,
}

/// Outcome of parsing what was read so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole head.
    Request(Request),
    /// More bytes are needed.
    Partial,
    /// Not HTTP/1.
    Bad,
}

/// Parses one request head from the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => interpret(&head, len),
        Ok(httparse::Status::Partial) => Parsed::Partial,
        Err(_) => Parsed::Bad,
    }
}

fn interpret(head: &httparse::Request<'_, '_>, head_len: usize) -> Parsed {
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Parsed::Bad;
    };
    let mut request = Request {
        ask: Ask::from_target(target),
        framing: Framing::Length(0),
        expects_continue: false,
        keep_alive: version == 1,
        is_head: method == "HEAD",
        head_len,
        hello: Vec::new(),
    };
    let mut host: &[u8] = b"-";
    for header in head.headers.iter() {
        let (name, value) = (header.name, header.value);
        if name.eq_ignore_ascii_case("host") {
            host = value;
        } else if name.eq_ignore_ascii_case("content-length") {
            let Some(length) = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()) else {
                return Parsed::Bad;
            };
            request.framing = Framing::Length(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            request.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("expect") {
            request.expects_continue = true;
        } else if name.eq_ignore_ascii_case("connection") {
            if value.eq_ignore_ascii_case(b"close") {
                request.keep_alive = false;
            } else if value.eq_ignore_ascii_case(b"keep-alive") {
                request.keep_alive = true;
            }
        }
    }
    if request.ask == Ask::Hello {
        request.hello = hello(method, target, host);
    }
    Parsed::Request(request)
}

fn hello(method: &str, target: &str, host: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(128);
    text.extend_from_slice(b"Hello from the Osmia demo upstream.\nmethod: ");
    text.extend_from_slice(method.as_bytes());
    text.extend_from_slice(b"\npath: ");
    text.extend_from_slice(target.as_bytes());
    text.extend_from_slice(b"\nhost: ");
    text.extend_from_slice(host);
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(bytes: &[u8]) -> Request {
        match parse(bytes) {
            Parsed::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn targets_choose_the_answer() {
        let cases = [
            ("/bytes/1024", Ask::Bytes(1024)),
            ("/bytes/1024?x=/chunked/3", Ask::Bytes(1024)),
            ("/chunked/7", Ask::Chunked(7)),
            ("/upload", Ask::Upload),
            ("/delay/20", Ask::Delay(20)),
            ("/sse", Ask::Events(None)),
            ("/sse/3", Ask::Events(Some(3))),
            ("/bytes/many", Ask::Hello),
            ("/", Ask::Hello),
        ];
        for (target, ask) in cases {
            assert_eq!(Ask::from_target(target), ask, "{target}");
        }
    }

    #[test]
    fn heads_tell_framing_and_persistence() {
        let plain = request(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nrest");
        assert_eq!(plain.framing, Framing::Length(0));
        assert!(plain.keep_alive && !plain.expects_continue && !plain.is_head);
        assert_eq!(plain.head_len, 28);
        assert_eq!(
            plain.hello,
            b"Hello from the Osmia demo upstream.\nmethod: GET\npath: /a\nhost: h\n"
        );
        let old = request(b"HEAD / HTTP/1.0\r\n\r\n");
        assert!(!old.keep_alive && old.is_head);
        let upload = request(
            b"POST /upload HTTP/1.1\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\
              Connection: close\r\n\r\n",
        );
        assert_eq!(upload.framing, Framing::Length(12));
        assert!(upload.expects_continue && !upload.keep_alive);
        let chunked = request(b"POST /upload HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(chunked.framing, Framing::Chunked);
    }

    #[test]
    fn halves_wait_and_garbage_is_refused() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: h\r\n"), Parsed::Partial);
        assert_eq!(parse(b"\x16\x03\x01\x02\x00\r\n\r\n"), Parsed::Bad);
        assert_eq!(parse(b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"), Parsed::Bad);
    }
}
