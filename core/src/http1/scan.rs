//! The byte-wise judge of heads that come in pieces, or are wrong.
//!
//! `httparse` reads a head in one go, and tells little about why it refuses one. Run again for
//! each piece, it would read a slow head over and over; not run again, it would leave a wrong head
//! unanswered until its end or a limit. [`Scan`] looks at each byte once and keeps its place from
//! call to call. The verdict on a refused head is always its own: it is decided by the first byte
//! that breaks a rule or a limit, so that it does not depend on how the bytes were cut.
//!
//! **Invariant:** a head is accepted by `httparse`, never by the scan alone; where they disagree,
//! it is refused. The fuzz targets hold that they do not.

use super::error::HeadError;
use super::fields::{count_limit, head_window, is_text_byte, is_token_byte};
use crate::limits::HttpLimits;

/// Which start line to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Before the start line; a request may have empty lines here (RFC 9112, section 2.2).
    #[default]
    Start,
    EmptyLineLf,
    Method,
    Target,
    Version,
    VersionEnd,
    Status,
    StatusEnd,
    Reason,
    StartLineLf,
    LineStart,
    Name,
    Value,
    ValueLf,
    EndLf,
    Done,
}

/// How far a head has been looked at, and what was seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    state: State,
    /// Offset of the next byte.
    at: u16,
    /// Offset of the start line.
    line: u16,
    /// Offset of the current part of the start line.
    part: u16,
    /// Fields begun so far.
    fields: u16,
}

impl Scan {
    /// Whether part of a head was seen.
    pub(super) fn has_begun(&self) -> bool {
        self.at > 0
    }

    /// Bytes looked at so far.
    #[cfg(test)]
    pub(super) fn offset(&self) -> usize {
        usize::from(self.at)
    }

    /// Looks at what is new in `buf`, which begins with the head. `Ok(true)`: the head has ended.
    pub(super) fn advance(
        &mut self,
        kind: Kind,
        buf: &[u8],
        limits: &HttpLimits,
    ) -> Result<bool, HeadError> {
        let (window, is_full) = head_window(buf, limits);
        while self.state != State::Done {
            let Some(byte) = window.get(usize::from(self.at)) else {
                return if is_full { Err(HeadError::HeadTooLarge) } else { Ok(false) };
            };
            self.state = self.step(kind, *byte, window, limits)?;
            self.at += 1;
            if self.state == State::Value {
                self.skip_value(window);
            }
        }
        Ok(true)
    }

    fn skip_value(&mut self, window: &[u8]) {
        let rest = window.get(usize::from(self.at)..).unwrap_or_default();
        let run = rest.iter().position(|byte| !is_text_byte(*byte)).unwrap_or(rest.len());
        self.at += run as u16;
    }

    fn step(
        &mut self,
        kind: Kind,
        byte: u8,
        window: &[u8],
        limits: &HttpLimits,
    ) -> Result<State, HeadError> {
        match self.state {
            State::Start | State::EmptyLineLf => self.step_before(kind, byte, limits),
            State::Method | State::Target | State::Version | State::VersionEnd => {
                if kind == Kind::Request && byte != b'\r' {
                    self.check_line_length(limits)?;
                }
                self.step_start_line(kind, byte, window)
            }
            State::Status | State::StatusEnd | State::Reason => self.step_status(byte),
            State::StartLineLf | State::ValueLf => after_cr(byte, State::LineStart),
            State::LineStart | State::Name | State::Value => self.step_field(byte, limits),
            State::EndLf => after_cr(byte, State::Done),
            State::Done => Ok(State::Done),
        }
    }

    fn step_before(
        &mut self,
        kind: Kind,
        byte: u8,
        limits: &HttpLimits,
    ) -> Result<State, HeadError> {
        (self.line, self.part) = (self.at, self.at);
        match (self.state, kind, byte) {
            (State::EmptyLineLf, _, _) => after_cr(byte, State::Start),
            (_, Kind::Request, b'\r') => Ok(State::EmptyLineLf),
            (_, Kind::Request, b'\n') => Err(HeadError::BareLineEnd),
            (_, Kind::Request, _) if is_token_byte(byte) => {
                self.check_line_length(limits)?;
                Ok(State::Method)
            }
            (_, Kind::Response, b'H') => Ok(State::Version),
            _ => Err(HeadError::StartLine),
        }
    }

