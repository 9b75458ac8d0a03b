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
    match (whole, first) {
        (Ok(None), None) => Outcome::Incomplete,
        (Err(_), Some((_, Err(_)))) => Outcome::Refused,
        (Ok(Some((header, len))), Some((cut, verdict))) => {
            assert_eq!(verdict, whole, "{}", show(data));
            assert!(cut == len && len <= data.len() && len <= V2_BYTES_MAX, "{}", show(data));
            if let Header::Proxied { source, destination } = header {
                check_written(source, destination);
            }
            Outcome::Accepted
        }
        (whole, first) => panic!("{whole:?} but {first:?} in pieces: {}", show(data)),
    }
}

fn check_written(source: SocketAddr, destination: SocketAddr) {
    for version in [Version::V1, Version::V2] {
        let text = proxied(version, source, destination);
        let read = parse(text.as_bytes());
        let Ok(Some((Header::Proxied { source: from, destination: to }, len))) = read else {
            panic!("{read:?}: {}", show(text.as_bytes()));
        };
        assert_eq!(len, text.as_bytes().len());
        for (read, written) in [(from, source), (to, destination)] {
            assert_eq!(read.ip().to_canonical(), written.ip().to_canonical());
            assert_eq!(read.port(), written.port());
        }
    }
}
