//! What an answer says about the name that was asked for, and nothing else that is in it.

use std::net::IpAddr;

use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// Longest chain of aliases that is followed.
pub(super) const ALIASES_MAX: usize = 16;

/// The records of one type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Records {
    Addresses(Vec<IpAddr>),
    Services(Vec<SRV>),
    Alias(Name),
}

/// The records of type `kind` that `answers` have for `name`, be it by way of aliases, and the
/// shortest time that one of them holds, in seconds. Records of other names are not looked at:
/// whoever sends them may have no say about them.
pub(super) fn of(answers: &[Record], name: &Name, kind: RecordType) -> Option<(Records, u32)> {
    let (owners, mut ttl) = owners(answers, name, kind);
    let mut found: Option<Records> = None;
    let matching = answers.iter().filter(|record| record.record_type() == kind);
    for record in matching.filter(|record| owners.contains(&&record.name)) {
        match (&record.data, &mut found) {
            (RData::A(ip), Some(Records::Addresses(all))) => all.push(IpAddr::V4(ip.0)),
            (RData::A(ip), None) => found = Some(Records::Addresses(vec![IpAddr::V4(ip.0)])),
            (RData::AAAA(ip), Some(Records::Addresses(all))) => all.push(IpAddr::V6(ip.0)),
            (RData::AAAA(ip), None) => found = Some(Records::Addresses(vec![IpAddr::V6(ip.0)])),
            (RData::SRV(srv), Some(Records::Services(all))) => all.push(srv.clone()),
            (RData::SRV(srv), None) => found = Some(Records::Services(vec![srv.clone()])),
            (RData::CNAME(to), None) => found = Some(Records::Alias(to.0.clone())),
            _ => continue,
        }
        ttl = ttl.min(record.ttl);
    }
    found.map(|found| (found, ttl))
}

/// `name`, and the names that it is an alias of, with the shortest time that one alias holds.
fn owners<'a>(answers: &'a [Record], name: &'a Name, kind: RecordType) -> (Vec<&'a Name>, u32) {
    let mut owners = vec![name];
    let mut ttl = u32::MAX;
    if kind == RecordType::CNAME {
        return (owners, ttl);
    }
    // A loop ends since a name is taken once only.
    let mut at = 0;
    while at < owners.len() && owners.len() <= ALIASES_MAX {
        let owner = owners[at];
        for record in answers.iter().filter(|record| record.name == *owner) {
            if let RData::CNAME(to) = &record.data
                && !owners.contains(&&to.0)
            {
                owners.push(&to.0);
                ttl = ttl.min(record.ttl);
            }
        }
        at += 1;
    }
    (owners, ttl)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata::CNAME;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn a(owner: &str, ttl: u32, ip: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::from(ip.parse::<IpAddr>().unwrap()))
    }

    fn alias(owner: &str, ttl: u32, to: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(to))))
    }

    fn addresses(ips: &[&str]) -> Records {
        Records::Addresses(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_the_shortest_time_counts() {
        let answers = [
            a("c.x.", 90, "10.0.0.1"),
            alias("b.x.", 30, "c.x."),
            alias("A.x.", 60, "b.X."),
            a("C.x.", 70, "10.0.0.2"),
        ];
        let found = of(&answers, &name("a.x."), RecordType::A);
        assert_eq!(found, Some((addresses(&["10.0.0.1", "10.0.0.2"]), 30)));
    }

    #[test]
    fn records_of_other_names_and_types_do_not_count() {
        let answers = [a("evil.x.", 60, "10.0.0.1"), a("a.x.", 60, "::1")];
        assert_eq!(of(&answers, &name("a.x."), RecordType::A), None);
        assert_eq!(of(&answers, &name("a.x."), RecordType::AAAA), Some((addresses(&["::1"]), 60)));
        assert_eq!(of(&[], &name("a.x."), RecordType::SRV), None);
    }

    #[test]
    fn loops_of_aliases_end() {
        let answers =
            [alias("a.x.", 1, "b.x."), alias("b.x.", 1, "a.x."), alias("a.x.", 1, "a.x.")];
        assert_eq!(of(&answers, &name("a.x."), RecordType::A), None);
        let found = of(&answers, &name("b.x."), RecordType::CNAME);
        assert_eq!(found, Some((Records::Alias(name("a.x.")), 1)));
        let long: Vec<Record> =
            (0..100).map(|n| alias(&format!("n{n}."), 1, &format!("n{}.", n + 1))).collect();
        assert_eq!(of(&long, &name("n0."), RecordType::A), None);
    }
}
