//! `X-Forwarded-*` and `Forwarded`: whose word counts (`apisix.trusted_addresses`, described in
//! APISIX's `conf/config.yaml`).
//!
//! Towards upstreams and for rules, `X-Forwarded-Proto`, `-Host` and `-Port` are what the gateway
//! sees itself, and `Forwarded` is gone, unless a trusted peer sent them. `X-Forwarded-For` is kept
//! and continued, unless `trusted_addresses` is configured and the peer is none of them.

use std::net::IpAddr;

use crate::http1::write::Sink;
use crate::http1::{Known, RequestHead};
use crate::net_set::NetSet;

/// What the peer's word is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// `trusted_addresses` is not configured.
    #[default]
    Unset,
    /// It is, and the peer is none of them.
    Untrusted,
    /// The peer is one of them.
    Trusted,
}

impl Trust {
    /// What `trusted_addresses` say of whoever really connected; `None`: over a Unix domain socket,
    /// which no address names.
    pub fn of(trusted: Option<&NetSet>, peer: Option<IpAddr>) -> Self {
        match trusted {
            None => Self::Unset,
            Some(trusted) if peer.is_some_and(|peer| trusted.contains(peer)) => Self::Trusted,
            Some(_) => Self::Untrusted,
        }
    }

    /// Whether the `X-Forwarded-For` that came is continued.
    #[inline]
    pub fn keeps_chain(self) -> bool {
        self != Self::Untrusted
    }

    /// Writes what a trusted peer sent in the fields `known`, several separated by a comma;
    /// `false`: nothing, or it is not trusted.
    #[inline]
    pub fn put_sent(
        self,
        out: &mut impl Sink,
        request: &RequestHead,
        buf: &[u8],
        known: Known,
    ) -> bool {
        self == Self::Trusted && put_joined(out, request, buf, known)
    }
}

/// Writes the values of the fields `known` that are not empty; `false`: there are none.
fn put_joined(out: &mut impl Sink, request: &RequestHead, buf: &[u8], known: Known) -> bool {
    let mut found = false;
    for field in request.fields.iter().filter(|field| field.known == known) {
        if !field.value.is_empty() {
            if std::mem::replace(&mut found, true) {
                out.put(b", ");
            }
            out.put(field.value.get(buf));
        }
    }
    found
}

/// A field whose value is not simply what the client sent, named as in
/// [`Variable::Header`](crate::vars::Variable::Header).
#[inline]
pub fn known(name: &str) -> Option<Known> {
    Some(match name {
        "x-forwarded-for" => Known::XForwardedFor,
        "x-forwarded-proto" => Known::XForwardedProto,
        "x-forwarded-host" => Known::XForwardedHost,
        "x-forwarded-port" => Known::XForwardedPort,
        "forwarded" => Known::Forwarded,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_by_the_address_that_connected() {
        let set = NetSet::parse(["10.0.0.0/8", "::1"]).unwrap();
        let of = |peer: &str| Trust::of(Some(&set), Some(peer.parse().unwrap()));
        assert_eq!(of("10.1.2.3"), Trust::Trusted);
        assert_eq!(of("::ffff:10.1.2.3"), Trust::Trusted);
        assert_eq!(of("::1"), Trust::Trusted);
        assert_eq!(of("192.0.2.1"), Trust::Untrusted);
        assert_eq!(Trust::of(Some(&set), None), Trust::Untrusted);
        assert_eq!(Trust::of(None, Some([10, 0, 0, 1].into())), Trust::Unset);
    }
}
