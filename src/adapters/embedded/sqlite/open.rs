//! Opening a file: its place, its identity, its version, its health.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::{
    fault::code_of,
    identity::{self, Owner},
};

/// How long a statement waits for another process that holds the file.
pub const BUSY_MAX: Duration = Duration::from_secs(5);
/// Between two tries while another process holds the file. Short and constant: the holder's next
/// transaction begins soon after its last, and a growing pause would lose that race for ever.
const BUSY_PAUSE: Duration = Duration::from_micros(500);
/// Files up to this size are checked whole when they are opened (some 50 ms); larger ones only at
/// the first page of each table. `Db::check` reads everything.
const CHECK_BYTES_MAX: u64 = 16 << 20;
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// What a file must be.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The name of the file's content in errors: `user`, `tweet`, `timeline`.
    pub name: &'static str,
    /// Tells this kind of file from every other `SQLite` file.
    pub application_id: i32,
    /// What leads from nothing to version 1, from there to version 2 and so on; statements of a step
    /// run in their order. A file that is behind takes the missing steps in one transaction; no step
    /// is ever taken back, changed or left out.
    pub steps: &'static [&'static [&'static str]],
}

impl Schema {
    /// The version that this build reads and writes.
    #[must_use]
    pub fn version(&self) -> i32 {
        i32::try_from(self.steps.len()).unwrap_or(i32::MAX)
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or its folder cannot be made, read or written.
    #[error("{path} cannot be written: {why}")]
    NotWritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// There is no room for it.
    #[error("{path} cannot be written: {why}")]
    Full {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The file is damaged, or no database at all.
    #[error("{path} is damaged: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The file belongs to another program, or to another service.
    #[error("{path} is not the {expected} store of chirp")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The store that was expected there.
        expected: &'static str,
    },
    /// The file is not the one that the folder had.
    #[error("{path} is not what this folder had there: {why}")]
    Lost {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        why: String,
    },
    /// The file was written by a newer version.
    #[error("{path} has version {found}, this build reads version {expected}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: i32,
        /// The version of this build.
        expected: i32,
    },
    /// Another process held the file for [`BUSY_MAX`].
    #[error("{path} is held by another process")]
    Busy {
        /// The file.
        path: PathBuf,
    },
}

impl OpenError {
    /// The error of a folder or file on which the system refused something.
    pub fn not_writable(path: &Path, why: &io::Error) -> Self {
        let (path, kind, why) = (path.to_owned(), why.kind(), why.to_string());
        match kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, why },
            _ => Self::NotWritable { path, why },
        }
    }

    /// The error of a folder in the place of a file.
    pub(in crate::adapters::embedded) fn folder_at(path: &Path) -> Self {
        Self::Lost { path: path.to_owned(), why: "a folder is there".to_owned() }
    }

    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match code_of(error) {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure,
            ) => Self::NotWritable { path, why: error.to_string() },
            Some(ErrorCode::DiskFull) => Self::Full { path, why: error.to_string() },
            _ => Self::Corrupt { path, why: error.to_string() },
        }
    }
}

/// Opens `path` for writing, brings its tables to the version of `schema`, and checks it.
pub(super) fn writer(
    path: &Path,
    schema: &Schema,
    owner: Option<Owner<'_>>,
) -> Result<Connection, OpenError> {
    header(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let fail = |error: rusqlite::Error| OpenError::of(path, &error);
    // Its owner's alone, and so are the files that SQLite puts beside it, whatever the folder allows.
    let mut options = OpenOptions::new();
    let made = options.write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map_err(|error| OpenError::not_writable(path, &error))?;
    let mut conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    settle(&mut conn).map_err(fail)?;
    if conn.is_readonly("main").map_err(fail)? {
        let why = "read-only".to_owned();
        return Err(OpenError::NotWritable { path: path.to_owned(), why });
    }
    wal(&conn).map_err(fail)?;
    conn.execute_batch(
        "pragma synchronous = full; pragma foreign_keys = off; pragma wal_autocheckpoint = 20000;
         pragma cache_size = -65536; pragma temp_store = memory;",
    )
    .map_err(fail)?;
    identity::settle(path, &mut conn, schema, owner)?;
    if fs::metadata(path).is_ok_and(|file| file.len() <= CHECK_BYTES_MAX) {
        check(path, &conn)?;
    } else {
        glance(&conn).map_err(fail)?;
    }
    Ok(conn)
}

/// Opens `path` for reading; the writer has it open already.
pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let fail = |error: rusqlite::Error| OpenError::of(path, &error);
    let mut conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    settle(&mut conn).map_err(fail)?;
    conn.execute_batch("pragma cache_size = -16384; pragma temp_store = memory;").map_err(fail)?;
    Ok(conn)
}

