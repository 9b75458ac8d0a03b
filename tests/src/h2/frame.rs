//! Frames (RFC 9113, sections 4.1 and 6), as bytes that may be wrong in any way.

use std::fmt;

/// What a client sends before its first frame (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
pub const HEADER: usize = 9;

/// Types of frames (section 6).
pub mod kind {
    /// Section 6.1.
    pub const DATA: u8 = 0;
    /// Section 6.2.
    pub const HEADERS: u8 = 1;
    /// Section 6.3.
    pub const PRIORITY: u8 = 2;
    /// Section 6.4.
    pub const RST_STREAM: u8 = 3;
    /// Section 6.5.
    pub const SETTINGS: u8 = 4;
    /// Section 6.6.
    pub const PUSH_PROMISE: u8 = 5;
    /// Section 6.7.
    pub const PING: u8 = 6;
    /// Section 6.8.
    pub const GOAWAY: u8 = 7;
    /// Section 6.9.
    pub const WINDOW_UPDATE: u8 = 8;
    /// Section 6.10.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames (section 6).
pub mod flag {
    /// Of SETTINGS and PING.
    pub const ACK: u8 = 0x1;
    /// Of DATA and HEADERS.
    pub const END_STREAM: u8 = 0x1;
    /// Of HEADERS, `PUSH_PROMISE` and CONTINUATION.
    pub const END_HEADERS: u8 = 0x4;
    /// Of DATA, HEADERS and `PUSH_PROMISE`.
    pub const PADDED: u8 = 0x8;
    /// Of HEADERS.
    pub const PRIORITY: u8 = 0x20;
}

/// Settings (section 6.5.2; RFC 8441, section 3).
pub mod setting {
    /// Bytes of the peer's HPACK table.
    pub const HEADER_TABLE_SIZE: u16 = 1;
    /// 0 or 1.
    pub const ENABLE_PUSH: u16 = 2;
    /// Streams that the peer may have open.
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// Bytes, below 2^31.
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// Bytes, from 2^14 to 2^24 - 1.
    pub const MAX_FRAME_SIZE: u16 = 5;
    /// Bytes, advisory.
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    /// 0 or 1: extended CONNECT.
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Error codes (section 7).
pub mod code {
    /// An end in order.
    pub const NO_ERROR: u32 = 0x0;
    /// Unspecific.
    pub const PROTOCOL_ERROR: u32 = 0x1;
    /// The sender's own fault.
    pub const INTERNAL_ERROR: u32 = 0x2;
    /// A window was not kept to.
    pub const FLOW_CONTROL_ERROR: u32 = 0x3;
    /// SETTINGS were not acknowledged.
    pub const SETTINGS_TIMEOUT: u32 = 0x4;
    /// A frame after the stream's end.
    pub const STREAM_CLOSED: u32 = 0x5;
    /// A frame of a wrong size.
    pub const FRAME_SIZE_ERROR: u32 = 0x6;
    /// Nothing was done; may be repeated.
    pub const REFUSED_STREAM: u32 = 0x7;
    /// No longer needed.
    pub const CANCEL: u32 = 0x8;
    /// The HPACK state is lost.
    pub const COMPRESSION_ERROR: u32 = 0x9;
    /// The tunnel of a CONNECT failed.
    pub const CONNECT_ERROR: u32 = 0xa;
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: u32 = 0xb;
    /// TLS is too weak.
    pub const INADEQUATE_SECURITY: u32 = 0xc;
    /// HTTP/1.1 is wanted.
    pub const HTTP_1_1_REQUIRED: u32 = 0xd;
}

/// A frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// The stream, with the reserved bit if it is set.
    pub stream: u32,
    /// All after the header.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Any frame.
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// DATA.
    pub fn data(stream: u32, payload: impl Into<Vec<u8>>, end: bool) -> Self {
        Self::new(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, payload)
    }

    /// A whole header block in one HEADERS.
    pub fn headers(stream: u32, block: impl Into<Vec<u8>>, end: bool) -> Self {
        let end = if end { flag::END_STREAM } else { 0 };
        Self::new(kind::HEADERS, flag::END_HEADERS | end, stream, block)
    }

    /// CONTINUATION.
    pub fn continuation(stream: u32, block: impl Into<Vec<u8>>, last: bool) -> Self {
        Self::new(kind::CONTINUATION, if last { flag::END_HEADERS } else { 0 }, stream, block)
    }

