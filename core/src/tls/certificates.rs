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
}

impl Certificates {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
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
        // "*" and as much of the name's end as the wildcard has.
        let mut wildcard = Vec::with_capacity(sni.len() + 1);
        wildcard.push(b'*');
        wildcard.extend_from_slice(sni.as_bytes());
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
        f.debug_struct("Certificates").field("odd", &self.odd).finish_non_exhaustive()
    }
}
