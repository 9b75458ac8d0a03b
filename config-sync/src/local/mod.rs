//! What is kept on this machine's disk: the embedded store's data, the journal of changes, and the
//! last good copy of another store's contents.

mod copy;
pub(crate) mod database;
mod files;
pub(crate) mod journal;

pub use copy::{Copy, CopyError, Pending};
pub use journal::{Entry, EntryChange, Journal, JournalError};