/// How many steps of `schema` the file at `path` lacks; all of them if it is not there. It is only
/// read.
///
/// # Errors
/// [`OpenError`], also for a file that is ahead of this build.
pub fn lacking(path: &Path, schema: &Schema) -> Result<usize, OpenError> {
    header(path)?;
    if !path.exists() {
        return Ok(schema.steps.len());
    }
    let conn = reader(path)?;
    let found = conn.query_row("pragma user_version", [], |row| row.get::<_, i32>(0));
    let found = found.map_err(|error| OpenError::of(path, &error))?;
    let expected = schema.version();
    if found > expected {
        return Err(OpenError::Version { path: path.to_owned(), found, expected });
    }
    Ok(usize::try_from(expected - found).unwrap_or(0))
}

fn header(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Err(OpenError::folder_at(path));
    }
    let mut found = Vec::new();
    match fs::File::open(path) {
        Ok(file) => {
            let read = file.take(HEADER.len() as u64).read_to_end(&mut found);
            read.map_err(|error| OpenError::not_writable(path, &error))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(OpenError::not_writable(path, &error)),
    }
    if found.is_empty() || found == HEADER {
        return Ok(());
    }
    Err(OpenError::Corrupt { path: path.to_owned(), why: "it is not a SQLite file".into() })
}

fn settle(conn: &mut Connection) -> rusqlite::Result<()> {
    let tries = BUSY_MAX.as_micros() / BUSY_PAUSE.as_micros();
    conn.busy_handler(Some(move |tried: i32| {
        thread::sleep(BUSY_PAUSE);
        u128::from(tried.unsigned_abs()) < tries
    }))?;
    conn.set_prepared_statement_cache_capacity(128);
    // Else a statement with `limit ?` is compiled anew whenever the bound number changes.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    rusqlite::vtab::array::load_module(conn)
}

/// Two processes that make a file at once may each find it locked, whatever the busy handler says.
fn wal(conn: &Connection) -> rusqlite::Result<()> {
    let mut tries = 0;
    loop {
        let mode = conn.query_row("pragma journal_mode = wal", [], |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Err(error) if code_of(&error) != Some(ErrorCode::DatabaseBusy) => return Err(error),
            other if tries == 500 => {
                return other.and(Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                    None,
                )));
            }
            _ => thread::sleep(Duration::from_millis(10)),
        }
        tries += 1;
    }
}

/// Reads every page; one line per damage, of which the first is told.
pub(super) fn check(path: &Path, conn: &Connection) -> Result<(), OpenError> {
    let found = conn.query_row("pragma quick_check(1)", [], |row| row.get::<_, String>(0));
    match found {
        Ok(word) if word == "ok" => Ok(()),
        Ok(found) => {
            // The last line says what, those before it in which part of the file.
            let found = found.lines().last().unwrap_or_default();
            let why = format!("a page of it is not what it must be ({found})");
            Err(OpenError::Corrupt { path: path.to_owned(), why })
        }
        Err(error) => Err(OpenError::of(path, &error)),
    }
}

/// Reads the way to the first row of every table.
fn glance(conn: &Connection) -> rusqlite::Result<()> {
    let mut names = conn.prepare("select name from sqlite_schema where type = 'table'")?;
    let names = names.query_map([], |row| row.get::<_, String>(0))?;
    for name in names {
        let name = name?.replace('"', "\"\"");
        conn.prepare(&format!("select 1 from \"{name}\" limit 1"))?.exists([])?;
    }
    Ok(())
}
