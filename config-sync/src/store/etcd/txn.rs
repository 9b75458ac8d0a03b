//! etcd's transactions, made of ours.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnResponse};

use super::load::{AUTHOR, Keys, Position, signed};
use super::requests::Leases;
use crate::store::{Author, Guard, Op, Outcome, Transaction};

/// A transaction as large as one of ours that comes to nothing: etcd looks at the size first, and
/// then at a guard that never holds.
pub(super) fn rehearsal(keys: &Keys, transaction: &Transaction) -> Txn {
    let never = Compare::version(keys.key(AUTHOR), CompareOp::Less, 0);
    let mut guards: Vec<Compare> = guards(keys, transaction).collect();
    guards.pop();
    guards.push(never);
    let none = Leases::new();
    let mut ops: Vec<TxnOp> = ops(keys, transaction, &none).collect();
    ops.push(sign(keys, &transaction.author));
    Txn::new().when(guards).and_then(ops)
}

/// etcd's for one of ours, or for several of one author, signed by the author.
pub(super) fn txn(keys: &Keys, together: &[&Transaction], leases: &Leases) -> Txn {
    let guards = together.iter().flat_map(|one| guards(keys, one));
    let mut ops: Vec<TxnOp> = together.iter().flat_map(|one| ops(keys, one, leases)).collect();
    let nobody = Author::default();
    let signed = sign(keys, together.first().map_or(&nobody, |first| &first.author));
    let mut all = together.iter().flat_map(|one| &one.ops);
    ops.push(match (all.next(), all.next()) {
        // Deleting what does not exist is no change, and gets no author.
        (Some(Op::Delete { path }), None) => {
            let exists = Compare::version(keys.key(path), CompareOp::Greater, 0);
            TxnOp::txn(Txn::new().when([exists]).and_then([signed]))
        }
        _ => signed,
    });
    Txn::new().when(guards.collect::<Vec<_>>()).and_then(ops)
}

/// What became of it.
pub(super) fn outcome(answer: &TxnResponse) -> Outcome {
    if !answer.succeeded() {
        return Outcome::Conflict;
    }
    Outcome::Committed { revision: Position::of(answer.header()).revision }
}

fn guards(keys: &Keys, transaction: &Transaction) -> impl Iterator<Item = Compare> {
    let compare = move |guard: &Guard| match guard {
        Guard::Absent(path) => Compare::version(keys.key(path), CompareOp::Equal, 0),
        Guard::Exists(path) => Compare::version(keys.key(path), CompareOp::Greater, 0),
        Guard::Unmodified(path, revision) => {
            Compare::mod_revision(keys.key(path), CompareOp::Equal, signed(*revision))
        }
    };
    transaction.guards.iter().map(compare)
}

fn ops(keys: &Keys, transaction: &Transaction, leases: &Leases) -> impl Iterator<Item = TxnOp> {
    let op = move |op: &Op| match op {
        Op::Put { path, value, ttl } => {
            let lease = leases.iter().find(|(seconds, _)| Some(*seconds) == *ttl);
            let options = lease.map(|(_, id)| PutOptions::new().with_lease(*id));
            TxnOp::put(keys.key(path), value.as_ref(), options)
        }
        Op::Delete { path } => TxnOp::delete(keys.key(path), None),
    };
    transaction.ops.iter().map(op)
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
    let value = serde_json::to_vec(&Signature { author, mark }).unwrap_or_default();
    TxnOp::put(keys.key(AUTHOR), value, None)
}
