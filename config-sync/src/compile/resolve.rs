//! Names of nodes to addresses.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};

/// Most addresses used of one name.
const ADDRESSES_MAX: usize = 16;

/// Finds the addresses of a host name. May block.
pub trait Resolve {
    /// At least one address, or why there is none.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver (`getaddrinfo`), with `/etc/hosts` and search domains.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok((host, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect())
    }
}

/// Asks for each name once.
pub(super) struct Cache<'r> {
    resolver: &'r dyn Resolve,
    answers: HashMap<String, Result<Vec<IpAddr>, String>>,
}

impl<'r> Cache<'r> {
    pub(super) fn new(resolver: &'r dyn Resolve) -> Self {
        Self { resolver, answers: HashMap::new() }
    }

    /// The addresses of a name or of an address written as text: IPv4 if there are any, otherwise
    /// IPv6, sorted so that the resolver's rotation is not taken for a change.
    pub(super) fn addresses(&mut self, host: &str) -> Result<Vec<IpAddr>, String> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        if let Some(answer) = self.answers.get(host) {
            return answer.clone();
        }
        let answer = match self.resolver.resolve(host) {
            Ok(all) => preferred(&all).ok_or_else(|| "the name has no address".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        self.answers.insert(host.to_owned(), answer.clone());
        answer
    }
}

fn preferred(all: &[IpAddr]) -> Option<Vec<IpAddr>> {
    let has_v4 = all.iter().any(IpAddr::is_ipv4);
    let mut chosen: Vec<_> = all.iter().copied().filter(|ip| ip.is_ipv4() == has_v4).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen.truncate(ADDRESSES_MAX);
    (!chosen.is_empty()).then_some(chosen)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Fixed(Vec<IpAddr>, Cell<usize>);

    impl Resolve for Fixed {
        fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            self.1.set(self.1.get() + 1);
            Ok(self.0.clone())
        }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn prefers_ipv4_and_sorts() {
        let fixed = Fixed(ips(&["::1", "10.0.0.2", "10.0.0.1", "10.0.0.2"]), Cell::new(0));
        let mut cache = Cache::new(&fixed);
        assert_eq!(cache.addresses("a").unwrap(), ips(&["10.0.0.1", "10.0.0.2"]));
        assert_eq!(cache.addresses("a").unwrap().len(), 2);
        assert_eq!(fixed.1.get(), 1, "the name is asked for once");
        let fixed = Fixed(ips(&["::2", "::1"]), Cell::new(0));
        assert_eq!(Cache::new(&fixed).addresses("a").unwrap(), ips(&["::1", "::2"]));
    }

    #[test]
    fn addresses_need_no_resolver() {
        let fixed = Fixed(Vec::new(), Cell::new(0));
        let mut cache = Cache::new(&fixed);
        assert_eq!(cache.addresses("::1").unwrap(), ips(&["::1"]));
        assert_eq!(cache.addresses("10.1.2.3").unwrap(), ips(&["10.1.2.3"]));
        assert_eq!(fixed.1.get(), 0);
        assert_eq!(cache.addresses("a").unwrap_err(), "the name has no address");
    }

    #[test]
    fn the_system_knows_localhost() {
        let found = SystemResolver.resolve("localhost").unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }
}
