//! What the gateway looks at in HTTP/2 beside the protocol itself.

use thiserror::Error;

/// Length of a client's connection preface (RFC 9113, section 3.4).
const PREFACE: u32 = 24;
/// Length of a frame's header (RFC 9113, section 4.1).
const HEADER: u8 = 9;

/// The client's connection preface.
pub const CLIENT_PREFACE: &[u8; PREFACE as usize] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether what a client says first is the beginning of HTTP/2; no request has the method. `None`:
/// that cannot be told before more of it is there. In HTTP/1.1 it would be a request line with a
/// version that does not exist, so it must not be read as that before it is known.
pub fn begins(bytes: &[u8]) -> Option<bool> {
    const TELLING: usize = b"PRI * HTTP/2.0\r\n\r\n".len();
    let telling = &CLIENT_PREFACE[..TELLING];
    if bytes.len() < TELLING && telling.starts_with(bytes) {
        return None;
    }
    Some(bytes.starts_with(telling))
}

/// What a peer does that nobody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Misuse {
    /// More frames that only cost than anybody has a use for (RFC 9113, section 10.5).
    #[error("a flood of frames that only cost")]
    Flood,
    /// A preface that does not go on with `SETTINGS` (RFC 9113, section 3.4).
    #[error("the preface has no SETTINGS")]
    Preface,
}

/// Counts frames that do no work: they are answered, or looked at, and change little. A peer may
/// send some of them at any time, and many over a long time, but not many at once.
///
/// It follows the stream of bytes by the lengths in the frames' headers, and looks at nothing else.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameMeter {
    /// Bytes of the preface or of a frame's payload that are still to come.
    skip: u32,
    /// The next frame is a client's first.
    first: bool,
    header: [u8; HEADER as usize],
    header_len: u8,
    /// `SETTINGS`, `PING`, `PRIORITY`, unknown types, and empty `DATA`, `HEADERS`, `CONTINUATION`.
    idle: u32,
    /// `RST_STREAM`.
    resets: u32,
    /// `WINDOW_UPDATE`.
    updates: u32,
}

impl FrameMeter {
    /// Most frames between two refills that do no work.
    pub const IDLE: u32 = 250;
    /// Most streams reset between two refills: beyond it they are opened to be reset
    /// (CVE-2023-44487).
    pub const RESETS: u32 = 250;
    /// Most window updates between two refills. There are two for each piece of data at the most.
    pub const UPDATES: u32 = 20_000;

    /// At the beginning of a connection. `preface`: it begins with a client's preface.
    pub fn new(preface: bool) -> Self {
        Self { skip: if preface { PREFACE } else { 0 }, first: preface, ..Self::default() }
    }

    /// Lets the peer begin anew; called once per tick.
    pub fn refill(&mut self) {
        (self.idle, self.resets, self.updates) = (0, 0, 0);
    }

    /// Whether anything was counted since the last refill.
    pub fn is_counting(&self) -> bool {
        self.idle + self.resets + self.updates > 0
    }

    /// Looks at the next bytes of the peer.
    pub fn see(&mut self, mut bytes: &[u8]) -> Result<(), Misuse> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let len = bytes.len().min(self.skip as usize);
                self.skip -= len as u32;
                bytes = &bytes[len..];
                continue;
            }
            let start = usize::from(self.header_len);
            let len = bytes.len().min(self.header.len() - start);
            self.header[start..start + len].copy_from_slice(&bytes[..len]);
            self.header_len += len as u8;
            bytes = &bytes[len..];
            if self.header_len == HEADER {
                self.header_len = 0;
                self.count()?;
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Misuse> {
        let [high, mid, low, kind, flags, ..] = self.header;
        self.skip = u32::from_be_bytes([0, high, mid, low]);
        if std::mem::take(&mut self.first) && kind != 4 {
            return Err(Misuse::Preface);
        }
        // END_STREAM on DATA says something even when it is empty.
        let ends = flags & 1 != 0;
        let (count, most) = match kind {
            3 => (&mut self.resets, Self::RESETS),
            8 => (&mut self.updates, Self::UPDATES),
            0 if self.skip > 0 || ends => return Ok(()),
            1 | 9 if self.skip > 0 => return Ok(()),
            // An acknowledgement answers what the gateway sent.
            4 | 6 if ends => return Ok(()),
            _ => (&mut self.idle, Self::IDLE),
        };
        *count += 1;
        if *count > most { Err(Misuse::Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let len = (payload as u32).to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        frame.resize(9 + payload, 4);
        frame
    }

    fn seen(frames: &[u8], split: usize) -> Result<(), Misuse> {
        let mut meter = FrameMeter::new(true);
        let first = frame(4, 1, 0);
        let all = [CLIENT_PREFACE.as_slice(), &first, frames].concat();
        all.chunks(split).try_for_each(|part| meter.see(part))
    }

    #[test]
    fn floods_are_seen_however_they_are_cut() {
        let cases = [
            (frame(6, 0, 8), FrameMeter::IDLE),
            (frame(4, 0, 0), FrameMeter::IDLE),
            (frame(2, 0, 5), FrameMeter::IDLE),
            (frame(0, 0, 0), FrameMeter::IDLE),
            (frame(9, 0, 0), FrameMeter::IDLE),
            (frame(0xfa, 0, 3), FrameMeter::IDLE),
            (frame(3, 0, 4), FrameMeter::RESETS),
            (frame(8, 0, 4), FrameMeter::UPDATES),
        ];
        for (frame, most) in cases {
            for split in [1, 7, 9, 1000] {
                assert_eq!(seen(&frame.repeat(most as usize), split), Ok(()), "{frame:?}");
                assert_eq!(
                    seen(&frame.repeat(most as usize + 1), split),
                    Err(Misuse::Flood),
                    "{frame:?}"
                );
            }
        }
    }

    #[test]
    fn work_is_no_flood() {
        let frames =
            [frame(0, 0, 1), frame(1, 4, 10), frame(0, 1, 0), frame(6, 1, 8), frame(4, 1, 0)];
        assert_eq!(seen(&frames.concat().repeat(10_000), 5000), Ok(()));
    }

    #[test]
    fn a_preface_is_told_from_a_request_however_it_is_cut() {
        for len in 0..CLIENT_PREFACE.len() {
            let known = begins(&CLIENT_PREFACE[..len]);
            assert_eq!(known, (len >= 18).then_some(true), "{len}");
        }
        for request in ["GET / HTTP/1.1\r\n", "P / ", "PRI * HTTP/1.1", "PRI * HTTP/2.0\r\nHost: a"]
        {
            assert_eq!(begins(request.as_bytes()), Some(false), "{request}");
        }
    }

    #[test]
    fn a_preface_has_settings() {
        let mut meter = FrameMeter::new(true);
        assert_eq!(meter.see(CLIENT_PREFACE), Ok(()));
        assert_eq!(meter.see(&frame(1, 4, 10)), Err(Misuse::Preface));
    }

    #[test]
    fn time_makes_good() {
        let mut meter = FrameMeter::new(false);
        for _ in 0..10 {
            assert_eq!(meter.see(&frame(6, 0, 8).repeat(FrameMeter::IDLE as usize)), Ok(()));
            meter.refill();
        }
    }
}
