use super::*;

fn proxied_header(source: &str, destination: &str) -> Header {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Header::Proxied { source, destination }
}

/// The verdict, which must not depend on what follows, nor on how the header arrives.
fn read(header: &[u8]) -> Result<Option<Header>, HeaderError> {
    let whole = parse(header);
    let followed = parse(&[header, b"GET / HTTP/1.1\r\n\r\n"].concat());
    if matches!(whole, Ok(Some(_))) {
        assert_eq!(whole, followed);
    }
    let first = (0..=header.len()).find_map(|cut| match parse(&header[..cut]) {
        Ok(None) => None,
        verdict => Some((verdict, cut)),
    });
    match (whole, first) {
        (Ok(Some((_, len))), Some((verdict, cut))) => assert_eq!((verdict, cut), (whole, len)),
        (verdict, first) => assert_eq!(verdict.is_err(), first.is_some_and(|(v, _)| v.is_err())),
    }
    whole.map(|found| found.map(|(header, _)| header))
}

fn v2(kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&V2_SIGNATURE[..], &kind, &len, payload].concat()
}

const V4_PAYLOAD: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 80];

#[test]
fn version_1_in_all_forms() {
    let four = proxied_header("192.0.2.1:56324", "192.0.2.2:443");
    assert_eq!(read(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"), Ok(Some(four)));
    let six = proxied_header("[2001:db8::1]:0", "[::ffff:192.0.2.2]:65535");
    assert_eq!(read(b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 0 65535\r\n"), Ok(Some(six)));
    let long = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let six = proxied_header(&format!("[{long}]:65535"), &format!("[{long}]:65535"));
    assert_eq!(read(format!("PROXY TCP6 {long} {long} 65535 65535\r\n").as_bytes()), Ok(Some(six)));
    assert_eq!(read(b"PROXY UNKNOWN\r\n"), Ok(Some(Header::Local)));
    let most = format!("PROXY UNKNOWN {long} {long} 65535 65535\r\n");
    assert_eq!((read(most.as_bytes()), most.len()), (Ok(Some(Header::Local)), V1_BYTES_MAX));
}

#[test]
fn version_1_is_read_strictly() {
    for line in [
        "TCP4 192.0.2.1 192.0.2.2 56324\r\n",
        "TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n",
        "TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
        "TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
        "TCP4 192.0.2.01 192.0.2.2 56324 443\r\n",
        "TCP4 192.0.2.1 192.0.2.2 056324 443\r\n",
        "TCP4 192.0.2.1 192.0.2.2 56324 +443\r\n",
        "TCP4 192.0.2.1 192.0.2.2 56324 65536\r\n",
        "TCP4 192.0.2.1 192.0.2.2 56324 443\n",
        "TCP4 ::1 ::1 1 2\r\n",
        "TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "UNKNOWNS\r\n",
        "\u{e9}\r\n",
        "\r\n",
    ] {
        assert_eq!(read(format!("PROXY {line}").as_bytes()), Err(HeaderError::Line), "{line}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(93));
    assert_eq!(read(&endless.as_bytes()[..106]), Ok(None));
    assert_eq!(read(endless.as_bytes()), Err(HeaderError::TooLong));
    for other in ["GET / HTTP/1.1\r\n", "PROXZ", "\r\n\r\nGET", "\u{16}\u{3}\u{1}"] {
        assert_eq!(read(other.as_bytes()), Err(HeaderError::Missing), "{other}");
    }
    assert_eq!(read(b""), Ok(None));
}

#[test]
fn version_2_in_all_forms() {
    let four = proxied_header("192.0.2.1:12345", "192.0.2.2:80");
    assert_eq!(read(&v2([0x21, 0x11], &V4_PAYLOAD)), Ok(Some(four)));
    let tlvs = [&V4_PAYLOAD[..], &[4, 0, 0, 0x20, 0, 3, 1, 2, 3]].concat();
    assert_eq!(read(&v2([0x21, 0x11], &tlvs)), Ok(Some(four)));
    let mut payload = [0; 36];
    payload[15] = 1;
    payload[31] = 2;
    payload[33] = 7;
    let six = proxied_header("[::1]:7", "[::2]:0");
    assert_eq!(read(&v2([0x21, 0x21], &payload)), Ok(Some(six)));
    for (kind, payload) in [
        ([0x20, 0x00], &[][..]),
        ([0x20, 0x11], &V4_PAYLOAD),
        ([0x20, 0x11], &[1, 2, 3]),
        ([0x21, 0x00], &[]),
        ([0x21, 0x00], &[1, 2]),
        ([0x21, 0x31], &[b'/'; 216]),
        ([0x21, 0x12], &V4_PAYLOAD),
        ([0x21, 0x10], &V4_PAYLOAD),
    ] {
        assert_eq!(read(&v2(kind, payload)), Ok(Some(Header::Local)), "{kind:?}");
    }
}

#[test]
fn version_2_is_read_strictly() {
    for kind in [[0x11, 0x11], [0x31, 0x11], [0x22, 0x11], [0x21, 0x41], [0x21, 0x13]] {
        assert_eq!(read(&v2(kind, &V4_PAYLOAD)), Err(HeaderError::Kind), "{kind:?}");
    }
    for (kind, payload) in [
        ([0x21, 0x11], &V4_PAYLOAD[..11]),
        ([0x21, 0x21], &V4_PAYLOAD),
        ([0x21, 0x31], &[0; 215]),
        ([0x21, 0x11], &[&V4_PAYLOAD[..], &[4]].concat()),
        ([0x21, 0x11], &[&V4_PAYLOAD[..], &[4, 0, 1]].concat()),
        ([0x21, 0x11], &[&V4_PAYLOAD[..], &[4, 0xff, 0xff, 1]].concat()),
    ] {
        assert_eq!(read(&v2(kind, payload)), Err(HeaderError::Lengths), "{kind:?}");
    }
    let most = V2_BYTES_MAX - V2_PREFIX;
    assert_eq!(read(&v2([0x20, 0], &vec![0; most])), Ok(Some(Header::Local)));
    assert_eq!(read(&v2([0x20, 0], &vec![0; most + 1])), Err(HeaderError::TooLong));
    assert_eq!(read(&V2_SIGNATURE), Ok(None));
}

#[test]
fn headers_are_written_as_the_specification_has_them() {
    let text = |source: &str, destination: &str| {
        let text = proxied(Version::V1, source.parse().unwrap(), destination.parse().unwrap());
        String::from_utf8(text.as_bytes().to_vec()).unwrap()
    };
    assert_eq!(text("192.0.2.1:1", "192.0.2.2:80"), "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n");
    assert_eq!(text("[::1]:1", "127.0.0.1:80"), "PROXY TCP6 ::1 ::ffff:127.0.0.1 1 80\r\n");
    assert_eq!(
        text("[::ffff:192.0.2.1]:1", "192.0.2.2:80"),
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n"
    );
    let (source, destination) = ("192.0.2.1:12345", "192.0.2.2:80");
    let binary = proxied(Version::V2, source.parse().unwrap(), destination.parse().unwrap());
    assert_eq!(binary.as_bytes(), v2([0x21, 0x11], &V4_PAYLOAD));
    for version in [Version::V1, Version::V2] {
        assert_eq!(read(local(version).as_bytes()), Ok(Some(Header::Local)));
    }
}
