//! What may be said by one resource only: a plugin by one global rule, a key by one consumer, a
//! field by one cost decoration of a service.
//!
//! A writer *claims* what it is about to say. The claim is checked against what is stored and
//! against the claims of other writers that are not finished, so that of two at the same time one
//! is refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osmia_core::resource::{Key, Kind};
use serde_json::{Map, Value};

use super::reply::Reply;
use super::{Api, sealed};
use crate::state::State;

/// The field of each authentication plugin by which consumers are told apart
/// (`apisix/consumer.lua`).
const CONSUMER_KEYS: [(&str, &str); 6] = [
    ("key-auth", "key"),
    ("basic-auth", "username"),
    ("jwt-auth", "key"),
    ("hmac-auth", "key_id"),
    ("ldap-auth", "user_dn"),
    ("ldap-auth-advanced", "user_dn"),
];

/// Something that one resource only may say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Claim {
    /// A global rule has this plugin.
    GlobalPlugin(String),
    /// A consumer or credential has this value in an authentication plugin: the plugin's position
    /// in the table, and the value.
    ConsumerKey(usize, String),
    /// A cost decoration of this service is for this field.
    FieldPath(String, String),
}

/// Claims of writers that are not finished, and what stored consumers say.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Each claim's holder, and how many of its writers hold it.
    pending: Mutex<HashMap<Claim, (Key, usize)>>,
    consumers: Mutex<ConsumerIndex>,
}

