//! Which stores a data folder has: what tells a store that was lost from one that is new.
//!
//! `stores.json` holds a random name of the folder and the stores that were made in it. Each store
//! carries the same name inside. A store is written down once its tables are on the disk and before
//! it is used; so whatever is written down must be there, must not be empty and must be this
//! folder's, and a first start that was interrupted goes on where it was. A folder of a build that
//! knew no `stores.json` is taken as it is, and written down then.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    durable,
    sqlite::{OpenError, Owner, folder_of},
};

/// The file.
pub const FILE: &str = "stores.json";
/// The user role's store.
pub const USER: &str = "user.db";
/// The tweet role's store.
pub const TWEET: &str = "tweet.db";
/// The timeline role's store, a copy, and the bus.
pub const TIMELINE: &str = "timeline.db";
/// Every store that a folder may have.
pub const STORES: [&str; 3] = [USER, TWEET, TIMELINE];
const LOCK: &str = "stores.lock";

/// A data folder's name and stores, as `stores.json` has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// 32 hexadecimal digits.
    folder: String,
    /// File names out of [`STORES`], sorted.
    stores: Vec<String>,
}

impl Folder {
    /// What is written down in `dir`; `None` before the first start. Nothing is changed.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`], or [`OpenError::NotWritable`] if it cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::not_writable(&path, &error)),
        };
        let folder = serde_json::from_slice::<Self>(&text).ok().filter(|folder| {
            folder.folder.len() == 32
                && folder.folder.bytes().all(|byte| byte.is_ascii_hexdigit())
                && folder.stores.iter().all(|store| STORES.contains(&store.as_str()))
        });
        let why = "it is no list of stores".to_owned();
        folder.map(Some).ok_or(OpenError::Corrupt { path, why })
    }

    /// Whether `store` was made here.
    #[must_use]
    pub fn has(&self, store: &str) -> bool {
        self.stores.iter().any(|own| own == store)
    }

    /// The folder `dir`, which gets its name now if it has none. All stores that are written down
    /// are there, not empty, and this folder's.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenError> {
        let folder = match Self::read(dir)? {
            Some(folder) => folder,
            None => Self::begin(dir)?,
        };
        for store in &folder.stores {
            folder.check(&dir.join(store))?;
        }
        Ok(folder)
    }

    /// What `store` must carry.
    pub(super) fn owner(&self, store: &str) -> Owner<'_> {
        Owner { folder: &self.folder, made: self.has(store) }
    }

    /// Writes down that `store` was made.
    pub(super) fn add(&self, dir: &Path, store: &str) -> Result<(), OpenError> {
        change(dir, || {
            let Some(mut now) = Self::read(dir)?.filter(|now| now.folder == self.folder) else {
                let why = "it was replaced while it was in use".to_owned();
                return Err(OpenError::Corrupt { path: dir.join(FILE), why });
            };
            if now.has(store) {
                return Ok(());
            }
            now.stores.push(store.to_owned());
            now.stores.sort_unstable();
            now.write(dir)
        })
    }

    /// Strikes out `store`, which is missing or empty, so that the next start makes it anew: for a
    /// store that can be filled again from the others. `false` if it is not lost; then nothing is
    /// changed. It may be repeated. Nobody else may use the folder.
    ///
    /// # Errors
    /// As [`Folder::read`], and [`OpenError::Lost`] if there is a store of another folder.
    pub fn give_up(dir: &Path, store: &str) -> Result<bool, OpenError> {
        change(dir, || {
            let path = dir.join(store);
            let Some(mut folder) = Self::read(dir)? else { return Ok(false) };
            if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
                return folder.check(&path).map(|()| false);
            }
            // A log without its file would be folded into the next one.
            for left in [store.to_owned(), format!("{store}-wal"), format!("{store}-shm")] {
                match fs::remove_file(dir.join(&left)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(OpenError::not_writable(&dir.join(left), &error));
                    }
                    _ => {}
                }
            }
            folder.stores.retain(|own| own != store);
            folder.write(dir)?;
            Ok(true)
        })
    }

    fn begin(dir: &Path) -> Result<Self, OpenError> {
        change(dir, || {
            // Another process may have been faster.
            if let Some(folder) = Self::read(dir)? {
                return Ok(folder);
            }
            if let Some(store) = STORES.iter().find(|store| folder_of(&dir.join(store)).is_some()) {
                let why = format!("it is missing, though `{store}` was made here");
                return Err(OpenError::Lost { path: dir.join(FILE), why });
            }
            let mut name = [0; 16];
            aws_lc_rs::rand::fill(&mut name).map_err(|_| {
                let why = "the system gives no random numbers".to_owned();
                OpenError::NotWritable { path: dir.join(FILE), why }
            })?;
            let name = u128::from_be_bytes(name);
            let folder = Self { folder: format!("{name:032x}"), stores: Vec::new() };
            folder.write(dir)?;
            Ok(folder)
        })
    }

    fn check(&self, path: &Path) -> Result<(), OpenError> {
        let lost = |why: &str| Err(OpenError::Lost { path: path.to_owned(), why: why.to_owned() });
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => lost("it is missing"),
            Err(error) => Err(OpenError::not_writable(path, &error)),
            Ok(file) if file.is_dir() => Err(OpenError::folder_at(path)),
            Ok(file) if file.len() == 0 => lost("it is empty"),
            // Before it is opened: a log beside it would be folded into the wrong file.
            Ok(_) => match folder_of(path) {
                Some(folder) if folder != self.folder => lost("it is another folder's"),
                _ => Ok(()),
            },
        }
    }

    fn write(&self, dir: &Path) -> Result<(), OpenError> {
        let text = serde_json::to_vec_pretty(self).expect("a list of texts");
        let written = durable::prepare(dir, FILE, &text)
            .and_then(|prepared| durable::finish(dir, FILE, &prepared));
        // Whether it happened or not, the next start finds one of both and goes on from there.
        written.map_err(|error| OpenError::not_writable(&dir.join(FILE), &error))
    }
}

/// Runs `work` while no other process changes the file.
fn change<T>(dir: &Path, work: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let lock = durable::lock(dir, LOCK);
    let _lock = lock.map_err(|error| OpenError::not_writable(&dir.join(LOCK), &error))?;
    work()
}
