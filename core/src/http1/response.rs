//! Response heads from upstreams (RFC 9112, section 4).

use std::mem::MaybeUninit;

use super::body::BodyLength;
use super::error::HeadError;
use super::fields::{self, ConnectionOptions, Field, Known};
use super::scan::{Kind, Scan};
use crate::limits::{HEADER_COUNT_MAX, HttpLimits};

/// What of the request decides how its response is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// The method was `HEAD`.
    pub head: bool,
    /// The request asked for an Upgrade.
    pub upgrade: bool,
}

/// A parsed response head: offsets into the buffer it was parsed from.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// Bytes of the head, including the empty line.
    pub len: usize,
    /// 100-599.
    pub status: u16,
    /// HTTP/1.1, not 1.0.
    pub http11: bool,
    /// All fields in order.
    pub fields: Vec<Field>,
    /// How the body is delimited.
    pub body: BodyLength,
    /// Whether the upstream keeps the connection.
    pub keep_alive: bool,
    /// Whether a `Date` is there.
    pub has_date: bool,
    /// Whether framing fields are to be written anew, see [`fields::is_plain_framing`].
    pub(super) odd_framing: bool,
    /// Place in a head that is not complete.
    scan: Scan,
}

impl ResponseHead {
    /// Parses the head at the start of `buf`; `Ok(false)`: not complete yet.
    ///
    /// As for a request, the verdict does not depend on how the bytes were cut.
    pub fn parse(
        &mut self,
        buf: &[u8],
        asked: Asked,
        limits: &HttpLimits,
    ) -> Result<bool, HeadError> {
        if self.scan.has_begun() && !self.scan.advance(Kind::Response, buf, limits)? {
            return Ok(false);
        }
        if !self.read(buf, limits) {
            let ended = self.scan.advance(Kind::Response, buf, limits)?;
            debug_assert!(!ended, "httparse refuses what the scan accepts");
            return if ended { Err(HeadError::StartLine) } else { Ok(false) };
        }
        self.interpret(buf, asked)?;
        Ok(true)
    }

    /// Forgets the message, keeping the allocation.
    pub fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Reads a complete head within its limits. `false`: it is none, which leaves the reason open.
    fn read(&mut self, buf: &[u8], limits: &HttpLimits) -> bool {
        let (window, _) = fields::head_window(buf, limits);
        let mut slots = [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX];
        let slots = &mut slots[..fields::count_limit(limits)];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, window, slots);
        let Ok(httparse::Status::Complete(len)) = parsed else {
            return false;
        };
        self.len = len;
        self.http11 = response.version == Some(1);
        self.status = response.code.unwrap_or_default();
        let strict = fields::collect(&buf[..len], response.headers, &mut self.fields);
        // `httparse` skips empty lines before the status line; none belong there.
        strict && buf.starts_with(b"HTTP/")
    }

    /// Whether a final response follows this one.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    fn interpret(&mut self, buf: &[u8], asked: Asked) -> Result<(), HeadError> {
        let mut length = None;
        let mut chunked = false;
        let mut has_upgrade = false;
        let mut connection = ConnectionOptions::default();
        self.has_date = false;
        self.odd_framing = false;
        for field in &self.fields {
            let value = field.value.get(buf);
            match field.known {
                Known::ContentLength => {
                    if length.replace(fields::content_length(value)?).is_some() {
                        return Err(HeadError::RepeatedContentLength);
                    }
                    self.odd_framing |= !fields::is_plain_framing(field, buf);
                }
                Known::TransferEncoding => {
                    fields::transfer_encoding(value, chunked)?;
                    chunked = true;
                    self.odd_framing |= !fields::is_plain_framing(field, buf);
                }
                Known::Connection => connection.add(value)?,
                Known::Upgrade => has_upgrade = true,
                Known::Date => self.has_date = true,
                _ => {}
            }
        }
        if chunked && !self.http11 {
            return Err(HeadError::EncodingInHttp10);
        }
        if chunked && length.is_some() {
            return Err(HeadError::LengthAndEncoding);
        }
        if !(100..600).contains(&self.status) {
            return Err(HeadError::UnexpectedStatus);
        }
        if self.status == 101 && !(asked.upgrade && connection.upgrade && has_upgrade) {
            return Err(HeadError::UnexpectedStatus);
        }
        self.body = match self.status {
            _ if asked.head => BodyLength::Known(0),
            100..200 | 204 | 304 => BodyLength::Known(0),
            _ if chunked => BodyLength::Chunked,
            _ => length.map_or(BodyLength::UntilClose, BodyLength::Known),
        };
        // A server that frames a body where none may be might send one: it would be taken for the
        // next response.
        let announces_body = chunked || length.is_some_and(|length| length > 0);
        self.keep_alive = !connection.close
            && (self.http11 || connection.keep_alive)
            && self.body != BodyLength::UntilClose
            && !(announces_body && self.forbids_framing());
        if connection.named > 0 {
            fields::mark_named(&mut self.fields, buf);
            self.has_date = self.fields.iter().any(|field| field.known == Known::Date);
        }
        Ok(())
    }

    /// Whether the status has no body and no framing fields either (RFC 9110, section 8.6; RFC
    /// 9112, section 6.1).
    pub(super) fn forbids_framing(&self) -> bool {
        self.status < 200 || self.status == 204
    }

    /// The value of the first field called `name` (lower-case).
    pub fn value<'a>(&'a self, buf: &'a [u8], name: &'a str) -> Option<&'a [u8]> {
        fields::values(&self.fields, buf, name).next()
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
