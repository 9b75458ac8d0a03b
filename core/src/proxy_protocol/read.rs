//! Reading a header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Header, HeaderError, V1_BYTES_MAX, V2_BYTES_MAX, V2_PREFIX, V2_SIGNATURE};

const V1_SIGNATURE: &[u8] = b"PROXY ";

/// Looks at the beginning of a connection: the header and its length, or `None` when more is
/// needed to tell. The verdict does not depend on how much more than the header is there.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    if begins(bytes, V1_SIGNATURE) {
        if bytes.len() < V1_SIGNATURE.len() { Ok(None) } else { v1(bytes) }
    } else if begins(bytes, &V2_SIGNATURE) {
        if bytes.len() < V2_PREFIX { Ok(None) } else { v2(bytes) }
    } else {
        Err(HeaderError::Missing)
    }
}

/// Whether `bytes` are the beginning of `signature`, or the other way round.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(found, wanted)| found == wanted)
}

fn v1(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    let window = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        let too_long = window.len() == V1_BYTES_MAX;
        return if too_long { Err(HeaderError::TooLong) } else { Ok(None) };
    };
    let line = window.get(V1_SIGNATURE.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| str::from_utf8(line).ok()).ok_or(HeaderError::Line)?;
    let header = v1_line(line).ok_or(HeaderError::Line)?;
    Ok(Some((header, end + 1)))
}

/// The line after `PROXY `.
fn v1_line(line: &str) -> Option<Header> {
    // Whatever follows UNKNOWN is to be ignored.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Header::Local);
    }
    let mut words = line.split(' ');
    let mut next = || words.next();
    let (source, destination) = match next()? {
        "TCP4" => (ip::<Ipv4Addr>(next()?)?, ip::<Ipv4Addr>(next()?)?),
        "TCP6" => (ip::<Ipv6Addr>(next()?)?, ip::<Ipv6Addr>(next()?)?),
        _ => return None,
    };
    let (from, to) = (port(next()?)?, port(next()?)?);
    next().is_none().then(|| Header::Proxied {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

fn ip<T: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(Into::into)
}

/// Decimal digits without superfluous zeros.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && plain)
}

/// What the second half of the 13th byte says.
const LOCAL: u8 = 0;
const PROXY: u8 = 1;

/// Families and transports (section 2.2).
const UNSPEC: u8 = 0;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

fn v2(bytes: &[u8]) -> Result<Option<(Header, usize)>, HeaderError> {
    let [version, kind, high, low] = bytes[V2_SIGNATURE.len()..V2_PREFIX] else {
        return Ok(None);
    };
    let (family, transport) = (kind >> 4, kind & 0x0f);
    let command = version & 0x0f;
    if version >> 4 != 2 || command > PROXY || family > UNIX || transport > DATAGRAM {
        return Err(HeaderError::Kind);
    }
    let total = V2_PREFIX + usize::from(u16::from_be_bytes([high, low]));
    if total > V2_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let addresses = match family {
        INET => 12,
        INET6 => 36,
        UNIX => 216,
        _ => 0,
    };
    // What follows LOCAL is to be ignored, whatever it is.
    if command == PROXY && total - V2_PREFIX < addresses {
        return Err(HeaderError::Lengths);
    }
    let Some(payload) = bytes.get(V2_PREFIX..total) else { return Ok(None) };
    if command == LOCAL {
        return Ok(Some((Header::Local, total)));
    }
    let (addresses, tlvs) = payload.split_at(addresses);
    if family != UNSPEC && !are_tlvs(tlvs) {
        return Err(HeaderError::Lengths);
    }
    let pair = match family {
        INET => pair::<4>(addresses),
        INET6 => pair::<16>(addresses),
        _ => None,
    };
    let header = match pair.filter(|_| transport == STREAM) {
        Some((source, destination)) => Header::Proxied { source, destination },
        None => Header::Local,
    };
    Ok(Some((header, total)))
}

/// Two addresses of `N` bytes, then their ports.
fn pair<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, ports) = rest.split_first_chunk::<N>()?;
    let [a, b, c, d] = *ports.first_chunk()?;
    Some((
        SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([a, b])),
        SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes([c, d])),
    ))
}

/// Whether `bytes` are nothing but type-length-value triples (section 2.2.1).
fn are_tlvs(mut bytes: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = bytes {
        let Some(next) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else {
            return false;
        };
        bytes = next;
    }
    bytes.is_empty()
}
