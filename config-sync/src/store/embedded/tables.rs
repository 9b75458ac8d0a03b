//! The store's tables, and what is read from them.

use bytes::Bytes;
use redb::{
    ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, TableError,
    WriteTransaction,
};

use crate::local::database::{Database, META};
use crate::local::journal::{self, MetaTable};
use crate::store::{Contents, Item};

/// Revision of creation, of modification, and text.
type Row = (u64, u64, &'static [u8]);

/// By path.
const ITEMS: TableDefinition<&str, Row> = TableDefinition::new("items");
/// By path: when it is deleted, in milliseconds since 1970.
const LEASES: TableDefinition<&str, u64> = TableDefinition::new("leases");
/// Key in [`META`]: the last commit's revision.
const REVISION: &str = "revision";

/// All tables, opened for writing.
pub(super) struct Tables<'t> {
    pub meta: MetaTable<'t>,
    items: Table<'t, &'static str, Row>,
    leases: Table<'t, &'static str, u64>,
    pub journal: journal::Tables<'t>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            items: transaction.open_table(ITEMS)?,
            leases: transaction.open_table(LEASES)?,
            journal: journal::Tables::open(transaction)?,
        })
    }

    /// When the item was created and modified.
    pub(super) fn revisions(&self, path: &str) -> Result<Option<(u64, u64)>, redb::Error> {
        let row = self.items.get(path)?;
        Ok(row.map(|row| {
            let (created, modified, _) = row.value();
            (created, modified)
        }))
    }

    pub(super) fn set_revision(&mut self, revision: u64) -> Result<(), redb::Error> {
        self.meta.insert(REVISION, revision)?;
        Ok(())
    }

    /// Writes an item, with or without an end; returns it and what was there before.
    pub(super) fn put(
        &mut self,
        path: String,
        value: Bytes,
        deadline: Option<u64>,
        revision: u64,
    ) -> Result<(Item, Option<Item>), redb::Error> {
        let created = self.revisions(&path)?.map_or(revision, |(created, _)| created);
        let before = self.items.insert(path.as_str(), (created, revision, value.as_ref()))?;
        let before = before.map(|row| item(&path, row.value()));
        match deadline {
            Some(deadline) => {
                self.leases.insert(path.as_str(), deadline)?;
            }
            None => self.end_lease(&path)?,
        }
        Ok((Item { path, value, created, modified: revision }, before))
    }

    /// Deletes an item; returns what was there.
    pub(super) fn delete(&mut self, path: &str) -> Result<Option<Item>, redb::Error> {
        let before = self.items.remove(path)?.map(|row| item(path, row.value()));
        self.end_lease(path)?;
        Ok(before)
    }

    /// When the item's lease runs out, if it has one.
    pub(super) fn deadline(&self, path: &str) -> Result<Option<u64>, redb::Error> {
        Ok(self.leases.get(path)?.map(|deadline| deadline.value()))
    }

    fn end_lease(&mut self, path: &str) -> Result<(), redb::Error> {
        if !self.leases.is_empty()? {
            self.leases.remove(path)?;
        }
        Ok(())
    }
}

fn item(path: &str, (created, modified, value): (u64, u64, &[u8])) -> Item {
    Item { path: path.to_owned(), value: Bytes::copy_from_slice(value), created, modified }
}

fn revision(transaction: &ReadTransaction) -> Result<u64, redb::Error> {
    let revision = transaction.open_table(META)?.get(REVISION)?;
    Ok(revision.map_or(0, |revision| revision.value()))
}

/// Whether the table is there. Tables come with the first commit.
fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn get(database: &Database, path: &str) -> Result<Option<Item>, redb::Error> {
    database.read(|transaction| {
        let Some(items) = existing(transaction.open_table(ITEMS))? else { return Ok(None) };
        Ok(items.get(path)?.map(|row| item(path, row.value())))
    })
}

pub(super) fn list(database: &Database, prefix: &str) -> Result<Contents, redb::Error> {
    database.read(|transaction| {
        let revision = revision(transaction)?;
        let Some(table) = existing(transaction.open_table(ITEMS))? else {
            return Ok(Contents { revision, items: Vec::new() });
        };
        let all = if prefix.is_empty() { table.len()? as usize } else { 0 };
        let mut items = Vec::with_capacity(all);
        for row in table.range(prefix..)? {
            let (path, row) = row?;
            if !path.value().starts_with(prefix) {
                break;
            }
            items.push(item(path.value(), row.value()));
        }
        Ok(Contents { revision, items })
    })
}

/// The last commit's revision, and when which path's lease runs out.
pub(super) fn state(database: &Database) -> Result<(u64, Vec<(u64, String)>), redb::Error> {
    database.read(|transaction| {
        let revision = revision(transaction)?;
        let mut leases = Vec::new();
        if let Some(table) = existing(transaction.open_table(LEASES))? {
            for row in table.iter()? {
                let (path, deadline) = row?;
                leases.push((deadline.value(), path.value().to_owned()));
            }
        }
        Ok((revision, leases))
    })
}

/// Gives an item another end, as if time had passed.
#[cfg(test)]
pub(super) fn set_deadline(database: &Database, path: &str, deadline: u64) {
    use crate::local::database::Finish;

    let write = database.write(redb::Durability::Immediate, |transaction| {
        transaction.open_table(LEASES)?.insert(path, deadline)?;
        Ok(Finish::Commit(()))
    });
    write.unwrap();
}
