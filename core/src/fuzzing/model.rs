//! A second, naive reading of a head that was accepted, to compare with.

/// A head, line by line.
pub(super) struct Model<'a> {
    pub(super) start_line: &'a [u8],
    pub(super) fields: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Model<'a> {
    /// Reads `head`, which ends with its empty line.
    pub(super) fn read(head: &'a [u8]) -> Self {
        let mut lines = Vec::new();
        let mut rest = head;
        while !rest.is_empty() {
            let end = rest.windows(2).position(|pair| pair == b"\r\n");
            let end = end.unwrap_or_else(|| fail("a line without CRLF", rest));
            lines.push(&rest[..end]);
            rest = &rest[end + 2..];
        }
        assert_eq!(lines.pop(), Some(&b""[..]), "no empty line at the end");
        let first = lines.iter().position(|line| !line.is_empty());
        let first = first.unwrap_or_else(|| fail("no start line", head));
        let fields = lines[first + 1..].iter().map(|line| split_field(line)).collect();
        Self { start_line: lines[first], fields }
    }

    /// The values of the fields called `name`.
    pub(super) fn values(&self, name: &str) -> Vec<&'a [u8]> {
        let is_it = |field: &&(&[u8], &[u8])| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(is_it).map(|field| field.1).collect()
    }

    /// The fields named by `Connection`, lower-case.
    pub(super) fn connection_options(&self) -> Vec<Vec<u8>> {
        let values = self.values("connection");
        let options = values.iter().flat_map(|value| value.split(|byte| *byte == b','));
        options.map(|option| option.trim_ascii().to_ascii_lowercase()).collect()
    }

    /// Checks what every field line must be, and how the message may be framed.
    pub(super) fn check(&self, http11: bool) {
        for (name, value) in &self.fields {
            let is_token =
                |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
            assert!(!name.is_empty() && name.iter().all(is_token), "name {}", show(name));
            let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
            assert!(!value.iter().any(is_control), "value {}", show(value));
        }
        let (lengths, encodings) =
            (self.values("content-length"), self.values("transfer-encoding"));
        assert!(lengths.len() + encodings.len() <= 1, "ambiguous framing");
        for length in lengths {
            assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit));
        }
        for encoding in encodings {
            assert!(http11 && encoding.eq_ignore_ascii_case(b"chunked"));
        }
    }

    /// Checks that framing fields are written in the one form that is forwarded.
    pub(super) fn check_plain_framing(head: &[u8]) {
        for line in head.split(|byte| *byte == b'\n') {
            let lower = line.to_ascii_lowercase();
            if lower.starts_with(b"transfer-encoding:") {
                assert!(lower.ends_with(b": chunked\r") && line.ends_with(b"chunked\r"));
            }
            if let Some(value) = lower.strip_prefix(b"content-length:") {
                let digits = value.strip_prefix(b" ").and_then(|v| v.strip_suffix(b"\r"));
                let digits = digits.unwrap_or_else(|| fail("length line", line));
                assert!(digits.iter().all(u8::is_ascii_digit), "{}", show(line));
                assert!(digits.len() == 1 || digits[0] != b'0', "{}", show(line));
            }
        }
    }
}

fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.unwrap_or_else(|| fail("a field without colon", line));
    (&line[..colon], line[colon + 1..].trim_ascii())
}

/// `bytes` as text for a message.
pub(super) fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[allow(clippy::panic, reason = "to panic is how invariants report")]
pub(super) fn fail(what: &str, bytes: &[u8]) -> ! {
    panic!("{what}: {}", show(bytes));
}
