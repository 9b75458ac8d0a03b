//! Names of nodes and services, and what is known of them.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use osmia_core::resource::{Key, Node};

use crate::discovery::{Answer, Known, Service, Subject};

/// `100::/64`.
const DISCARD_ONLY: u128 = 0x100 << 112;

/// The answers so far, and who wants to know.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashMap<Subject, Named>,
    by_user: HashMap<Key, Vec<Subject>>,
    /// What nobody has asked for yet.
    unasked: Vec<Subject>,
    /// What nobody uses any more.
    unused: Vec<Subject>,
    /// What stands for Unix domain sockets; kept for good, since there are only ever a few.
    stand_ins: HashMap<Box<Path>, IpAddr>,
}

#[derive(Debug, Default)]
struct Named {
    /// `None` until there is an answer.
    answer: Option<Answer>,
    /// Whether the answer is an earlier one, since there is none now.
    stale: bool,
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
        match self.known(Subject::Name(host.into()), user)? {
            Known::Addresses(ips) => Ok(ips),
            Known::Nodes(_) => Err(NoAddress::Pending),
        }
    }

    /// An address by which a Unix domain socket is told apart from others: of the block that nobody
    /// can be reached in (RFC 6666), always the same for the same path. With port 0 nothing else
    /// has it.
    pub(super) fn stand_in(&mut self, path: &Path) -> IpAddr {
        if let Some(known) = self.stand_ins.get(path) {
            return *known;
        }
        let address = DISCARD_ONLY | self.stand_ins.len() as u128;
        let address = IpAddr::V6(Ipv6Addr::from_bits(address));
        self.stand_ins.insert(path.into(), address);
        address
    }

    /// The nodes of a service, on behalf of `user`.
    pub(super) fn nodes(&mut self, service: Service, user: &Key) -> Result<Vec<Node>, NoAddress> {
        match self.known(Subject::Service(Arc::new(service)), user)? {
            Known::Nodes(nodes) => Ok(nodes),
            Known::Addresses(_) => Err(NoAddress::Pending),
        }
    }

    fn known(&mut self, subject: Subject, user: &Key) -> Result<Known, NoAddress> {
        // One text for all who use it.
        let known = self.known.get_key_value(&subject).map(|(known, _)| known.clone());
        let subject = known.unwrap_or(subject);
        let named = self.known.entry(subject.clone()).or_insert_with(|| {
            self.unasked.push(subject.clone());
            Named::default()
        });
        named.users.insert(user.clone());
        let used = self.by_user.entry(user.clone()).or_default();
        if !used.contains(&subject) {
            used.push(subject);
        }
        match &named.answer {
            None => Err(NoAddress::Pending),
            Some(Ok(known)) => Ok(known.clone()),
            Some(Err(reason)) => Err(NoAddress::Failed(Arc::clone(reason))),
        }
    }

    /// What to ask for, which is everybody's only once.
    pub(super) fn take_unasked(&mut self) -> Vec<Subject> {
        let mut unasked = std::mem::take(&mut self.unasked);
        unasked.retain(|subject| self.known.contains_key(subject));
        unasked
    }

    /// What not to ask for any more. It may have come into use again, and is then among
    /// [`Self::take_unasked`].
    pub(super) fn take_unused(&mut self) -> Vec<Subject> {
        std::mem::take(&mut self.unused)
    }

    /// Takes an answer; the resources that it changes something for.
    ///
    /// What was known stays in use when it cannot be looked up any more.
    pub(super) fn answer(&mut self, subject: &Subject, answer: Answer) -> BTreeSet<Key> {
        let Some(named) = self.known.get_mut(subject) else { return BTreeSet::new() };
        match (&named.answer, &answer) {
            (Some(Ok(_)), Err(reason)) => {
                if !std::mem::replace(&mut named.stale, true) {
                    let users = shown(&named.users);
                    tracing::warn!(
                        name = %subject,
                        used_by = users,
                        "cannot be looked up any more, the last addresses stay in use: {reason}"
                    );
                }
                return BTreeSet::new();
            }
            (_, Ok(_)) if std::mem::take(&mut named.stale) => {
                tracing::info!(name = %subject, "can be looked up again");
            }
            _ => {}
        }
        if named.answer.as_ref() == Some(&answer) {
            return BTreeSet::new();
        }
        named.answer = Some(answer);
        named.users.clone()
    }

    /// What `user` has asked for, before it is compiled anew.
    pub(super) fn begin(&mut self, user: &Key) -> Vec<Subject> {
        self.by_user.remove(user).unwrap_or_default()
    }

    /// Forgets what is in `before` and `user` did not ask for again.
    pub(super) fn end(&mut self, user: &Key, before: Vec<Subject>) {
        let used = self.by_user.get(user);
        for subject in before {
            if used.is_some_and(|used| used.contains(&subject)) {
                continue;
            }
            let Some(named) = self.known.get_mut(&subject) else { continue };
            named.users.remove(user);
            if named.users.is_empty() {
                self.known.remove(&subject);
                self.unused.push(subject);
            }
        }
    }
}

