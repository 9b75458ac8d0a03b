//! From a client's set of resources to steps: ids, rules, encryption, what is the same already.

use std::collections::{BTreeSet, HashMap};

use axum::http::StatusCode;
use bytes::Bytes;
use osmia_core::resource::{Key, Kind};
use serde_json::{Map, Value};

use super::plan::{After, Failed, Problem, Step, refused};
use super::{Request, key};
use crate::admin::check;
use crate::admin::reply::Reply;
use crate::admin::target::{Target, segments};
use crate::admin::unique::{self, Claim};
use crate::admin::write::{bind, stamp};
use crate::plane::Plane;
use crate::state::Stored;

/// What the server sets and does not compare.
const TIMES: [&str; 2] = ["create_time", "update_time"];

/// A request whose keys have been read.
#[derive(Debug)]
pub(super) struct Wanted {
    put: Vec<(Key, Value)>,
    delete: Vec<Key>,
    replace: bool,
}

impl Wanted {
    /// Reads the keys; each may be named once.
    pub(super) fn read(request: Request) -> Result<Self, Reply> {
        let mut named = BTreeSet::new();
        let mut problems = Vec::new();
        let mut take = |text: &str| match key(text) {
            None => {
                let example = "it is not the key of a resource, such as routes/1 or \
                               consumers/jack/credentials/1";
                problems.push(Problem::new(text, example));
                None
            }
            Some(key) if !named.insert(key.clone()) => {
                problems.push(Problem::new(text, "it is named more than once"));
                None
            }
            Some(key) => Some(key),
        };
        let put = request.put.into_iter();
        let put = put.filter_map(|put| Some((take(&put.key)?, put.value))).collect();
        let delete = request.delete.iter().filter_map(|text| take(text)).collect();
        if !problems.is_empty() {
            return Err(refused(&problems));
        }
        Ok(Self { put, delete, replace: request.replace })
    }
}

/// Refuses when anything has changed after `revision`.
pub(super) fn unchanged_since(plane: &Plane, revision: u64) -> Result<(), Reply> {
    let conflict = |message: String| Reply::error(StatusCode::CONFLICT, message);
    let newest = plane.journal.entries(None, None, 1);
    let newest = newest.map_err(|error| {
        Reply::error(StatusCode::INTERNAL_SERVER_ERROR, format!("expect_revision: {error}"))
    })?;
    if let Some(entry) = newest.first().filter(|entry| entry.revision > revision) {
        return Err(conflict(format!(
            "the configuration was changed after revision {revision}: now it is {}",
            entry.revision
        )));
    }
    // The journal may be a moment behind.
    let state = plane.state();
    let mut all = Kind::ALL.into_iter().flat_map(|kind| state.items(kind));
    match all.find(|(_, stored)| stored.modified > revision) {
        None => Ok(()),
        Some((_, stored)) => Err(conflict(format!(
            "the configuration was changed after revision {revision}: now it is {}",
            stored.modified
        ))),
    }
}

/// What each key is to hold. Does not hold the state for long.
pub(super) fn steps(plane: &Plane, wanted: &Wanted) -> Result<Vec<Step>, Failed> {
    let put = wanted.put.iter().map(|(key, _)| key);
    let before: Vec<_> = {
        let state = plane.state();
        put.map(|key| state.get(key).cloned()).collect()
    };
    let mut problems = Vec::new();
    let mut steps = Vec::with_capacity(wanted.put.len() + wanted.delete.len());
    for ((key, value), before) in wanted.put.iter().zip(before) {
        match put_step(plane, key, value.clone(), before) {
            Ok(step) => steps.push(step),
            Err(error) => problems.push(Problem::new(key, error)),
        }
    }
    if problems.is_empty() {
        problems = doubly_said(plane, wanted, &steps);
    }
    if !problems.is_empty() {
        return Err(refused(&problems).into());
    }
    let state = plane.state();
    let delete = |key: &Key| Step {
        key: key.clone(),
        before: state.get(key).cloned(),
        after: After::Nothing,
    };
    steps.extend(wanted.delete.iter().map(delete));
    if wanted.replace {
        let named: BTreeSet<Key> = steps.iter().map(|step| step.key.clone()).collect();
        for kind in Kind::ALL {
            let keys = state.items(kind).map(|(id, _)| Key { kind, id: id.clone() });
            steps.extend(keys.filter(|key| !named.contains(key)).map(|key| delete(&key)));
        }
    }
    Ok(steps)
}

