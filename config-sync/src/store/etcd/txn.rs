//! etcd's transactions, made of ours.

use bytes::Bytes;
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::load::{AUTHOR, Keys, Position, signed};
use super::requests::Leases;
use crate::store::{Author, Guard, Op, Outcome, Transaction};

/// One transaction by itself.
pub(super) fn single(keys: &Keys, transaction: &Transaction, leases: &Leases) -> Txn {
    let mut ops = ops(keys, transaction, leases);
    let signed = sign(keys, &transaction.author);
    ops.push(match transaction.ops.as_slice() {
        // Deleting what does not exist is no change, and gets no author.
        [Op::Delete { path }] => {
            let exists = Compare::version(keys.key(path), CompareOp::Greater, 0);
            TxnOp::txn(Txn::new().when([exists]).and_then([signed]))
        }
        _ => signed,
    });
    Txn::new().when(guards(keys, transaction)).and_then(ops)
}

/// Several transactions of one author in one of etcd's: each happens or not by its own guards, all
/// that happen have one revision.
pub(super) fn several<'t>(
    keys: &Keys,
    transactions: impl Iterator<Item = (&'t Transaction, &'t Leases)>,
    author: &Author,
) -> Txn {
    let nested = transactions.map(|(transaction, leases)| {
        let (guards, ops) = (guards(keys, transaction), ops(keys, transaction, leases));
        TxnOp::txn(Txn::new().when(guards).and_then(ops))
    });
    let mut ops: Vec<TxnOp> = nested.collect();
    ops.push(sign(keys, author));
    Txn::new().and_then(ops)
}

/// What became of a transaction that was sent by itself.
pub(super) fn outcome(answer: &TxnResponse) -> Outcome {
    outcome_at(answer.succeeded(), answer)
}

/// What became of each of several, in their order.
pub(super) fn outcomes(answer: &TxnResponse) -> Vec<Outcome> {
    let nested = answer.op_responses().into_iter().filter_map(|response| match response {
        TxnOpResponse::Txn(nested) => Some(outcome_at(nested.succeeded(), answer)),
        _ => None, // the author's
    });
    nested.collect()
}

fn outcome_at(succeeded: bool, answer: &TxnResponse) -> Outcome {
    if !succeeded {
        return Outcome::Conflict;
    }
    Outcome::Committed { revision: Position::of(answer.header()).revision }
}

fn guards(keys: &Keys, transaction: &Transaction) -> Vec<Compare> {
    let compare = |guard: &Guard| match guard {
        Guard::Absent(path) => Compare::version(keys.key(path), CompareOp::Equal, 0),
        Guard::Exists(path) => Compare::version(keys.key(path), CompareOp::Greater, 0),
        Guard::Unmodified(path, revision) => {
            Compare::mod_revision(keys.key(path), CompareOp::Equal, signed(*revision))
        }
    };
    transaction.guards.iter().map(compare).collect()
}

fn ops(keys: &Keys, transaction: &Transaction, leases: &Leases) -> Vec<TxnOp> {
    let op = |op: &Op| match op {
        Op::Put { path, value, ttl } => {
            let lease = leases.iter().find(|(seconds, _)| Some(*seconds) == *ttl);
            let options = lease.map(|(_, id)| PutOptions::new().with_lease(*id));
            TxnOp::put(keys.key(path), value.as_ref(), options)
        }
        Op::Delete { path } => TxnOp::delete(keys.key(path), None),
    };
    transaction.ops.iter().map(op).collect()
}

/// The author as it is stored: with a mark, so that no two commits write the same value. It also
/// tells one history of the store from another (`follow::Follower`).
#[derive(serde::Serialize)]
struct Signature<'a> {
    #[serde(flatten)]
    author: &'a Author,
    mark: String,
}

fn sign(keys: &Keys, author: &Author) -> TxnOp {
    let mark = format!("{:016x}", getrandom::u64().unwrap_or_default());
    let value: Bytes = serde_json::to_vec(&Signature { author, mark }).unwrap_or_default().into();
    TxnOp::put(keys.key(AUTHOR), value.as_ref(), None)
}