/// Claims that are held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    claims: Vec<Claim>,
    from: Arc<Claims>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut pending = lock(&self.from.pending);
        for claim in &self.claims {
            if let Some((_, writers)) = pending.get_mut(claim) {
                *writers -= 1;
                if *writers == 0 {
                    pending.remove(claim);
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Maps are left whole by everything that is done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Api {
    /// Claims everything in `value` that only one may say; 400 when another one says it.
    pub(crate) async fn claim(
        &self,
        key: &Key,
        value: &Map<String, Value>,
    ) -> Result<Option<Held>, Reply> {
        let claims = claims(key, value);
        if claims.is_empty() {
            return Ok(None);
        }
        self.caught_up().await?;
        let mut held = Held { claims: Vec::new(), from: Arc::clone(&self.claims) };
        for claim in claims {
            self.claims.hold(&claim, key).map_err(|owner| taken(&claim, &owner))?;
            held.claims.push(claim);
        }
        let state = self.plane.state();
        for claim in &held.claims {
            if let Some(owner) = self.holder(&state, claim, key) {
                return Err(taken(claim, &owner));
            }
        }
        Ok(Some(held))
    }

    /// The stored resource, other than `key`, that says it already.
    fn holder(&self, state: &State, claim: &Claim, key: &Key) -> Option<Key> {
        if let Claim::ConsumerKey(..) = claim {
            let mut index = lock(&self.claims.consumers);
            index.refresh(state, |key, value| self.claims_of_stored(key, value));
            return index.owner(state, claim, |owner| !is_same(owner, key));
        }
        let mut others = state.items(key.kind).filter_map(|(id, stored)| {
            let other = Key { kind: key.kind, id: Arc::clone(id) };
            (!is_same(&other, key)).then_some((other, stored))
        });
        others.find_map(|(other, stored)| {
            self.claims_of_stored(&other, &stored.value).contains(claim).then_some(other)
        })
    }

    fn claims_of_stored(&self, key: &Key, text: &[u8]) -> Vec<Claim> {
        match serde_json::from_slice(text) {
            Ok(Value::Object(value)) => {
                claims(key, &sealed::decrypted(&self.plane.rules, key.kind, value))
            }
            _ => Vec::new(),
        }
    }
}

/// What `value` says that only one may say.
pub(crate) fn claims(key: &Key, value: &Map<String, Value>) -> Vec<Claim> {
    let plugins = || value.get("plugins").and_then(Value::as_object);
    match key.kind {
        Kind::GlobalRule => {
            plugins().into_iter().flatten().map(|(n, _)| Claim::GlobalPlugin(n.clone())).collect()
        }
        Kind::Consumer | Kind::Credential => {
            let plugins = plugins();
            let claim = |(position, (plugin, field)): (usize, &(&str, &str))| {
                let text = plugins?.get(*plugin)?.get(field)?.as_str()?;
                // What a secret will be is not known when the reference is written.
                let known = !text.starts_with("$secret://") && !text.starts_with("$env://");
                known.then(|| Claim::ConsumerKey(position, text.to_owned()))
            };
            CONSUMER_KEYS.iter().enumerate().filter_map(claim).collect()
        }
        Kind::GraphqlCost => {
            let service = key.id.split('/').next().unwrap_or_default().to_owned();
            let field = value.get("field_path").and_then(Value::as_str);
            field.map(|field| Claim::FieldPath(service, field.to_owned())).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Whether what `owner` says may be said by `key` as well: it is itself, or a consumer's own
/// credential.
pub(crate) fn is_same(owner: &Key, key: &Key) -> bool {
    let own = key.kind == Kind::Consumer
        && owner.kind == Kind::Credential
        && owner.id.split('/').next() == Some(&*key.id);
    owner == key || own
}

/// 400 with APISIX's words.
pub(crate) fn taken(claim: &Claim, owner: &Key) -> Reply {
    let own = owner.own_id();
    Reply::bad(match claim {
        Claim::GlobalPlugin(plugin) => {
            format!("plugin '{plugin}' already exists in global rule with id '{own}'")
        }
        Claim::ConsumerKey(position, _) => {
            let (plugin, field) = CONSUMER_KEYS[*position];
            let who = match owner.kind {
                Kind::Credential => {
                    let consumer = owner.id.split('/').next().unwrap_or_default();
                    format!("credential: {own} of consumer: {consumer}")
                }
                _ => format!("consumer: {own}"),
            };
            format!("duplicate {field} of plugin {plugin} found with {who}")
        }
        Claim::FieldPath(_, field) => {
            format!("field_path {field} is already decorated on this service by [{own}]")
        }
    })
}

impl Claims {
    /// Takes a claim for a writer of `key`, or says who has it.
    fn hold(&self, claim: &Claim, key: &Key) -> Result<(), Key> {
        let mut pending = lock(&self.pending);
        match pending.get_mut(claim) {
            Some((owner, _)) if !is_same(owner, key) => Err(owner.clone()),
            Some((_, writers)) => {
                *writers += 1;
                Ok(())
            }
            None => {
                pending.insert(claim.clone(), (key.clone(), 1));
                Ok(())
            }
        }
    }
}

/// The claims of all stored consumers and credentials, followed by revision: a hundred thousand of
/// them cannot be parsed for each write.
#[derive(Debug, Default)]
struct ConsumerIndex {
    revision: u64,
    owners: HashMap<Claim, BTreeSet<Key>>,
    said: HashMap<Key, (u64, Vec<Claim>)>,
}

impl ConsumerIndex {
    /// Takes in what has changed since the last time.
    fn refresh(&mut self, state: &State, claims: impl Fn(&Key, &[u8]) -> Vec<Claim>) {
        if state.revision() == self.revision {
            return;
        }
        if state.revision() < self.revision {
            *self = Self::default();
        }
        let since = self.revision;
        for kind in [Kind::Consumer, Kind::Credential] {
            for (id, stored) in state.items(kind).filter(|(_, s)| s.modified > since) {
                let key = Key { kind, id: Arc::clone(id) };
                let said = claims(&key, &stored.value);
                self.forget(&key);
                for claim in &said {
                    self.owners.entry(claim.clone()).or_default().insert(key.clone());
                }
                self.said.insert(key, (stored.modified, said));
            }
        }
        self.revision = state.revision();
    }

    fn forget(&mut self, key: &Key) {
        for claim in self.said.remove(key).map(|(_, said)| said).into_iter().flatten() {
            if let Some(owners) = self.owners.get_mut(&claim) {
                owners.remove(key);
                if owners.is_empty() {
                    self.owners.remove(&claim);
                }
            }
        }
    }

    /// A holder of the claim that counts. One that has been deleted is forgotten on the way.
    fn owner(
        &mut self,
        state: &State,
        claim: &Claim,
        counts: impl Fn(&Key) -> bool,
    ) -> Option<Key> {
        let owners: Vec<Key> = self.owners.get(claim)?.iter().cloned().collect();
        owners.into_iter().filter(|owner| counts(owner)).find(|owner| {
            let known = self.said.get(owner).map(|(modified, _)| *modified);
            let current = state.get(owner).map(|stored| stored.modified) == known;
            if !current {
                self.forget(owner);
            }
            current
        })
    }
}
