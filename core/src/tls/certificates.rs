//! From the name that a client asks for to its certificate (`apisix/ssl/router/radixtree_sni.lua`).

use std::fmt;
use std::sync::Arc;

use super::ServerTls;
use crate::router::hash_trie::HashTrie;

/// Certificates by name. A clone is a reference count; a change copies the way to its own places
/// and shares the rest.
#[derive(Clone, Default)]
pub struct Certificates {
    /// By name or wildcard, as configured; of each the best is first.
    names: HashTrie<Vec<Arc<ServerTls>>>,
    /// Wildcards such as `*shop.com`, which may begin within a label.
    odd: usize,
    /// Entries of certificates with `client`.
    requiring: usize,
}

impl Certificates {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether any host needs a certificate of its clients.
    pub fn require_any(&self) -> bool {
        self.requiring > 0
    }

    /// The certificate for a name in lower case, without a dot at its end.
    ///
    /// The name itself counts more than any wildcard; of wildcards the longest one decides, also
    /// when it does not match after all because `*` would have to stand for more than one label.
    pub fn find(&self, sni: &str) -> Option<&Arc<ServerTls>> {
        if self.is_empty() {
            return None;
        }
        if let Some(exact) = self.get(sni.as_bytes()) {
            return Some(exact);
        }
        // "*" and as much of the name's end as the wildcard has. Names of hosts fit on the stack.
        let (mut short, mut long) = ([0; 256], Vec::new());
        let wildcard = match short.get_mut(..=sni.len()) {
            Some(short) => short,
            None => {
                long.resize(sni.len() + 1, 0);
                &mut long[..]
            }
        };
        wildcard[1..].copy_from_slice(sni.as_bytes());
        for start in 0..sni.len() {
            if self.odd == 0 && sni.as_bytes()[start] != b'.' {
                continue;
            }
            wildcard[start] = b'*';
            if let Some(found) = self.get(&wildcard[start..]) {
                return (!sni[..start].contains('.')).then_some(found);
            }
        }
        self.get(b"*")
    }

    /// Adds a certificate under all its names.
    pub fn insert(&mut self, server: &Arc<ServerTls>) {
        for sni in &server.snis {
            let row = self.names.entry(sni.as_bytes());
            let rank = |server: &ServerTls| (server.order, Arc::clone(&server.id));
            let place = row.partition_point(|other| rank(other) < rank(server));
            if row.get(place).is_none_or(|other| !Arc::ptr_eq(other, server)) {
                row.insert(place, Arc::clone(server));
                self.odd += usize::from(is_odd(sni));
                self.requiring += usize::from(server.client.is_some());
            }
        }
    }

    /// Takes a certificate away that was added.
    pub fn remove(&mut self, server: &Arc<ServerTls>) {
        for sni in &server.snis {
            if self.names.get(sni.as_bytes()).is_none() {
                continue;
            }
            let row = self.names.entry(sni.as_bytes());
            let before = row.len();
            row.retain(|other| !Arc::ptr_eq(other, server));
            let (gone, is_empty) = (row.len() < before, row.is_empty());
            self.odd -= usize::from(gone && is_odd(sni));
            self.requiring -= usize::from(gone && server.client.is_some());
            if is_empty {
                self.names.remove(sni.as_bytes());
            }
        }
    }

    fn get(&self, name: &[u8]) -> Option<&Arc<ServerTls>> {
        self.names.get(name).and_then(|row| row.first())
    }
}

/// Whether a wildcard does not begin where a label does.
fn is_odd(sni: &str) -> bool {
    sni.strip_prefix('*').is_some_and(|rest| !rest.is_empty() && !rest.starts_with('.'))
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("odd", &self.odd)
            .field("requiring", &self.requiring)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::server_for;
    use super::*;

    fn table(rows: &[(&str, u64, &[&str])]) -> (Certificates, Vec<Arc<ServerTls>>) {
        let all: Vec<_> =
            rows.iter().map(|(id, order, snis)| Arc::new(server_for(id, *order, snis))).collect();
        let mut table = Certificates::default();
        for server in &all {
            table.insert(server);
        }
        (table, all)
    }

    fn found<'a>(table: &'a Certificates, sni: &str) -> &'a str {
        table.find(sni).map_or("", |server| &*server.id)
    }

    #[test]
    fn the_name_itself_counts_more_than_a_wildcard_and_that_covers_one_label() {
        let (table, _) = table(&[
            ("exact", 3, &["www.test.com"]),
            ("wild", 1, &["*.test.com"]),
            ("deep", 2, &["*.a.test.com", "test.com"]),
        ]);
        for (sni, expected) in [
            ("www.test.com", "exact"),
            ("b.test.com", "wild"),
            ("a.test.com", "wild"),
            ("b.a.test.com", "deep"),
            ("c.b.a.test.com", ""),
            ("test.com", "deep"),
            ("b.c.test.com", ""),
            ("xtest.com", ""),
            ("com", ""),
            ("", ""),
        ] {
            assert_eq!(found(&table, sni), expected, "{sni}");
        }
    }

    #[test]
    fn a_lone_asterisk_covers_what_no_other_wildcard_claims() {
        let (table, _) = table(&[("any", 1, &["*"]), ("wild", 2, &["*.test.com"])]);
        for (sni, expected) in
            [("a.b.c", "any"), ("x", "any"), ("a.test.com", "wild"), ("b.a.test.com", "")]
        {
            assert_eq!(found(&table, sni), expected, "{sni}");
        }
    }

    #[test]
    fn a_wildcard_may_begin_within_a_label() {
        let (mut table, all) = table(&[("odd", 1, &["*shop.com"])]);
        for (sni, expected) in
            [("myshop.com", "odd"), ("shop.com", "odd"), ("a.shop.com", ""), ("op.com", "")]
        {
            assert_eq!(found(&table, sni), expected, "{sni}");
        }
        // Longer than any name of a host: still told from what no wildcard covers.
        assert_eq!(found(&table, &format!("{}shop.com", "x".repeat(1000))), "odd");
        assert_eq!(found(&table, &"x".repeat(255)), "");
        table.remove(&all[0]);
        assert!(table.is_empty() && table.odd == 0);
    }

    #[test]
    fn of_several_the_first_counts_until_it_goes_and_a_copy_stays_as_it_is() {
        let (mut table, all) =
            table(&[("late", 9, &["a.com", "*.a.com"]), ("early", 2, &["a.com", "a.com"])]);
        assert_eq!(found(&table, "a.com"), "early");
        let before = table.clone();
        table.remove(&all[1]);
        table.remove(&all[1]);
        assert_eq!((found(&table, "a.com"), found(&before, "a.com")), ("late", "early"));
        table.remove(&all[0]);
        assert!(table.is_empty() && !before.is_empty());
        assert_eq!(found(&before, "x.a.com"), "late");
    }
}
