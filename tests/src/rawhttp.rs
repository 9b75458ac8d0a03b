//! A reader of HTTP/1 that knows nothing of the gateway's codec: what an upstream or a client that
//! takes its bytes literally makes of them.

/// One message, as a cautious reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Start line without CRLF.
    pub start_line: String,
    /// Fields in order: lower-case name, value without surrounding white space.
    pub fields: Vec<(String, String)>,
    /// Payload, without chunked framing.
    pub body: Vec<u8>,
}

impl Message {
    /// The values of the fields called `name` (lower-case).
    pub fn values(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|field| field.0 == name);
        named.map(|field| field.1.as_str()).collect()
    }

    /// The status, if this is a response.
    pub fn status(&self) -> Option<u16> {
        self.start_line.split(' ').nth(1)?.parse().ok()
    }
}

/// What came of reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// A message, and how many bytes it took.
    Whole(Message, usize),
    /// More bytes are needed.
    Part,
    /// No cautious reader takes this, for the reason given.
    Wrong(&'static str),
}

/// Reads the message at the start of `input`. A response without length has all of the rest for its
/// body.
pub fn read(input: &[u8]) -> Read {
    let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if is_clean(input) { Read::Part } else { Read::Wrong("bare CR or LF in the head") };
    };
    let head = &input[..end + 2];
    if !is_clean(head) {
        return Read::Wrong("bare CR or LF in the head");
    }
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| latin1(line.trim_ascii_end()));
    let start_line = lines.next().unwrap_or_default();
    let mut fields = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && !name.contains([' ', '\t']) => {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            _ => return Read::Wrong("a field without a name"),
        }
    }
    let mut message = Message { start_line, fields, body: Vec::new() };
    match read_body(&message, &input[end + 4..]) {
        Ok(Some((body, used))) => {
            message.body = body;
            Read::Whole(message, end + 4 + used)
        }
        Ok(None) => Read::Part,
        Err(reason) => Read::Wrong(reason),
    }
}

/// All messages in `input`, and what is left.
pub fn read_all(mut input: &[u8]) -> (Vec<Message>, Vec<u8>) {
    let mut messages = Vec::new();
    while let Read::Whole(message, used) = read(input) {
        messages.push(message);
        input = &input[used..];
    }
    (messages, input.to_vec())
}

/// Whether CR and LF come in pairs only; a CR may be the last byte.
fn is_clean(bytes: &[u8]) -> bool {
    let at = |index: usize| bytes.get(index).copied();
    (0..bytes.len()).all(|index| match bytes[index] {
        b'\r' => matches!(at(index + 1), Some(b'\n') | None),
        b'\n' => index > 0 && bytes[index - 1] == b'\r',
        _ => true,
    })
}

type Body = Option<(Vec<u8>, usize)>;

fn read_body(message: &Message, rest: &[u8]) -> Result<Body, &'static str> {
    let (lengths, encodings) =
        (message.values("content-length"), message.values("transfer-encoding"));
    let status = message.status().filter(|_| message.start_line.starts_with("HTTP/"));
    match (&lengths[..], &encodings[..]) {
        ([], ["chunked"]) => dechunk(rest),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse::<usize>().map_err(|_| "length")?;
            Ok(rest.get(..length).map(|body| (body.to_vec(), length)))
        }
        ([], []) if status.is_some_and(|status| status >= 200) => {
            Ok(Some((rest.to_vec(), rest.len())))
        }
        ([], []) => Ok(Some((Vec::new(), 0))),
        _ => Err("ambiguous framing"),
    }
}

fn dechunk(input: &[u8]) -> Result<Body, &'static str> {
    let mut payload = Vec::new();
    let mut rest = input;
    let line = |rest: &[u8]| rest.windows(2).position(|pair| pair == b"\r\n");
    loop {
        let Some(end) = line(rest) else { return Ok(None) };
        let digits = std::str::from_utf8(&rest[..end]).map_err(|_| "chunk size")?;
        let size = usize::from_str_radix(digits, 16).map_err(|_| "chunk size")?;
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        let Some((chunk, after)) = rest.split_at_checked(size) else { return Ok(None) };
        payload.extend_from_slice(chunk);
        rest = match after {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(None),
            _ => return Err("chunk end"),
        };
    }
    loop {
        let Some(end) = line(rest) else { return Ok(None) };
        rest = &rest[end + 2..];
        if end == 0 {
            return Ok(Some((payload, input.len() - rest.len())));
        }
    }
}

/// Bytes as characters, one each.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The reverse of reading bytes as characters; other characters become `?`.
pub fn to_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(u32::from(char)).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(input: &[u8]) -> Message {
        match read(input) {
            Read::Whole(message, used) if used == input.len() => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_requests_and_responses() {
        let message = whole(b"POST /a HTTP/1.1\r\nA:  b \r\nContent-Length: 2\r\n\r\nxy");
        assert_eq!(message.start_line, "POST /a HTTP/1.1");
        assert_eq!(message.values("a"), ["b"]);
        assert_eq!(message.body, b"xy");
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nT: 1\r\n\r\n";
        assert_eq!((whole(chunked).status(), whole(chunked).body), (Some(200), b"x".to_vec()));
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n\r\nrest").body, b"rest");
        assert_eq!(whole(b"GET / HTTP/1.1\r\n\r\n").body, b"");
    }

    #[test]
    fn is_cautious() {
        let ambiguous: &[&[u8]] = &[
            b"GET / HTTP/1.1\r\nA: b\n\r\n\r\n",
            b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\nx\r\n0\r\n\r\n",
        ];
        for input in ambiguous {
            assert!(matches!(read(input), Read::Wrong(_)), "{}", input.escape_ascii());
        }
        let parts: &[&[u8]] =
            &[b"GET / HTTP/1.1\r\n\r", b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n"];
        for input in parts {
            assert_eq!(read(input), Read::Part, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn reads_one_message_after_the_other() {
        let (messages, rest) = read_all(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET");
        assert_eq!((messages.len(), rest), (2, b"GET".to_vec()));
    }
}