    /// PRIORITY.
    pub fn priority(stream: u32, depends_on: u32, weight: u8) -> Self {
        let mut payload = depends_on.to_be_bytes().to_vec();
        payload.push(weight);
        Self::new(kind::PRIORITY, 0, stream, payload)
    }

    /// `RST_STREAM`.
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// SETTINGS.
    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let mut payload = Vec::with_capacity(settings.len() * 6);
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        Self::new(kind::SETTINGS, 0, 0, payload)
    }

    /// The acknowledgement of SETTINGS.
    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, [])
    }

    /// PING.
    pub fn ping(payload: [u8; 8]) -> Self {
        Self::new(kind::PING, 0, 0, payload)
    }

    /// GOAWAY.
    pub fn goaway(last: u32, code: u32) -> Self {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        Self::new(kind::GOAWAY, 0, 0, payload)
    }

    /// `WINDOW_UPDATE`.
    pub fn window(stream: u32, increment: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
    }

    /// The frame with `flags` set as well.
    #[must_use]
    pub fn flagged(mut self, flags: u8) -> Self {
        self.flags |= flags;
        self
    }

    /// The frame without `flags`.
    #[must_use]
    pub fn unflagged(mut self, flags: u8) -> Self {
        self.flags &= !flags;
        self
    }

    /// The frame with `pad` bytes of padding, said to be `said` (sections 6.1 and 6.2).
    #[must_use]
    pub fn padded(mut self, said: u8, pad: usize) -> Self {
        self.payload.insert(0, said);
        self.payload.resize(self.payload.len() + pad, 0);
        self.flagged(flag::PADDED)
    }

    /// Whether `flag` is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with_length(self.payload.len())
    }

    /// The bytes with another length in the header.
    pub fn bytes_with_length(&self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
        bytes.push(self.kind);
        bytes.push(self.flags);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The frame at the start of `bytes`, which is taken out; `None` if it is not all there.
    pub fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let (kind, flags) = (header[3], header[4]);
        let payload = bytes.get(HEADER..HEADER + length)?.to_vec();
        bytes.drain(..HEADER + length);
        Some(Self { kind, flags, stream, payload })
    }

    /// The number at `at` in the payload.
    #[track_caller]
    pub fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).unwrap_or_else(|| panic!("too short: {self:?}"));
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// The settings of a SETTINGS frame.
    #[track_caller]
    pub fn to_settings(&self) -> Vec<(u16, u32)> {
        assert_eq!(self.payload.len() % 6, 0, "{self:?}");
        let entry = |six: &[u8]| {
            let name = u16::from_be_bytes([six[0], six[1]]);
            (name, u32::from_be_bytes([six[2], six[3], six[4], six[5]]))
        };
        self.payload.chunks_exact(6).map(entry).collect()
    }

    /// The payload without padding and priority.
    #[track_caller]
    pub fn content(&self) -> &[u8] {
        let mut content = self.payload.as_slice();
        if matches!(self.kind, kind::DATA | kind::HEADERS) && self.has(flag::PADDED) {
            let (pad, rest) = content.split_first().expect("the length of the padding");
            let end = rest.len().checked_sub(usize::from(*pad)).expect("padding that fits");
            content = &rest[..end];
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            content = &content[5..];
        }
        content
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let name = NAMES.get(usize::from(self.kind)).copied().unwrap_or("unknown");
        write!(f, "{name}({}) flags {:#x} stream {}", self.kind, self.flags, self.stream)?;
        let shown = &self.payload[..self.payload.len().min(40)];
        write!(f, " [{}] {} bytes", shown.escape_ascii(), self.payload.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let frame = Frame::data(5, *b"hello", true).padded(3, 3);
        let mut bytes = [frame.bytes(), b"rest".to_vec()].concat();
        assert_eq!(bytes[..HEADER], [0, 0, 9, 0, 9, 0, 0, 0, 5]);
        assert_eq!(Frame::take(&mut bytes), Some(frame.clone()));
        assert_eq!((frame.content(), bytes.as_slice()), (b"hello".as_slice(), b"rest".as_slice()));
        assert_eq!(Frame::take(&mut bytes), None);
        let mut part = frame.bytes();
        part.pop();
        assert_eq!(Frame::take(&mut part), None);
        assert_eq!(part.len(), HEADER + 8);
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let settings = [(setting::MAX_FRAME_SIZE, 16_384), (setting::ENABLE_PUSH, 0)];
        assert_eq!(Frame::settings(&settings).to_settings(), settings);
    }
}