/// What one resource only may say, and two would: a plugin of a global rule, a consumer's key.
fn doubly_said(plane: &Plane, wanted: &Wanted, steps: &[Step]) -> Vec<Problem> {
    let said = |key: &Key, mut value: Value| {
        plane.rules.decrypt(key.kind, &mut value);
        value.as_object().map(|map| unique::claims(key, map)).unwrap_or_default()
    };
    let mut owners: HashMap<Claim, &Key> = HashMap::new();
    let mut problems = Vec::new();
    for step in steps {
        let (After::Value { value, .. } | After::Same(value)) = &step.after else { continue };
        for claim in said(&step.key, value.clone()) {
            match owners.get(&claim) {
                Some(owner) if !unique::is_same(owner, &step.key) => {
                    problems.push(Problem::new(&step.key, reason(unique::taken(&claim, owner))));
                }
                _ => drop(owners.insert(claim, &step.key)),
            }
        }
    }
    if owners.is_empty() || wanted.replace {
        return problems;
    }
    let named: BTreeSet<&Key> = steps.iter().map(|step| &step.key).chain(&wanted.delete).collect();
    for (other, stored) in others(plane, &owners) {
        let value = serde_json::from_slice(&stored.value).unwrap_or_default();
        let claims = if named.contains(&other) { Vec::new() } else { said(&other, value) };
        for claim in claims {
            if let Some(key) = owners.get(&claim).filter(|key| !unique::is_same(&other, key)) {
                problems.push(Problem::new(key, reason(unique::taken(&claim, &other))));
            }
        }
    }
    problems
}

/// The stored resources of the kinds that say something which one only may say.
fn others(plane: &Plane, owners: &HashMap<Claim, &Key>) -> Vec<(Key, Stored)> {
    let mut kinds: BTreeSet<Kind> = owners.values().map(|key| key.kind).collect();
    if kinds.contains(&Kind::Consumer) || kinds.contains(&Kind::Credential) {
        kinds.extend([Kind::Consumer, Kind::Credential]);
    }
    let state = plane.state();
    let of_kind = |kind| {
        let items = state.items(kind);
        items.map(move |(id, stored)| (Key { kind, id: id.clone() }, stored.clone()))
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

fn put_step(
    plane: &Plane,
    key: &Key,
    value: Value,
    before: Option<Stored>,
) -> Result<Step, String> {
    let stored = before.as_ref().and_then(|before| serde_json::from_slice(&before.value).ok());
    let value = match value {
        // The list of plugins: no object, no id, no times.
        Value::Array(_) if key.kind == Kind::Plugins => {
            plane.rules.check(key.kind, &mut value.clone())?;
            value
        }
        value => object(plane, key, value, stored.as_ref())?,
    };
    let after = match (stored, value) {
        (Some(stored), value) if is_same(&stored, &value) => After::Same(stored),
        (stored, mut value) => {
            if let Value::Object(map) = &mut value
                && key.kind != Kind::PluginMetadata
            {
                stamp(map, stored.as_ref().and_then(|stored| stored.get(TIMES[0]).cloned()));
            }
            let text = Bytes::from(value.to_string());
            After::Value { value, text }
        }
    };
    Ok(Step { key: key.clone(), before, after })
}

/// The value as it is to be stored, without times. Defaults are not stored, as in APISIX.
fn object(plane: &Plane, key: &Key, value: Value, stored: Option<&Value>) -> Result<Value, String> {
    let mut map = check::object(Some(value)).map_err(reason)?;
    let target = segments(&key.path()).and_then(Target::parse).map_err(reason)?;
    check::settle_id(&target, &mut map).map_err(reason)?;
    check::no_times(&map).map_err(reason)?;
    bind(key, &mut map).map_err(reason)?;
    if key.kind == Kind::Ssl {
        keep_private_keys(plane, &mut map, stored);
    }
    let mut value = Value::Object(map);
    plane.rules.check(key.kind, &mut value.clone())?;
    plane.rules.encrypt(key.kind, &mut value);
    Ok(value)
}

/// The message of a refusal.
fn reason(reply: Reply) -> String {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match body.get("error_msg").and_then(Value::as_str) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(&reply.body).into_owned(),
    }
}

/// Private keys are never shown, so that a set that was exported does not have them: a certificate
/// without a key keeps the one that is stored.
fn keep_private_keys(plane: &Plane, map: &mut Map<String, Value>, stored: Option<&Value>) {
    let Some(mut stored) = stored.cloned() else { return };
    plane.rules.decrypt(Kind::Ssl, &mut stored);
    for (certificate, key) in [("cert", "key"), ("certs", "keys")] {
        let same = map.get(certificate).is_some_and(|own| stored.get(certificate) == Some(own));
        if let (true, None, Some(kept)) = (same, map.get(key), stored.get(key)) {
            map.insert(key.to_owned(), kept.clone());
        }
    }
}

/// Whether both say the same but for the times.
fn is_same(stored: &Value, wanted: &Value) -> bool {
    let (Value::Object(stored), Value::Object(wanted)) = (stored, wanted) else {
        return stored == wanted;
    };
    let counts = |entry: &(&String, &Value)| !TIMES.contains(&entry.0.as_str());
    stored.iter().filter(counts).eq(wanted.iter().filter(counts))
}
