//! Invariants of path normalisation.

use std::borrow::Cow;

use super::Outcome;
use super::model::show;
use crate::path::{normalize, split_query};

/// A normalised path has nothing left to normalise, and a path without escapes and odd segments is
/// its own normal form.
pub fn path(data: &[u8]) -> Outcome {
    // What a request head never has: see `HeadError::Target`.
    let is_target = matches!(data, [] | [b'/' | b'?', ..] | b"*")
        && !data.iter().any(|byte| matches!(byte, 0..=b' ' | 0x7f));
    if !is_target {
        return Outcome::Refused;
    }
    let (path, query) = split_query(data);
    assert!(path.len() + query.map_or(0, |query| query.len() + 1) <= data.len());
    assert!(!path.contains(&b'?') && !path.contains(&b'#'));
    let Ok(normal) = normalize(path) else {
        let is_dotted = path.windows(2).any(|pair| pair == b"..") || path.contains(&b'%');
        assert!(is_dotted, "refused without a reason: {}", show(path));
        return Outcome::Refused;
    };
    assert_eq!(normal.first(), Some(&b'/'), "{}", show(path));
    assert!(!normal.windows(2).any(|pair| pair == b"//"), "{}", show(&normal));
    assert!(!normal.contains(&0), "{}", show(&normal));
    let is_dots = |segment: &[u8]| segment == b"." || segment == b"..";
    assert!(!normal.split(|byte| *byte == b'/').any(is_dots), "{}", show(&normal));
    if let Cow::Borrowed(same) = &normal {
        assert_eq!(*same, path);
    }
    if !normal.contains(&b'%') {
        let again = normalize(&normal);
        assert_eq!(again.as_deref(), Ok(&*normal), "not stable: {}", show(path));
    }
    check_encoding_does_not_matter(path, &normal);
    Outcome::Accepted
}

/// Escaping every byte that may stand for itself changes nothing.
fn check_encoding_does_not_matter(path: &[u8], normal: &[u8]) {
    let mut escaped = Vec::with_capacity(path.len() * 3);
    let mut in_escape = 0;
    for (at, byte) in path.iter().enumerate() {
        if *byte == b'%' {
            in_escape = 3;
        }
        if in_escape > 0 || at == 0 {
            escaped.push(*byte);
        } else {
            escaped.extend_from_slice(format!("%{byte:02x}").as_bytes());
        }
        in_escape = u8::saturating_sub(in_escape, 1);
    }
    if path.first() == Some(&b'/') {
        let again = normalize(&escaped);
        assert_eq!(again.as_deref(), Ok(normal), "escaped: {}", show(&escaped));
    }
}
