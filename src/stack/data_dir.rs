//! The data folder: who may use it, what lies in it, what says that somebody runs.
//!
//! | name | what |
//! |---|---|
//! | `user.db`, `tweet.db`, `timeline.db` | the stores, each with `-wal` and `-shm` beside it |
//! | `keys.json` | signing keys, 0600 |
//! | `service.token` | proves that a call comes from one of the roles, 0600 |
//! | `stores.json` | which stores were made here; each carries the same name of the folder |
//! | `chirp.lock`, `run/<role>.lock` | locks that the kernel frees when their process dies; whose |
//! | | they are stands in them |
//! | `processes.lock` | the same for `chirp up --processes` |
//! | `run.json`, `run/<role>.json` | where the running process is reached; see [`RunFile`] |
//! | `media/` | pictures: `up/` as they came, `m/` published, `tmp/` unfinished |
//! | `run/processes.toml` | the configuration of the processes of `up --processes`, 0600 |
//! | `credentials.jsonl` | password and access tokens of seeded users, 0600 |
//! | `backends.json` | which backends other than the files above it is used with |
//! | `logs/` | logs of `chirp up`, and of each of its processes |
//!
//! `chirp up` holds `chirp.lock` alone. Processes of `chirp serve` share it, and each holds the
//! lock of every role it runs, so that no role of a data folder runs twice over embedded stores. Over
//! servers it may: then its other processes have `run/<role>-<n>.lock` and `.json` ([`seat`]).

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use self::seat::Seat;
use super::StackError;
use crate::{
    adapters::embedded::{blobs, durable::read_secret},
    rt::Rt,
    services::kit::Secret,
    wire::routes::Role,
};

pub mod seat;

/// The file of the signing keys.
pub use crate::adapters::embedded::keys::FILE as KEYS;

/// The file of the service token.
pub const TOKEN: &str = "service.token";
/// The lock of `chirp up --processes`.
pub(super) const SUPERVISOR: &str = "processes.lock";
/// How often a lock that is held is asked for again.
const LOCK_TRIES: usize = 10;
/// The pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A data folder, which may not exist yet.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

/// Where a process is reached, written when it is ready and removed when it stops. It counts only
/// while the lock beside it is held: after kill -9 a stale one may lie there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// The process.
    pub pid: u32,
    /// Which build it runs.
    pub version: String,
    /// When it became ready, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// The public listener.
    pub address: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Replicas per role.
    pub replicas: Vec<(String, usize)>,
}

/// Held locks. Dropping them, or dying, frees them.
#[derive(Debug)]
pub struct Lock {
    _files: Vec<File>,
}

/// What was in the place of a data folder before a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There was none.
    Nothing,
    /// An empty folder.
    Empty,
    /// A folder with files, in which chirp has never been.
    Foreign,
    /// A data folder.
    Used,
}

/// What runs on a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// Nothing.
    Nothing,
    /// Processes that are still starting, or stopping.
    Starting,
    /// `chirp up`.
    Up(RunFile),
    /// Processes of `chirp serve` or `chirp up --processes`, by role; of a role over servers there may
    /// be several.
    Roles(Vec<(Role, RunFile)>),
}

