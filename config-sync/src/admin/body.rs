//! Request bodies: read up to a limit, parsed as JSON.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::reply::Reply;

/// How much of a body that is too large is still read and thrown away, so that the client is there
/// to read why: times the limit.
const DRAIN: usize = 8;

/// Reads the body; `None` when there is none.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Option<Vec<u8>>, Reply> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok())
        .unwrap_or(0);
    // Nothing of it is on its way yet: the client waits to be told.
    if announced > limit && headers.contains_key(header::EXPECT) {
        return Err(too_large(announced, limit));
    }
    let mut bytes = Vec::with_capacity(announced.min(limit));
    let mut size = 0usize;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| refused(&error.to_string()))?;
        size = size.saturating_add(chunk.len());
        if size.max(announced) <= limit {
            bytes.extend_from_slice(&chunk);
        } else if size > limit.saturating_mul(DRAIN) {
            break;
        }
    }
    let size = size.max(announced);
    if size > limit {
        return Err(too_large(size, limit));
    }
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

fn too_large(size: usize, limit: usize) -> Reply {
    refused(&format!("request size {size} is greater than the maximum size {limit} allowed"))
}

/// Parses JSON. Nesting is bounded by the parser, a name that occurs twice counts once, the last.
/// As APISIX's parser does, it takes line breaks and the like inside strings as they are: people
/// paste whole proto files and certificates.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Reply> {
    let strict = serde_json::from_slice(bytes);
    let value = strict.or_else(|error| match escape_controls(bytes) {
        Some(escaped) => serde_json::from_slice(&escaped),
        None => Err(error),
    });
    value.map_err(|error| {
        let echo = String::from_utf8_lossy(bytes);
        let message = format!("invalid request body: {error}");
        Reply::json(StatusCode::BAD_REQUEST, &json!({ "error_msg": message, "req_body": echo }))
    })
}

/// The text with the control characters inside its strings escaped; `None` when there are none.
fn escape_controls(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut escaped = Vec::with_capacity(bytes.len() + 64);
    let (mut in_string, mut after_backslash, mut found) = (false, false, false);
    for byte in bytes {
        if in_string && *byte < b' ' {
            if after_backslash {
                return None;
            }
            escaped.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
            found = true;
            continue;
        }
        if *byte == b'"' && !after_backslash {
            in_string = !in_string;
        }
        after_backslash = in_string && *byte == b'\\' && !after_backslash;
        escaped.push(*byte);
    }
    found.then_some(escaped)
}

/// A body that cannot be used.
pub(crate) fn refused(reason: &str) -> Reply {
    Reply::bad(format!("invalid request body: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_inside_strings_are_taken_as_they_are() {
        let text = b"{\"a\tb\": \"line\nnext \\\" \\\\\",\n \"c\": 1}";
        assert_eq!(parse(text).unwrap(), json!({"a\tb": "line\nnext \" \\", "c": 1}));
        for bad in ["{\"a\": 1,}", "{\"a\n", "[\u{1}]", "", "{\"a\": \"\\\n\"}"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
