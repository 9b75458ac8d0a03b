//! What came on one stream.

/// Fields in order, as text.
pub type Received = Vec<(String, String)>;

/// The answer on a stream, as far as it has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Interim responses.
    pub interim: Vec<Received>,
    /// The fields of the final response, `:status` first.
    pub fields: Received,
    /// The payload.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Received,
    /// Whether the server has ended the stream.
    pub ended: bool,
    /// The code of `RST_STREAM`.
    pub reset: Option<u32>,
}

impl Exchange {
    /// The final status; 0 while there is none.
    pub fn status(&self) -> u16 {
        status_of(&self.fields).unwrap_or(0)
    }

    /// The value of the only field called `name`; `None` if there is none. Fails if it is repeated.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut named = self.fields.iter().filter(|(found, _)| found == name);
        let value = named.next().map(|(_, value)| value.as_str());
        assert!(named.next().is_none(), "{name} is repeated in {:?}", self.fields);
        value
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Takes in a header block. Checks what RFC 9113, section 8.2 and 8.3.2, demands of responses.
    #[track_caller]
    pub(super) fn add_block(&mut self, block: Received, end: bool) {
        for (name, value) in &block {
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name} in {block:?}");
            let specific = ["connection", "keep-alive", "transfer-encoding", "upgrade"];
            assert!(!specific.contains(&name.as_str()), "{name} in {block:?}");
            assert!(!value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
        }
        let pseudo = block.iter().filter(|(name, _)| name.starts_with(':')).count();
        if self.fields.is_empty() {
            let status = status_of(&block).unwrap_or_else(|| panic!("no status in {block:?}"));
            assert_eq!((pseudo, block[0].0.as_str()), (1, ":status"), "{block:?}");
            if status < 200 {
                assert!(!end, "an interim response ends the stream: {block:?}");
                assert_ne!(status, 101, "{block:?}");
                self.interim.push(block);
                return;
            }
            self.fields = block;
        } else {
            assert!(end, "trailers that do not end the stream: {block:?}");
            assert_eq!(pseudo, 0, "trailers {block:?}");
            self.trailers = block;
        }
        self.ended = end;
    }
}

fn status_of(fields: &Received) -> Option<u16> {
    fields.iter().find(|(name, _)| name == ":status").and_then(|(_, value)| value.parse().ok())
}
