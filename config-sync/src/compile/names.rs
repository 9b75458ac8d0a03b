//! Names of nodes and their addresses.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use osmia_core::resource::Key;

/// Most addresses of one name that are used.
const ADDRESSES_MAX: usize = 64;

/// Finds the addresses of a host name. May block; never called on a worker or while configuration
/// is compiled.
pub trait Resolve: Send + Sync {
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

/// What became of asking for one name.
pub type Answer = Result<Vec<IpAddr>, Arc<str>>;

/// Asks `resolver` for a name: IPv4 addresses if there are any, otherwise IPv6, sorted so that the
/// resolver's rotation is not taken for a change.
pub fn ask(resolver: &dyn Resolve, host: &str) -> Answer {
    match resolver.resolve(host) {
        Ok(all) => preferred(&all).ok_or_else(|| "the name has no address".into()),
        Err(error) => Err(error.to_string().into()),
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

/// The answers so far, and who wants to know.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Arc<str>, Named>,
    by_user: HashMap<Key, Vec<Arc<str>>>,
    /// Names that nobody has asked for yet.
    unasked: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct Named {
    /// `None` until there is an answer.
    answer: Option<Answer>,
    /// The resources to compile again when the answer changes.
    users: BTreeSet<Key>,
}

/// Why there are no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAddress {
    /// The name is being asked for.
    Pending,
    /// The name has none.
    Failed(Arc<str>),
}

impl Names {
    /// The addresses of a name, or of an address written as text, on behalf of `user`.
    pub(super) fn addresses(&mut self, host: &str, user: &Key) -> Result<Vec<IpAddr>, NoAddress> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let name = match self.known.get_key_value(host) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(host),
        };
        let named = self.known.entry(Arc::clone(&name)).or_insert_with(|| {
            self.unasked.push(Arc::clone(&name));
            Named::default()
        });
        named.users.insert(user.clone());
        let used = self.by_user.entry(user.clone()).or_default();
        if !used.contains(&name) {
            used.push(name);
        }
        match &named.answer {
            None => Err(NoAddress::Pending),
            Some(Ok(ips)) => Ok(ips.clone()),
            Some(Err(reason)) => Err(NoAddress::Failed(Arc::clone(reason))),
        }
    }

    /// The names to ask for, which is everybody's only once.
    pub(super) fn take_unasked(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.unasked)
    }

    /// All names, to be asked for again; with `failed`, only those without an address.
    pub(super) fn all(&self, failed: bool) -> Vec<Arc<str>> {
        let wanted =
            |(_, named): &(&Arc<str>, &Named)| !failed || matches!(named.answer, Some(Err(_)));
        self.known.iter().filter(wanted).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Takes an answer; the resources that it changes something for.
    ///
    /// A name that had addresses keeps them when it cannot be resolved any more.
    pub(super) fn answer(&mut self, name: &str, answer: Answer) -> BTreeSet<Key> {
        let Some(named) = self.known.get_mut(name) else { return BTreeSet::new() };
        let stale = matches!((&named.answer, &answer), (Some(Ok(_)), Err(_)));
        if stale || named.answer.as_ref() == Some(&answer) {
            return BTreeSet::new();
        }
        named.answer = Some(answer);
        named.users.clone()
    }

    /// The names that `user` has asked for, before it is compiled anew.
    pub(super) fn begin(&mut self, user: &Key) -> Vec<Arc<str>> {
        self.by_user.remove(user).unwrap_or_default()
    }

    /// Forgets those of the names `before` that `user` did not ask for again.
    pub(super) fn end(&mut self, user: &Key, before: Vec<Arc<str>>) {
        let used = self.by_user.get(user);
        for name in before {
            if used.is_some_and(|used| used.contains(&name)) {
                continue;
            }
            let Some(named) = self.known.get_mut(&name) else { continue };
            named.users.remove(user);
            if named.users.is_empty() {
                self.known.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use osmia_core::resource::Kind;

    use super::*;

    struct Fixed(Vec<IpAddr>);

    impl Resolve for Fixed {
        fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn ipv4_is_preferred_and_order_does_not_matter() {
        let fixed = Fixed(ips(&["10.0.0.2", "::1", "10.0.0.1", "10.0.0.2"]));
        assert_eq!(ask(&fixed, "a"), Ok(ips(&["10.0.0.1", "10.0.0.2"])));
        assert_eq!(ask(&Fixed(ips(&["::2", "::1"])), "a"), Ok(ips(&["::1", "::2"])));
        assert_eq!(ask(&Fixed(vec![]), "a"), Err("the name has no address".into()));
    }

    #[test]
    fn addresses_are_not_asked_for() {
        let mut names = Names::default();
        let user = Key::new(Kind::Upstream, "1");
        assert_eq!(names.addresses("::1", &user), Ok(ips(&["::1"])));
        assert_eq!(names.addresses("10.1.2.3", &user), Ok(ips(&["10.1.2.3"])));
        assert!(names.take_unasked().is_empty());
    }

    #[test]
    fn users_are_told_of_changes_and_addresses_outlive_failures() {
        let mut names = Names::default();
        let (one, two) = (Key::new(Kind::Upstream, "1"), Key::new(Kind::Route, "2"));
        assert_eq!(names.addresses("a", &one), Err(NoAddress::Pending));
        assert_eq!(names.addresses("a", &two), Err(NoAddress::Pending));
        assert_eq!(names.take_unasked(), ["a".into()]);
        assert!(names.take_unasked().is_empty());
        assert_eq!(names.answer("a", Err("no such name".into())).len(), 2);
        assert_eq!(names.all(true).len(), 1);
        assert_eq!(names.answer("a", Ok(ips(&["10.0.0.1"]))).len(), 2);
        assert!(names.all(true).is_empty());
        assert!(names.answer("a", Ok(ips(&["10.0.0.1"]))).is_empty());
        assert!(names.answer("a", Err("no such name".into())).is_empty());
        assert_eq!(names.addresses("a", &one), Ok(ips(&["10.0.0.1"])));
    }

    #[test]
    fn a_name_lasts_as_long_as_somebody_uses_it() {
        let mut names = Names::default();
        let (one, two) = (Key::new(Kind::Upstream, "1"), Key::new(Kind::Route, "2"));
        for user in [&one, &two] {
            let before = names.begin(user);
            let _ = names.addresses("a", user);
            names.end(user, before);
        }
        names.answer("a", Ok(ips(&["10.0.0.1"])));
        // Still used, then another one, then none.
        for hosts in [&["a"][..], &["b"], &[]] {
            let before = names.begin(&one);
            for host in hosts {
                let _ = names.addresses(host, &one);
            }
            names.end(&one, before);
        }
        assert_eq!(names.all(false), ["a".into()]);
        assert_eq!(names.answer("a", Ok(ips(&["10.0.0.2"]))), BTreeSet::from([two.clone()]));
        let before = names.begin(&two);
        names.end(&two, before);
        assert!(names.known.is_empty() && names.by_user.is_empty());
    }

    #[test]
    fn the_system_knows_localhost() {
        let found = SystemResolver.resolve("localhost").unwrap();
        assert!(found.iter().all(IpAddr::is_loopback) && !found.is_empty(), "{found:?}");
    }
}