/// Resources for a log line.
fn shown(users: &BTreeSet<Key>) -> String {
    const SHOWN: usize = 3;
    let named: Vec<String> = users.iter().take(SHOWN).map(Key::to_string).collect();
    let named = named.join(", ");
    match users.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{named} and {more} more"),
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use osmia_core::resource::Kind;

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn name(text: &str) -> Subject {
        Subject::Name(text.into())
    }

    fn addresses(texts: &[&str]) -> Known {
        Known::Addresses(ips(texts))
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
        assert_eq!(names.take_unasked(), [name("a")]);
        assert!(names.take_unasked().is_empty());
        assert_eq!(names.answer(&name("a"), Err("no such name".into())).len(), 2);
        assert_eq!(names.answer(&name("a"), Ok(addresses(&["10.0.0.1"]))).len(), 2);
        assert!(names.answer(&name("a"), Ok(addresses(&["10.0.0.1"]))).is_empty());
        assert!(names.answer(&name("a"), Err("no such name".into())).is_empty());
        assert_eq!(names.addresses("a", &one), Ok(ips(&["10.0.0.1"])));
        assert!(names.answer(&name("a"), Ok(addresses(&["10.0.0.1"]))).is_empty());
    }

    #[test]
    fn services_are_known_beside_names() {
        let mut names = Names::default();
        let user = Key::new(Kind::Upstream, "1");
        let service = Service { kind: "dns".into(), name: "a".into(), args: "".into() };
        assert_eq!(names.nodes(service.clone(), &user), Err(NoAddress::Pending));
        assert_eq!(names.addresses("a", &user), Err(NoAddress::Pending));
        let subject = Subject::Service(Arc::new(service.clone()));
        assert_eq!(names.take_unasked(), [subject.clone(), name("a")]);
        assert_eq!(names.answer(&subject, Ok(Known::Nodes(vec![]))).len(), 1);
        assert_eq!(names.nodes(service, &user), Ok(vec![]));
        assert_eq!(names.addresses("a", &user), Err(NoAddress::Pending));
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
        names.answer(&name("a"), Ok(addresses(&["10.0.0.1"])));
        assert_eq!(names.take_unasked(), [name("a")]);
        // Still used, then another one, then none.
        for hosts in [&["a"][..], &["b"], &[]] {
            let before = names.begin(&one);
            for host in hosts {
                let _ = names.addresses(host, &one);
            }
            names.end(&one, before);
        }
        // Gone before anybody asked for it.
        assert!(names.take_unasked().is_empty());
        assert_eq!(names.take_unused(), [name("b")]);
        let changed = names.answer(&name("a"), Ok(addresses(&["10.0.0.2"])));
        assert_eq!(changed, BTreeSet::from([two.clone()]));
        let before = names.begin(&two);
        names.end(&two, before);
        assert_eq!(names.take_unused(), [name("a")]);
        assert!(names.known.is_empty() && names.by_user.is_empty());
    }

    #[test]
    fn log_lines_name_a_few_users() {
        let users = |count: u32| -> BTreeSet<Key> {
            (0..count).map(|n| Key::new(Kind::Route, &n.to_string())).collect()
        };
        assert_eq!(shown(&users(3)).matches(", ").count(), 2);
        assert!(shown(&users(5)).ends_with(" and 2 more"), "{}", shown(&users(5)));
    }
}
