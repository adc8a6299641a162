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
//! | `run.json`, `run/<role>.json` | where the running process is reached; see [`RunFile`] |
//! | `logs/` | logs of `chirp up` |
//!
//! `chirp up` holds `chirp.lock` alone. Processes of `chirp serve` share it, and each holds the
//! lock of every role it runs, so that no role of a data folder runs twice.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::StackError;
use crate::{rt::Rt, services::kit::Secret, wire::routes::Role};

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
    /// Processes of `chirp serve`, by role.
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
        self.root.join("logs").join("chirp.log")
    }

    /// Makes the folder unless it is there. Gives what was there before.
    ///
    /// # Errors
    /// [`StackError::Unwritable`]; nothing is left behind.
    pub fn create(&self) -> Result<Found, StackError> {
        let found = self.find();
        for folder in [self.root.clone(), self.root.join("run"), self.root.join("logs")] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            if let Err(error) = made {
                self.undo(found);
                return Err(self.unwritable(&error));
            }
        }
        Ok(found)
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
        let file = self.claim(&self.root.join("chirp.lock"), File::try_lock)?;
        self.sign(&file)?;
        drop(fs::remove_file(self.run_file(None)));
        Ok(Lock { _files: vec![file] })
    }

    /// Takes single roles of the folder, for `chirp serve`.
    ///
    /// # Errors
    /// [`StackError::Locked`] if `chirp up` or another process has one of them.
    pub fn lock_roles(&self, roles: &[Role]) -> Result<Lock, StackError> {
        let shared = self.claim(&self.root.join("chirp.lock"), File::try_lock_shared)?;
        let mut files = vec![shared];
        for role in roles {
            let file = self.claim(&self.role_lock(*role), File::try_lock)?;
            self.sign(&file)?;
            drop(fs::remove_file(self.run_file(Some(*role))));
            files.push(file);
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
        for role in Role::ALL {
            if !free(&self.role_lock(role))
                && let Some(run) = self.read_run(Some(role))
            {
                roles.push((role, run));
            }
        }
        match self.read_run(None) {
            _ if !roles.is_empty() => Running::Roles(roles),
            Some(run) => Running::Up(run),
            None => Running::Starting,
        }
    }

    /// The processes that hold the folder or roles of it, also while they start or stop. Each is
    /// known to have the lock open that names it, where the system tells (`/proc`).
    #[must_use]
    pub fn holders(&self) -> BTreeSet<u32> {
        let whole = self.root.join("chirp.lock");
        let locks =
            if held(&whole) { vec![whole] } else { Role::ALL.map(|r| self.role_lock(r)).into() };
        let pid = |lock: PathBuf| -> Option<u32> {
            let pid = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
            (held(&lock) && has_open(pid, &lock)).then_some(pid)
        };
        locks.into_iter().filter_map(pid).collect()
    }

    /// The run file of `chirp up`, or of one role, if one lies there.
    #[must_use]
    pub fn read_run(&self, role: Option<Role>) -> Option<RunFile> {
        serde_json::from_slice(&fs::read(self.run_file(role)).ok()?).ok()
    }

    /// Writes a run file, whole or not at all.
    ///
    /// # Errors
    /// [`StackError::Unwritable`].
    pub fn write_run(&self, role: Option<Role>, run: &RunFile) -> Result<(), StackError> {
        let json = serde_json::to_vec_pretty(run).expect("a run file has only string keys");
        let path = self.run_file(role);
        let fresh = path.with_extension("json.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|error| self.unwritable(&error))
    }

    /// Removes a run file.
    pub fn remove_run(&self, role: Option<Role>) {
        // Without the lock it says nothing, so a file that stays does no harm.
        drop(fs::remove_file(self.run_file(role)));
    }

    /// The token by which roles know each other; made at the first start.
    ///
    /// # Errors
    /// [`StackError::Unwritable`], or [`StackError::Corrupt`] if the file holds something else.
    pub fn service_token(&self, rt: &Rt) -> Result<Secret, StackError> {
        let path = self.root.join("service.token");
        if let Some(token) = self.read_token()? {
            return Ok(token);
        }
        let fresh = self.root.join(format!("service.token.{:016x}", rt.random_u64()));
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
        write().map_err(|error| self.unwritable(&error))?;
        self.read_token()?.ok_or_else(|| StackError::other("read the service token", "it vanished"))
    }

    /// The token by which roles know each other, if there is one.
    ///
    /// # Errors
    /// [`StackError::Corrupt`] if the file holds something else.
    pub fn read_token(&self) -> Result<Option<Secret>, StackError> {
        let path = self.root.join("service.token");
        let mut text = String::new();
        match File::open(&path).and_then(|mut file| file.read_to_string(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StackError::Corrupt { path, reason: error.to_string() }),
            Ok(_) => {}
        }
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Some(Secret(text.into())));
        }
        Err(StackError::Corrupt { path, reason: "it is not 64 hexadecimal digits".to_owned() })
    }

    /// Where a role is reached, while a process holds its lock: without that the addresses may be
    /// anybody's by now.
    #[must_use]
    pub fn running_role(&self, role: Role) -> Option<RunFile> {
        held(&self.role_lock(role)).then(|| self.read_run(Some(role))).flatten()
    }

    fn run_file(&self, role: Option<Role>) -> PathBuf {
        match role {
            None => self.root.join("run.json"),
            Some(role) => self.root.join("run").join(format!("{role}.json")),
        }
    }

    fn role_lock(&self, role: Role) -> PathBuf {
        self.root.join("run").join(format!("{role}.lock"))
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
            let file = file.map_err(|error| self.unwritable(&error))?;
            self.taken(|| lock(&file))?;
            // Whoever held it may have removed it with the folder: then it guards nothing.
            if file.metadata().is_ok_and(|file| is_at(&file, path)) {
                return Ok(file);
            }
        }
        let (path, holder) = (self.root.clone(), "another process".to_owned());
        Err(StackError::Locked { path, holder })
    }

    /// Writes into a lock that is held who holds it.
    fn sign(&self, mut lock: &File) -> Result<(), StackError> {
        let written = lock.set_len(0).and_then(|()| write!(lock, "{}", std::process::id()));
        written.map_err(|error| self.unwritable(&error))
    }

    fn taken(&self, lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), StackError> {
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
            Err(TryLockError::Error(error)) => Err(self.unwritable(&error)),
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

    fn unwritable(&self, error: &io::Error) -> StackError {
        StackError::Unwritable { path: self.root.clone(), reason: plain(error) }
    }
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

/// What the system says, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::tokio_rt::TokioRuntime;

    fn run_file(pid: u32) -> RunFile {
        let here: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let (version, started_at_ms) = ("0".to_owned(), 1);
        RunFile { pid, version, started_at_ms, address: here, admin: here, replicas: vec![] }
    }

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::at(&parent.path().join("data"));
        (parent, dir)
    }

    #[test]
    fn a_whole_stack_and_single_roles_exclude_each_other() {
        let (_parent, dir) = fresh();
        assert_eq!(dir.create().unwrap(), Found::Nothing);
        let all = dir.lock_all().unwrap();
        assert!(matches!(dir.lock_all(), Err(StackError::Locked { .. })));
        assert!(matches!(dir.lock_roles(&[Role::User]), Err(StackError::Locked { .. })));
        drop(all);
        let user = dir.lock_roles(&[Role::User]).unwrap();
        let tweet = dir.lock_roles(&[Role::Tweet]).unwrap();
        assert!(matches!(dir.lock_roles(&[Role::User]), Err(StackError::Locked { .. })));
        assert!(matches!(dir.lock_all(), Err(StackError::Locked { .. })));
        drop((user, tweet));
        drop(dir.lock_all().unwrap());
    }

    #[test]
    fn a_run_file_counts_only_while_its_lock_is_held() {
        let (_parent, dir) = fresh();
        dir.create().unwrap();
        dir.write_run(None, &run_file(7)).unwrap();
        assert_eq!(dir.running(), Running::Nothing);
        let lock = dir.lock_all().unwrap();
        assert_eq!(dir.running(), Running::Starting, "the file of the dead process is gone");
        dir.write_run(None, &run_file(8)).unwrap();
        assert_eq!(dir.running(), Running::Up(run_file(8)));
        drop(lock);
        let lock = dir.lock_roles(&[Role::Tweet]).unwrap();
        dir.write_run(Some(Role::Tweet), &run_file(9)).unwrap();
        assert_eq!(dir.running(), Running::Roles(vec![(Role::Tweet, run_file(9))]));
        drop(lock);
    }

    #[test]
    fn a_lock_names_its_holder_from_the_first_moment_and_nobody_else() {
        let (_parent, dir) = fresh();
        dir.create().unwrap();
        let own = BTreeSet::from([std::process::id()]);
        let roles = dir.lock_roles(&[Role::Tweet]).unwrap();
        assert_eq!(dir.holders(), own);
        drop(roles);
        assert_eq!(dir.holders(), BTreeSet::new());
        let lock = dir.lock_all().unwrap();
        assert_eq!((dir.running(), dir.holders()), (Running::Starting, own));
        // As a holder leaves it that has the lock and has not signed yet.
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(dir.root().join("chirp.lock"), other.id().to_string()).unwrap();
        assert_eq!(dir.holders(), BTreeSet::new(), "a stranger is never named");
        other.kill().unwrap();
        other.wait().unwrap();
        drop(lock);
    }

    #[test]
    fn a_lock_that_was_removed_with_its_folder_guards_nothing() {
        let (_parent, dir) = fresh();
        dir.create().unwrap();
        let (first, path) = (dir.lock_all().unwrap(), dir.root().join("chirp.lock"));
        let waiting = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = dir.lock_all().unwrap();
        drop(first);
        waiting.try_lock().unwrap();
        assert!(matches!(dir.lock_all(), Err(StackError::Locked { .. })));
        drop(second);
    }

    #[test]
    fn what_a_failed_start_made_is_taken_back_and_nothing_else() {
        let (_parent, dir) = fresh();
        for (found, left) in [
            (Found::Nothing, None),
            (Found::Empty, Some(vec![])),
            (Found::Foreign, Some(vec!["letter.txt", "user.db"])),
        ] {
            if let Some(names) = &left {
                fs::create_dir(dir.root()).unwrap();
                names.iter().for_each(|name| fs::write(dir.root().join(name), "mine").unwrap());
            }
            assert_eq!(dir.create().unwrap(), found);
            let lock = dir.lock_all().unwrap();
            fs::write(dir.log_file(), "line").unwrap();
            dir.undo(dir.still(found));
            drop(lock);
            let names = |entries: fs::ReadDir| {
                let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
                names.sort();
                names
            };
            let now = fs::read_dir(dir.root()).ok().map(names);
            assert_eq!(now, left.map(|l| l.into_iter().map(Into::into).collect::<Vec<_>>()));
            drop(fs::remove_dir_all(dir.root()));
        }
        // Another start was faster, made a store and has gone again.
        let found = dir.create().unwrap();
        let lock = dir.lock_all().unwrap();
        fs::write(dir.root().join("stores.json"), "{}").unwrap();
        dir.undo(dir.still(found));
        assert!(dir.root().join("stores.json").exists());
        drop(lock);
    }

    #[tokio::test]
    async fn the_token_is_made_once_is_private_and_a_damaged_one_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (_parent, dir) = fresh();
        dir.create().unwrap();
        let rt = TokioRuntime::handle();
        let token = dir.service_token(&rt).unwrap();
        assert!(dir.service_token(&rt).unwrap() == token);
        let path = dir.root().join("service.token");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        assert!(matches!(dir.service_token(&rt), Err(StackError::Corrupt { .. })));
    }

    #[test]
    fn a_role_is_believed_to_run_only_while_its_lock_is_held() {
        let (_parent, dir) = fresh();
        dir.create().unwrap();
        let address = "127.0.0.1:9".parse().unwrap();
        let run = RunFile {
            pid: 1,
            version: "0".to_owned(),
            started_at_ms: 1,
            address,
            admin: address,
            replicas: Vec::new(),
        };
        let lock = dir.lock_roles(&[Role::User]).unwrap();
        let text = serde_json::to_vec(&run).unwrap();
        fs::write(dir.run_file(Some(Role::User)), text).unwrap();
        assert_eq!(dir.running_role(Role::User), Some(run.clone()));
        assert_eq!(dir.running_role(Role::User), Some(run), "asking takes nothing");
        drop(lock);
        assert_eq!(dir.running_role(Role::User), None, "its port may be anybody's");
    }

    #[test]
    fn a_folder_that_cannot_be_made_leaves_nothing_behind() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("file"), "").unwrap();
        let dir = DataDir::at(&parent.path().join("file").join("data"));
        let error = dir.create().unwrap_err().to_string();
        assert!(error.ends_with("cannot be written: not a directory"), "{error}");
    }
}