impl DataDir {
    /// The folder `root`; nothing is touched.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The log file of `chirp up`.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.log_file_of("chirp")
    }

    /// The log file of a process of `chirp up --processes`, by its name.
    #[must_use]
    pub fn log_file_of(&self, process: &str) -> PathBuf {
        self.root.join("logs").join(format!("{process}.log"))
    }

    /// Makes the folder unless it is there. Gives what was there before.
    ///
    /// # Errors
    /// [`StackError::Unwritable`]; nothing is left behind.
    pub fn create(&self) -> Result<Found, StackError> {
        let found = self.find();
        for folder in self.folders() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            if let Err(error) = made {
                self.undo(found);
                return Err(StackError::unwritable(&folder, &error));
            }
        }
        Ok(found)
    }

    /// The folders that a start makes, or finds and writes into.
    #[must_use]
    pub fn folders(&self) -> [PathBuf; 4] {
        let below = |name: &str| self.root.join(name);
        [self.root.clone(), below("run"), below("logs"), below(blobs::FOLDER)]
    }

    fn find(&self) -> Found {
        let first = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            entries => entries.map(|mut entries| entries.next()),
        };
        match first {
            Ok(None) => Found::Empty,
            _ if self.root.join("chirp.lock").exists() => Found::Used,
            _ => Found::Foreign,
        }
    }

    /// Takes the whole folder, for `chirp up`.
    ///
    /// # Errors
    /// [`StackError::Locked`] if any process uses it.
    pub fn lock_all(&self) -> Result<Lock, StackError> {
        let path = self.root.join("chirp.lock");
        let file = self.claim(&path, File::try_lock)?;
        sign(&file, &path)?;
        drop(fs::remove_file(self.run_file(None)));
        Ok(Lock { _files: vec![file] })
    }

    /// Takes the folder for `chirp up --processes`, whose processes share it.
    ///
    /// # Errors
    /// [`StackError::Locked`] if any process uses it.
    pub fn lock_for_processes(&self) -> Result<Lock, StackError> {
        // Nobody is here, and whoever comes now finds the second lock held.
        let alone = self.lock_all()?;
        let path = self.root.join(SUPERVISOR);
        let file = self.claim(&path, File::try_lock)?;
        sign(&file, &path)?;
        drop(alone);
        let shared = self.claim(&self.root.join("chirp.lock"), File::try_lock_shared)?;
        Ok(Lock { _files: vec![shared, file] })
    }

    /// Takes single roles of the folder, for `chirp serve`.
    ///
    /// # Errors
    /// [`StackError::Locked`] if `chirp up` or another process has one of them.
    pub fn lock_roles(&self, roles: &[Role]) -> Result<Lock, StackError> {
        let shared = self.claim(&self.root.join("chirp.lock"), File::try_lock_shared)?;
        let mut files = vec![shared];
        for role in roles {
            files.push(self.lock_seat(Seat::from(*role))?);
        }
        Ok(Lock { _files: files })
    }

    /// What runs on this folder now.
    #[must_use]
    pub fn running(&self) -> Running {
        let free = |path: &Path| match File::open(path) {
            Ok(file) => file.try_lock().is_ok(),
            Err(_) => true,
        };
        if free(&self.root.join("chirp.lock")) {
            return Running::Nothing;
        }
        let mut roles = Vec::new();
        for seat in self.seats() {
            if !free(&self.seat_lock(seat))
                && let Some(run) = self.read_run(Some(seat))
            {
                roles.push((seat.role, run));
            }
        }
        let supervised = !free(&self.root.join(SUPERVISOR));
        match self.read_run(None) {
            None if supervised => Running::Starting,
            _ if !roles.is_empty() => Running::Roles(roles),
            Some(run) => Running::Up(run),
            None => Running::Starting,
        }
    }

    /// Where `chirp up --processes` is reached, once it is ready; its roles are [`Running::Roles`].
    #[must_use]
    pub fn supervised(&self) -> Option<RunFile> {
        held(&self.root.join(SUPERVISOR)).then(|| self.read_run(None)).flatten()
    }

    /// The roles of which `chirp up --processes` has fewer than it should among those that are
    /// `found`: their processes have just ended, or are starting. With how many are lacking.
    #[must_use]
    pub fn lacking(&self, found: &[(Role, RunFile)]) -> Vec<(Role, usize)> {
        let wanted = self.supervised().map(|run| run.replicas).unwrap_or_default();
        let count = |role: Role| found.iter().filter(|(other, _)| *other == role).count();
        let lacking = wanted.into_iter().filter_map(|(name, wanted)| {
            let role = Role::ALL.into_iter().find(|role| role.as_str() == name)?;
            Some((role, wanted.saturating_sub(count(role))))
        });
        lacking.filter(|(_, count)| *count > 0).collect()
    }

    /// The processes that hold the folder or roles of it, also while they start or stop. Each is
    /// known to have the lock open that names it, where the system tells (`/proc`).
    #[must_use]
    pub fn holders(&self) -> BTreeSet<u32> {
        let whole = self.root.join("chirp.lock");
        let supervisor = self.root.join(SUPERVISOR);
        let locks = if held(&whole) {
            vec![whole]
        } else if held(&supervisor) {
            // It stops the others, and would start them again if they were told themselves.
            vec![supervisor]
        } else {
            self.seats().into_iter().map(|seat| self.seat_lock(seat)).collect()
        };
        let pid = |lock: PathBuf| -> Option<u32> {
            let pid = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
            (held(&lock) && has_open(pid, &lock)).then_some(pid)
        };
        locks.into_iter().filter_map(pid).collect()
    }

    /// The run file of `chirp up`, or of one replica, if one lies there.
    #[must_use]
    pub fn read_run(&self, seat: Option<Seat>) -> Option<RunFile> {
        serde_json::from_slice(&fs::read(self.run_file(seat)).ok()?).ok()
    }

    /// Writes a run file, whole or not at all.
    ///
    /// # Errors
    /// [`StackError::Unwritable`].
    pub fn write_run(&self, seat: Option<Seat>, run: &RunFile) -> Result<(), StackError> {
        let json = serde_json::to_vec_pretty(run).expect("a run file has only string keys");
        let path = self.run_file(seat);
        let fresh = path.with_extension("json.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| StackError::unwritable(&path, &error))
    }

    /// Removes a run file.
    pub fn remove_run(&self, seat: Option<Seat>) {
        // Without the lock it says nothing, so a file that stays does no harm.
        drop(fs::remove_file(self.run_file(seat)));
    }

    /// The token by which roles know each other; made at the first start.
    ///
    /// # Errors
    /// [`StackError::Unwritable`], or [`StackError::Corrupt`] if the file holds something else.
    pub fn service_token(&self, rt: &Rt) -> Result<Secret, StackError> {
        let path = self.root.join(TOKEN);
        if let Some(token) = self.read_token()? {
            return Ok(token);
        }
        let fresh = self.root.join(format!("{TOKEN}.{:016x}", rt.random_u64()));
        let write = || -> io::Result<()> {
            let mut bytes = [0; 32];
            rt.fill(&mut bytes);
            let text = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            // A link, unlike a rename, fails if another process was faster; its token then counts.
            match fs::hard_link(&fresh, &path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => fs::remove_file(&fresh),
            }
        };
        write().map_err(|error| StackError::unwritable(&path, &error))?;
        self.read_token()?.ok_or_else(|| StackError::other("read the service token", "it vanished"))
    }

    /// The token by which roles know each other, if there is one.
    ///
    /// # Errors
    /// [`StackError::Corrupt`] if the file holds something else.
    pub fn read_token(&self) -> Result<Option<Secret>, StackError> {
        let path = self.root.join(TOKEN);
        let text = match read_secret(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&path, &error)),
            Ok(text) => text,
        };
        let is_token = text.len() == 64 && text.iter().all(u8::is_ascii_hexdigit);
        if let Some(text) = String::from_utf8(text).ok().filter(|_| is_token) {
            return Ok(Some(Secret(text.into())));
        }
        Err(StackError::Corrupt { path, reason: "it is not 64 hexadecimal digits".to_owned() })
    }

    fn run_file(&self, seat: Option<Seat>) -> PathBuf {
        match seat {
            None => self.root.join("run.json"),
            Some(seat) => self.root.join("run").join(format!("{seat}.json")),
        }
    }

    /// Takes the lock `path`, which is made if it is missing.
    fn claim(
        &self,
        path: &Path,
        lock: fn(&File) -> Result<(), TryLockError>,
    ) -> Result<File, StackError> {
        let open = || OpenOptions::new().create(true).append(true).open(path);
        for _ in 0..LOCK_TRIES {
            let file = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.create()?;
                    open()
                }
                file => file,
            };
            let file = file.map_err(|error| StackError::unwritable(path, &error))?;
            self.taken(path, || lock(&file))?;
            // Whoever held it may have removed it with the folder: then it guards nothing.
            if file.metadata().is_ok_and(|file| is_at(&file, path)) {
                return Ok(file);
            }
        }
        let (path, holder) = (self.root.clone(), "another process".to_owned());
        Err(StackError::Locked { path, holder })
    }

    fn taken(
        &self,
        path: &Path,
        lock: impl Fn() -> Result<(), TryLockError>,
    ) -> Result<(), StackError> {
        let mut result = lock();
        // Whoever asks what is running takes the lock for an instant; that is not a holder.
        for _ in 0..LOCK_TRIES {
            if matches!(result, Err(TryLockError::WouldBlock)) {
                std::thread::sleep(LOCK_PAUSE);
                result = lock();
            }
        }
        match result {
            Ok(()) => Ok(()),
            Err(TryLockError::Error(error)) => Err(StackError::unwritable(path, &error)),
            Err(TryLockError::WouldBlock) => {
                let holder = match self.running() {
                    Running::Up(run) => format!("`chirp up` (process {})", run.pid),
                    Running::Roles(runs) => {
                        let pids = runs.iter().map(|(role, run)| format!("{role} {}", run.pid));
                        format!("`chirp serve` ({})", pids.collect::<Vec<_>>().join(", "))
                    }
                    Running::Starting | Running::Nothing => "another process".to_owned(),
                };
                Err(StackError::Locked { path: self.root.clone(), holder })
            }
        }
    }
}

/// Writes into the lock `path`, which is held, who holds it.
fn sign(mut lock: &File, path: &Path) -> Result<(), StackError> {
    let written = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
    written.map_err(|error| StackError::unwritable(path, &error))
}

/// Why a file that is there could not be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> StackError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return StackError::Denied(path.to_owned());
    }
    StackError::Corrupt { path: path.to_owned(), reason: error.to_string() }
}

/// Whether another process holds the lock alone. Asked by sharing it for an instant, so that those
/// who ask do not take one another for the holder.
fn held(lock: &Path) -> bool {
    File::open(lock)
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Whether the process `pid` has the file `path` open. The process that a lock names may be dead,
/// its number another's, and the holder so young that it has not signed yet.
fn has_open(pid: u32, path: &Path) -> bool {
    match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => {
            open.flatten().any(|file| file.path().metadata().is_ok_and(|f| is_at(&f, path)))
        }
        // Where the system does not tell, the lock and its content must do.
        Err(_) => !Path::new("/proc/self/fd").exists(),
    }
}

/// Whether `path` names this very file.
fn is_at(file: &fs::Metadata, path: &Path) -> bool {
    path.metadata().is_ok_and(|named| (named.dev(), named.ino()) == (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests;
