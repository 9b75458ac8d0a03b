//! Sets of addresses and networks: `remote_addr(s)` of routes, `ipmatch` of expressions.
//!
//! What lua-resty-ipmatcher does, as sorted ranges: a look-up is a binary search. Unlike there, an
//! IPv4 address in an IPv6 one (`::ffff:192.0.2.1`) is also found under its IPv4 networks: a
//! listener on `::` reports IPv4 clients that way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use thiserror::Error;

/// Not an address, nor one with a prefix length.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid ip address: {0}")]
pub struct BadAddress(pub String);

/// Addresses and networks, IPv4 and IPv6.
///
/// **Invariant:** ranges are inclusive, sorted, and neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl NetSet {
    /// The set of these addresses (`192.0.2.1`) and networks (`192.0.2.0/24`); host bits of a
    /// network do not matter.
    pub fn parse<'a>(items: impl IntoIterator<Item = &'a str>) -> Result<Self, BadAddress> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for item in items {
            match parse_net(item).ok_or_else(|| BadAddress(item.to_owned()))? {
                IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => {
                    let (first, last) = (net.network(), net.broadcast());
                    v6.push((first.into(), last.into()));
                    // Both ends within `::ffff:0:0/96`: it names IPv4 clients.
                    if let (Some(first), Some(last)) =
                        (first.to_ipv4_mapped(), last.to_ipv4_mapped())
                    {
                        v4.push((first.into(), last.into()));
                    }
                }
            }
        }
        Ok(Self { v4: merge(v4), v6: merge(v6) })
    }

    /// Whether `ip` is one of them or in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => self.contains_v4(ip),
            IpAddr::V6(ip) => {
                ip.to_ipv4_mapped().is_some_and(|ip| self.contains_v4(ip)) || self.contains_v6(ip)
            }
        }
    }

    /// Whether `text` is an address (IPv6 also in brackets) that is in the set.
    pub fn contains_text(&self, text: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(text) else { return false };
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match bare {
            Some(bare) => bare.parse().is_ok_and(|ip| self.contains(IpAddr::V6(ip))),
            None => text.parse().is_ok_and(|ip| self.contains(ip)),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn contains_v4(&self, ip: Ipv4Addr) -> bool {
        is_within(&self.v4, ip.into())
    }

    fn contains_v6(&self, ip: Ipv6Addr) -> bool {
        is_within(&self.v6, ip.into())
    }
}

/// An address, or one with a prefix length after `/`.
pub fn parse_net(text: &str) -> Option<IpNet> {
    let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
    let ip: IpAddr = ip.parse().ok()?;
    let Some(bits) = bits else { return Some(ip.into()) };
    let digits = bits.bytes().all(|byte| byte.is_ascii_digit());
    IpNet::new(ip, bits.parse().ok().filter(|_| digits)?).ok()
}

fn is_within<T: Ord + Copy>(ranges: &[(T, T)], ip: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= ip);
    after.checked_sub(1).is_some_and(|at| ranges[at].1 >= ip)
}

/// A number that has a successor, except for the last.
trait Address: Ord + Copy {
    fn next(self) -> Option<Self>;
}

impl Address for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

fn merge<T: Address>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(open) if open.1.next().is_none_or(|next| first <= next) => {
                open.1 = open.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(items: &[&str]) -> NetSet {
        NetSet::parse(items.iter().copied()).unwrap()
    }

    #[test]
    fn finds_addresses_and_networks() {
        let set = set(&["127.0.0.1", "10.1.2.3/8", "::1", "fd00::/8", "192.0.2.0/31"]);
        for ip in ["127.0.0.1", "10.0.0.0", "10.255.255.255", "::1", "fdff::1", "192.0.2.1"] {
            assert!(set.contains(ip.parse().unwrap()), "{ip}");
            assert!(set.contains_text(ip.as_bytes()), "{ip}");
        }
        for ip in ["127.0.0.2", "11.0.0.0", "9.255.255.255", "::2", "fe00::", "192.0.2.2"] {
            assert!(!set.contains(ip.parse().unwrap()), "{ip}");
        }
        for text in ["", "localhost", "127.1", "127.0.0.1 ", "127.0.0.01", "[127.0.0.1]", "[::1"] {
            assert!(!set.contains_text(text.as_bytes()), "{text}");
        }
        assert!(set.contains_text(b"[::1]"));
        assert!(!set.contains_text(b"\xff"));
    }

    #[test]
    fn an_ipv4_address_in_an_ipv6_one_is_both() {
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(set(&["10.0.0.0/8"]).contains(mapped));
        assert!(set(&["::ffff:10.0.0.1"]).contains(mapped));
        assert!(set(&["::ffff:10.0.0.0/104"]).contains("10.200.0.1".parse().unwrap()));
        assert!(set(&["::/0"]).contains(mapped));
        assert!(!set(&["::/0"]).contains("10.0.0.1".parse().unwrap()));
        assert!(!set(&["10.0.0.0/8"]).contains("::10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn everything_and_nothing() {
        assert!(set(&["0.0.0.0/0"]).contains("255.255.255.255".parse().unwrap()));
        assert!(set(&["::/0", "ffff::/16"]).contains("ffff::1".parse().unwrap()));
        assert!(set(&[]).is_empty() && !set(&[]).contains("0.0.0.0".parse().unwrap()));
        assert_eq!(set(&["10.0.0.0/9", "10.128.0.0/9"]), set(&["10.0.0.0/8"]));
        for text in ["", "x", "1.2.3.4/33", "::/129", "1.2.3.4/", "1.2.3.4/+1", "1.2.3/8"] {
            assert_eq!(NetSet::parse([text]), Err(BadAddress(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn agrees_with_each_network(
            nets in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..8), ip in any::<u32>()
        ) {
            let texts: Vec<String> =
                nets.iter().map(|(ip, bits)| format!("{}/{bits}", Ipv4Addr::from(*ip))).collect();
            let set = NetSet::parse(texts.iter().map(String::as_str)).unwrap();
            let ip = IpAddr::from(Ipv4Addr::from(ip));
            let expected = texts.iter().any(|net| parse_net(net).unwrap().contains(&ip));
            prop_assert_eq!(set.contains(ip), expected);
        }
    }
}
