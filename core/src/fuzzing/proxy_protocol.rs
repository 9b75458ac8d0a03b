//! Invariants of PROXY protocol headers.

use std::net::SocketAddr;

use super::Outcome;
use super::model::show;
use crate::proxy_protocol::{Header, V2_BYTES_MAX, Version, parse, proxied};

/// The verdict does not depend on how the bytes arrive; a header is never longer than it may be;
/// what it says can be written and read again.
pub fn proxy_protocol(data: &[u8]) -> Outcome {
    let whole = parse(data);
    let first = (0..=data.len()).find_map(|cut| match parse(&data[..cut]) {
        Ok(None) => None,
        verdict => Some((cut, verdict)),
    });
    let Some((cut, verdict)) = first else {
        assert_eq!(whole, Ok(None), "nothing in pieces: {}", show(data));
        return Outcome::Incomplete;
    };
    let Ok(Some((header, len))) = whole else {
        assert!(whole.is_err() && verdict.is_err(), "{whole:?}, {verdict:?}: {}", show(data));
        return Outcome::Refused;
    };
    assert_eq!(verdict, whole, "{}", show(data));
    assert!(cut == len && len <= data.len() && len <= V2_BYTES_MAX, "{}", show(data));
    if let Header::Proxied { source, destination } = header {
        check_written(source, destination);
    }
    Outcome::Accepted
}

fn check_written(source: SocketAddr, destination: SocketAddr) {
    for version in [Version::V1, Version::V2] {
        let text = proxied(version, source, destination);
        let pair = |source: SocketAddr, destination: SocketAddr| {
            let ips = (source.ip().to_canonical(), destination.ip().to_canonical());
            (ips, source.port(), destination.port())
        };
        let read = parse(text.as_bytes()).map(|found| match found {
            Some((Header::Proxied { source, destination }, len)) => {
                Some((pair(source, destination), len))
            }
            _ => None,
        });
        assert_eq!(read, Ok(Some((pair(source, destination), text.as_bytes().len()))));
    }
}
