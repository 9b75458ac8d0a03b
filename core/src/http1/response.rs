//! Response heads from upstreams (RFC 9112, section 4).

use std::mem::MaybeUninit;

use super::body::BodyLength;
use super::error::HeadError;
use super::fields::{self, ConnectionOptions, Field, Known};
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
    /// Whether `Connection` names fields of this message.
    pub(super) names_fields: bool,
    searched: usize,
}

impl ResponseHead {
    /// Parses the head at the start of `buf`; `Ok(false)`: not complete yet.
    pub fn parse(
        &mut self,
        buf: &[u8],
        asked: Asked,
        limits: &HttpLimits,
    ) -> Result<bool, HeadError> {
        if self.searched > 0 && !fields::has_head_end(buf, self.searched) {
            return self.incomplete(buf, limits);
        }
        let window = &buf[..buf.len().min(limits.head_bytes)];
        let mut slots = [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX];
        let mut response = httparse::Response::new(&mut []);
        let slots = &mut slots[..limits.header_count.min(HEADER_COUNT_MAX)];
        let config = httparse::ParserConfig::default();
        let parsed =
            config.parse_response_with_uninit_headers(&mut response, window, slots);
        let len = match parsed {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return self.incomplete(buf, limits),
            Err(error) => return Err(fields::map_error(error)),
        };
        // `httparse` skips empty lines before the status line; the status line is then not where
        // the writer copies it from.
        if !buf.starts_with(b"HTTP/") {
            return Err(HeadError::StartLine);
        }
        self.len = len;
        self.http11 = response.version == Some(1);
        self.status = response.code.unwrap_or_default();
        fields::collect(buf, response.headers, &mut self.fields);
        fields::check_line_ends(&buf[..len])?;
        self.interpret(buf, asked)?;
        Ok(true)
    }

    /// Forgets the message, keeping the allocation.
    pub fn reset(&mut self) {
        self.searched = 0;
        self.len = 0;
        self.fields.clear();
    }

    /// Whether a final response follows this one.
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    fn incomplete(&mut self, buf: &[u8], limits: &HttpLimits) -> Result<bool, HeadError> {
        self.searched = buf.len();
        if buf.len() >= limits.head_bytes {
            return Err(HeadError::HeadTooLarge);
        }
        Ok(false)
    }

    fn interpret(&mut self, buf: &[u8], asked: Asked) -> Result<(), HeadError> {
        let mut length = None;
        let mut chunked = false;
        let mut has_upgrade = false;
        let mut connection = ConnectionOptions::default();
        self.has_date = false;
        for field in &self.fields {
            let value = field.value.get(buf);
            match field.known {
                Known::ContentLength => {
                    if length.replace(fields::content_length(value)?).is_some() {
                        return Err(HeadError::RepeatedContentLength);
                    }
                }
                Known::TransferEncoding => {
                    if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(HeadError::UnsupportedEncoding);
                    }
                    chunked = true;
                }
                Known::Connection => connection.add(value),
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
        self.keep_alive = !connection.close
            && (self.http11 || connection.keep_alive)
            && self.body != BodyLength::UntilClose;
        self.names_fields = connection.names_fields;
        Ok(())
    }

    /// The value of the first field called `name` (lower-case).
    pub fn value<'a>(&'a self, buf: &'a [u8], name: &'a str) -> Option<&'a [u8]> {
        fields::values(&self.fields, buf, name).next()
    }
}
