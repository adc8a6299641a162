//! What a file is: whose, of which kind, of which version; and how it becomes that.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};

use super::open::{OpenError, Schema};

/// The folder that a store must belong to.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The folder's name.
    pub folder: &'a str,
    /// The store was made there before: it must carry that name. Otherwise it gets it now.
    pub made: bool,
}

/// The name of the folder in which the file was made, as its main part has it, without a log beside
/// it. Changes nothing, not even a log. `None` if there is none, or nothing that can be read.
#[must_use]
pub fn folder_of(path: &Path) -> Option<String> {
    // A log beside the file may be another file's: `immutable` leaves it alone.
    let path = path.to_str()?.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let uri = format!("file:{path}?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(uri, flags).ok()?;
    folder(&conn).ok().flatten()
}

fn folder(conn: &Connection) -> rusqlite::Result<Option<String>> {
    conn.query_row("select id from folder", [], |row| row.get(0)).optional()
}

/// Application, version and number of tables of a file; all 0 if it is empty.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    application: i32,
    version: i32,
    tables: i32,
}

const EMPTY: Identity = Identity { application: 0, version: 0, tables: 0 };

impl Identity {
    fn of(conn: &Connection) -> rusqlite::Result<Self> {
        let number = |sql: &str| conn.query_row(sql, [], |row| row.get(0));
        Ok(Self {
            application: number("pragma application_id")?,
            version: number("pragma user_version")?,
            tables: number("select count(*) from sqlite_schema")?,
        })
    }

    /// Refuses what is another's, and what this build does not know yet.
    fn accept(self, path: &Path, schema: &Schema) -> Result<Self, OpenError> {
        if self == EMPTY {
            return Ok(self);
        }
        if self.application != schema.application_id {
            return Err(OpenError::Foreign { path: path.to_owned(), expected: schema.name });
        }
        if !(1..=schema.version()).contains(&self.version) {
            let (found, expected) = (self.version, schema.version());
            return Err(OpenError::Version { path: path.to_owned(), found, expected });
        }
        Ok(self)
    }
}

/// Brings the file to the version of `schema` and to the folder of `owner`, or refuses it as it is.
pub(super) fn settle(
    path: &Path,
    conn: &mut Connection,
    schema: &Schema,
    owner: Option<Owner<'_>>,
) -> Result<(), OpenError> {
    let fail = |error: rusqlite::Error| OpenError::of(path, &error);
    // In one transaction: another process may be making the tables between two questions.
    let glimpse = conn.transaction().map_err(fail)?;
    let found = Identity::of(&glimpse).map_err(fail)?.accept(path, schema)?;
    glimpse.commit().map_err(fail)?;
    if found.version < schema.version() || owner.is_some_and(|owner| !owner.made) {
        // Of two processes that find the same file behind, the one that gets the lock mends it.
        let behavior = TransactionBehavior::Immediate;
        let work = conn.transaction_with_behavior(behavior).map_err(fail)?;
        let found = Identity::of(&work).map_err(fail)?.accept(path, schema)?;
        climb(&work, found.version, schema).map_err(fail)?;
        if let Some(owner) = owner.filter(|owner| !owner.made) {
            adopt(&work, owner).map_err(fail)?;
        }
        work.commit().map_err(fail)?;
        // So that the file says by itself whose it is; see `folder_of`. A reader may prevent it.
        let _: (i32, i32, i32) = conn
            .query_row("pragma wal_checkpoint(passive)", [], |row| row.try_into())
            .map_err(fail)?;
    }
    match owner {
        Some(owner) if whose(conn).map_err(fail)?.as_deref() != Some(owner.folder) => {
            let why = "it is another folder's".to_owned();
            Err(OpenError::Lost { path: path.to_owned(), why })
        }
        _ => Ok(()),
    }
}

/// Takes the steps that lead on from `version`.
fn climb(work: &Transaction<'_>, version: i32, schema: &Schema) -> rusqlite::Result<()> {
    let missing = schema.steps.iter().skip(usize::try_from(version).unwrap_or(0));
    for statements in missing.copied().flatten() {
        work.execute_batch(statements)?;
    }
    work.pragma_update(None, "application_id", schema.application_id)?;
    work.pragma_update(None, "user_version", schema.version())
}

/// Writes the folder's name into a store that has none yet.
fn adopt(work: &Transaction<'_>, owner: Owner<'_>) -> rusqlite::Result<()> {
    work.execute_batch("create table if not exists folder (id text not null) strict")?;
    let sql = "insert into folder (id) select ?1 where not exists (select 1 from folder)";
    work.execute(sql, [owner.folder]).map(drop)
}

fn whose(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "select count(*) from sqlite_schema where type = 'table' and name = 'folder'";
    let known: i32 = conn.query_row(sql, [], |row| row.get(0))?;
    if known == 0 { Ok(None) } else { folder(conn) }
}