    /// The request line may have `limit` bytes, without its CRLF.
    fn check_line_length(&self, limits: &HttpLimits) -> Result<(), HeadError> {
        if usize::from(self.at - self.line) >= limits.request_line_bytes {
            return Err(HeadError::RequestLineTooLong);
        }
        Ok(())
    }

    fn step_start_line(&mut self, kind: Kind, byte: u8, window: &[u8]) -> Result<State, HeadError> {
        match (self.state, byte) {
            (State::Method, b' ') => Ok(self.next_part(State::Target)),
            (State::Method, _) if is_token_byte(byte) => Ok(State::Method),
            (State::Target, b' ') => {
                let target = &window[usize::from(self.part)..usize::from(self.at)];
                if target.is_empty() {
                    return Err(HeadError::StartLine);
                }
                // Latin-1 and UTF-8 readers would match another path.
                std::str::from_utf8(target).map_err(|_| HeadError::Target)?;
                Ok(self.next_part(State::Version))
            }
            (State::Target, b'\r' | b'\n') => Err(HeadError::StartLine),
            (State::Target, b'!'..=b'~' | 0x80..) => Ok(State::Target),
            (State::Target, _) => Err(HeadError::Target),
            (State::Version, _) => self.step_version(byte, window),
            (State::VersionEnd, b'\r') if kind == Kind::Request => Ok(State::StartLineLf),
            (State::VersionEnd, b'\n') if kind == Kind::Request => Err(HeadError::BareLineEnd),
            (State::VersionEnd, b' ') if kind == Kind::Response => {
                Ok(self.next_part(State::Status))
            }
            _ => Err(HeadError::StartLine),
        }
    }

    /// `HTTP/` DIGIT `.` DIGIT. Another version is told apart from something else.
    fn step_version(&mut self, byte: u8, window: &[u8]) -> Result<State, HeadError> {
        let index = usize::from(self.at - self.part);
        let matches = match index {
            0..=4 => byte == b"HTTP/"[index],
            6 => byte == b'.',
            _ => byte.is_ascii_digit(),
        };
        if !matches {
            return Err(HeadError::StartLine);
        }
        if index < 7 {
            return Ok(State::Version);
        }
        match &window[usize::from(self.part)..=usize::from(self.at)] {
            b"HTTP/1.0" | b"HTTP/1.1" => Ok(State::VersionEnd),
            _ => Err(HeadError::Version),
        }
    }

    fn step_status(&mut self, byte: u8) -> Result<State, HeadError> {
        match (self.state, byte) {
            (State::Status, b'0'..=b'9') if self.at - self.part == 2 => Ok(State::StatusEnd),
            (State::Status, b'0'..=b'9') => Ok(State::Status),
            (State::StatusEnd, b' ') => Ok(State::Reason),
            (State::StatusEnd | State::Reason, b'\r') => Ok(State::StartLineLf),
            (State::StatusEnd | State::Reason, b'\n') => Err(HeadError::BareLineEnd),
            (State::Reason, _) if is_text_byte(byte) => Ok(State::Reason),
            _ => Err(HeadError::StartLine),
        }
    }

    fn step_field(&mut self, byte: u8, limits: &HttpLimits) -> Result<State, HeadError> {
        match (self.state, byte) {
            (State::LineStart, b'\r') => Ok(State::EndLf),
            (State::LineStart | State::Value, b'\n') => Err(HeadError::BareLineEnd),
            (State::LineStart, b' ' | b'\t') => Err(HeadError::FoldedLine),
            (State::LineStart, _) if is_token_byte(byte) => {
                if usize::from(self.fields) >= count_limit(limits) {
                    return Err(HeadError::TooManyFields);
                }
                self.fields += 1;
                Ok(State::Name)
            }
            (State::Name, _) if is_token_byte(byte) => Ok(State::Name),
            (State::Name, b':') => Ok(State::Value),
            (State::Value, b'\r') => Ok(State::ValueLf),
            (State::Value, _) if is_text_byte(byte) => Ok(State::Value),
            (State::Value, _) => Err(HeadError::FieldValue),
            _ => Err(HeadError::FieldName),
        }
    }

    fn next_part(&mut self, state: State) -> State {
        self.part = self.at + 1;
        state
    }
}

fn after_cr(byte: u8, next: State) -> Result<State, HeadError> {
    if byte == b'\n' { Ok(next) } else { Err(HeadError::BareLineEnd) }
}
