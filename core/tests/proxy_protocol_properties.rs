//! PROXY protocol headers: what is written is read, and whatever else is sent is survived.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::net::{IpAddr, SocketAddr};

use osmia_core::fuzzing::{self, Outcome};
use osmia_core::proxy_protocol::{Header, Version, parse, proxied};
use proptest::prelude::*;

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

/// Nearly a header: a signature, then anything.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let line = "(TCP4|TCP6|UNKNOWN)( [0-9a-f.:]{1,12}){0,5}\r?\n?.{0,40}";
    prop_oneof![
        any::<Vec<u8>>(),
        line.prop_map(|line| format!("PROXY {line}").into_bytes()),
        (
            prop::sample::select(&[0x20_u8, 0x21, 0x22, 0x11][..]),
            0_u8..0x50,
            0_u16..60,
            any::<[u8; 60]>()
        )
            .prop_map(|(version, kind, len, rest)| {
                let start = b"\r\n\r\n\0\r\nQUIT\n";
                [&start[..], &[version, kind], &len.to_be_bytes(), &rest].concat()
            }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        source in address(),
        destination in address(),
        v2: bool,
        rest: Vec<u8>,
    ) {
        let version = if v2 { Version::V2 } else { Version::V1 };
        let header = proxied(version, source, destination);
        let bytes = [header.as_bytes(), &rest].concat();
        let Ok(Some((Header::Proxied { source: from, destination: to }, len))) = parse(&bytes) else {
            panic!("{:?}", parse(&bytes));
        };
        prop_assert_eq!(len, header.as_bytes().len());
        prop_assert_eq!((from.ip().to_canonical(), from.port()), (source.ip().to_canonical(), source.port()));
        prop_assert_eq!((to.ip().to_canonical(), to.port()), (destination.ip().to_canonical(), destination.port()));
        prop_assert_eq!(fuzzing::proxy_protocol(&bytes), Outcome::Accepted);
    }

    #[test]
    fn no_bytes_break_it(bytes in nearly()) {
        fuzzing::proxy_protocol(&bytes);
    }
}
