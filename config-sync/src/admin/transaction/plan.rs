//! From what keys are to hold to one commit: what changes, whether references hold, which guards.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use bytes::Bytes;
use osmia_core::resource::{Key, Kind};
use serde_json::{Value, json};

use crate::admin::reply::Reply;
use crate::admin::{Via, references};
use crate::state::{State, Stored};
use crate::store::{Guard, Op};

/// Most problems that an answer lists.
const PROBLEMS_MAX: usize = 1000;

/// What one key is to hold.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) key: Key,
    /// What it held when the step was prepared.
    pub(crate) before: Option<Stored>,
    pub(crate) after: After,
}

/// What a key is to hold.
#[derive(Debug)]
pub(crate) enum After {
    /// This.
    Value {
        /// For its references.
        value: Value,
        /// What is written.
        text: Bytes,
    },
    /// What it holds already, which is this.
    Same(Value),
    /// Nothing.
    Nothing,
}

/// One commit, and what it does.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) guards: Vec<Guard>,
    pub(crate) ops: Vec<Op>,
    /// Paths, as the next two.
    pub(crate) created: Vec<String>,
    pub(crate) updated: Vec<String>,
    pub(crate) deleted: Vec<String>,
    /// Number of resources that were named and stay as they are.
    pub(crate) unchanged: usize,
}

/// Why there is no plan.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The state has changed since the steps were prepared: prepare them again.
    Overtaken,
    /// It cannot be done.
    Refused(Reply),
}

impl From<Reply> for Failed {
    fn from(reply: Reply) -> Self {
        Self::Refused(reply)
    }
}

/// What is wrong with one resource.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) key: String,
    pub(crate) error: String,
}

impl Problem {
    pub(crate) fn new(key: impl ToString, error: impl Into<String>) -> Self {
        Self { key: key.to_string(), error: error.into() }
    }
}

/// 400 that names each problem.
pub(crate) fn refused(problems: &[Problem]) -> Reply {
    let listed = problems.iter().take(PROBLEMS_MAX);
    let listed: Vec<_> = listed.map(|p| json!({ "key": p.key, "error": p.error })).collect();
    let count = problems.len();
    let (noun, verb) = if count == 1 { ("resource", "is") } else { ("resources", "are") };
    let message = format!("{count} {noun} {verb} refused; nothing was written");
    Reply::json(StatusCode::BAD_REQUEST, &json!({ "error_msg": message, "errors": listed }))
}

/// Makes one commit of the steps. No key occurs twice.
pub(crate) fn plan(state: &State, steps: Vec<Step>) -> Result<Plan, Failed> {
    let mut steps: BTreeMap<Key, Step> =
        steps.into_iter().map(|step| (step.key.clone(), step)).collect();
    let current = |step: &Step| state.get(&step.key).map(|stored| stored.modified);
    if steps.values().any(|step| current(step) != step.before.as_ref().map(|b| b.modified)) {
        return Err(Failed::Overtaken);
    }
    add_contained(state, &mut steps);
    let mut problems = Vec::new();
    let mut needed = BTreeSet::new();
    for step in steps.values() {
        match &step.after {
            After::Value { value, .. } | After::Same(value) => {
                check_references(state, &steps, step, value, &mut needed, &mut problems);
            }
            After::Nothing => check_users(state, &steps, step, &mut problems),
        }
    }
    if !problems.is_empty() {
        return Err(Failed::Refused(refused(&problems)));
    }
    let mut plan = Plan::default();
    plan.guards.extend(needed.into_iter().map(Guard::Exists));
    for step in steps.into_values() {
        plan.add(step);
    }
    Ok(plan)
}

/// What lies in the directory of a resource goes with it: credentials with their consumer.
fn add_contained(state: &State, steps: &mut BTreeMap<Key, Step>) {
    for (outer, inner) in [(Kind::Consumer, Kind::Credential), (Kind::Service, Kind::GraphqlCost)] {
        let gone = |step: &&Step| step.key.kind == outer && matches!(step.after, After::Nothing);
        let owners: BTreeSet<String> =
            steps.values().filter(gone).map(|step| step.key.id.to_string()).collect();
        if owners.is_empty() {
            continue;
        }
        for (id, stored) in state.items(inner) {
            let key = Key { kind: inner, id: id.clone() };
            let owner = id.split('/').next().unwrap_or_default();
            if owners.contains(owner) && !steps.contains_key(&key) {
                let before = Some(stored.clone());
                steps.insert(key.clone(), Step { key, before, after: After::Nothing });
            }
        }
    }
}

/// Whether the key will hold something; `None` when the steps do not say.
fn will_exist(steps: &BTreeMap<Key, Step>, key: &Key) -> Option<bool> {
    steps.get(key).map(|step| !matches!(step.after, After::Nothing))
}

fn check_references(
    state: &State,
    steps: &BTreeMap<Key, Step>,
    step: &Step,
    value: &Value,
    needed: &mut BTreeSet<String>,
    problems: &mut Vec<Problem>,
) {
    let references = value.as_object().map(|value| references(&step.key, value));
    for reference in references.into_iter().flatten() {
        let target = &reference.key;
        let exists = match will_exist(steps, target) {
            Some(exists) => exists,
            None if state.get(target).is_some() => {
                needed.insert(target.path());
                true
            }
            None => false,
        };
        // What plugins refer to may come later, as in APISIX.
        if !exists && reference.via != Via::Plugin {
            let error = format!("it refers to {target}, which does not exist");
            problems.push(Problem::new(&step.key, error));
        }
    }
}

fn check_users(
    state: &State,
    steps: &BTreeMap<Key, Step>,
    step: &Step,
    problems: &mut Vec<Problem>,
) {
    // Users that the steps name are checked by their own references.
    if let Some(user) = state.users(&step.key).find(|user| !steps.contains_key(*user)) {
        let error = format!("it cannot be deleted, {user} still refers to it");
        problems.push(Problem::new(&step.key, error));
    }
}

impl Plan {
    fn add(&mut self, step: Step) {
        let path = step.key.path();
        let guard = match &step.before {
            Some(before) => Guard::Unmodified(path.clone(), before.modified),
            None => Guard::Absent(path.clone()),
        };
        match step.after {
            After::Same(_) => {
                self.unchanged += 1;
                self.guards.push(guard);
                return;
            }
            After::Nothing if step.before.is_none() => {
                self.unchanged += 1;
                return;
            }
            After::Nothing => {
                self.deleted.push(path.clone());
                self.ops.push(Op::Delete { path });
            }
            After::Value { text, .. } => {
                let list =
                    if step.before.is_some() { &mut self.updated } else { &mut self.created };
                list.push(path.clone());
                self.ops.push(Op::Put { path, value: text, ttl: None });
            }
        }
        self.guards.push(guard);
    }
}
