//! Which backends a data folder has been used with, so that data never seems lost because the next
//! start looks elsewhere.
//!
//! Embedded stores are files of the folder, listed in `stores.json`. For the other kinds the folder
//! holds `backends.json`: the kind; a random name, by which the folder's containers are found; and
//! whether those are kept.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{DataDir, StackError, data_dir::unreadable};
use crate::{adapters::embedded::folder, rt::Rt};

/// The file.
pub const FILE: &str = "backends.json";

/// What `backends.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// `containers` or `external`.
    pub kind: String,
    /// 32 hexadecimal digits.
    pub stack: String,
    /// Whether the containers, and what is in them, stay after the end.
    pub kept: bool,
    /// Whether containers that stay were all made once: one that is not there now is lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made: bool,
}

impl DataDir {
    /// What the folder was used with, if not with embedded stores.
    ///
    /// # Errors
    /// [`StackError::Corrupt`].
    pub fn known(&self) -> Result<Option<Known>, StackError> {
        let path = self.root().join(FILE);
        let corrupt = |reason: String| StackError::Corrupt { path: path.clone(), reason };
        let text = match fs::read(&path) {
            // No folder, or something else in its place: then nobody knows it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&path, &error)),
            Ok(text) => text,
        };
        let known = serde_json::from_slice::<Known>(&text).ok().filter(|known| {
            let name = known.stack.bytes().all(|byte| byte.is_ascii_hexdigit());
            name && known.stack.len() == 32 && matches!(&*known.kind, "containers" | "external")
        });
        known.map(Some).ok_or_else(|| corrupt("it does not say which backends".to_owned()))
    }

    /// The kind that the folder was used with; `None` before the first start.
    ///
    /// # Errors
    /// [`StackError::Corrupt`].
    pub fn kind(&self) -> Result<Option<String>, StackError> {
        if let Some(known) = self.known()? {
            return Ok(Some(known.kind));
        }
        let embedded = self.root().join(folder::FILE).exists();
        Ok(embedded.then(|| "embedded".to_owned()))
    }

    /// Refuses `kind` for a folder that was used with another one.
    ///
    /// # Errors
    /// [`StackError::OtherKind`], [`StackError::Corrupt`].
    pub fn check_kind(&self, kind: &str) -> Result<(), StackError> {
        match self.kind()? {
            Some(found) if found != kind => {
                let (path, wanted) = (self.root().to_owned(), kind.to_owned());
                Err(StackError::OtherKind { path, found, wanted })
            }
            _ => Ok(()),
        }
    }

    /// As [`DataDir::check_kind`], for one of several processes over servers, which may be the folder's
    /// containers, or over files.
    ///
    /// # Errors
    /// [`StackError::OtherKind`], [`StackError::Corrupt`].
    pub fn check_shared_kind(&self, external: bool) -> Result<(), StackError> {
        match self.kind()?.as_deref() {
            Some("containers") if external => Ok(()),
            _ => self.check_kind(if external { "external" } else { "embedded" }),
        }
    }

    /// Writes down that the folder is used with `kind`, which is not embedded. The caller holds the
    /// folder. What is once kept stays kept.
    ///
    /// # Errors
    /// As [`DataDir::check_kind`], and [`StackError::Unwritable`].
    pub fn claim_kind(&self, rt: &Rt, kind: &str, kept: bool) -> Result<Known, StackError> {
        self.check_kind(kind)?;
        let found = self.known()?;
        let known = if let Some(found) = &found {
            Known { kept: found.kept || kept, ..found.clone() }
        } else {
            let stack = format!("{:016x}{:016x}", rt.random_u64(), rt.random_u64());
            Known { kind: kind.to_owned(), stack, kept, made: false }
        };
        if found.as_ref() != Some(&known) {
            self.write_known(&known)?;
        }
        Ok(known)
    }

    /// Writes down that the containers that stay are all there. The caller holds the folder.
    ///
    /// # Errors
    /// [`StackError::Unwritable`].
    pub fn claim_made(&self, known: &Known) -> Result<(), StackError> {
        if known.made || !known.kept {
            return Ok(());
        }
        self.write_known(&Known { made: true, ..known.clone() })
    }

    fn write_known(&self, known: &Known) -> Result<(), StackError> {
        let path = self.root().join(FILE);
        let json = serde_json::to_vec_pretty(known).expect("it has only texts");
        replace(&path, &json).map_err(|error| StackError::unwritable(&path, &error))
    }
}

/// Puts `bytes` in the place of the file `path`, whole or not at all, for its owner's eyes only.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    match fs::remove_file(&fresh) {
        // One left by a crash may have been made by another umask.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::tokio_rt::TokioRuntime;

    #[test]
    fn a_folder_keeps_its_kind_and_its_name_and_what_is_kept_stays_kept() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::at(&parent.path().join("data"));
        assert_eq!(dir.kind().unwrap(), None);
        dir.create().unwrap();
        let rt = TokioRuntime::handle();
        let first = dir.claim_kind(&rt, "containers", true).unwrap();
        let again = dir.claim_kind(&rt, "containers", false).unwrap();
        assert_eq!(first, again);
        for other in ["embedded", "external"] {
            let refused = dir.check_kind(other);
            assert!(matches!(refused, Err(StackError::OtherKind { .. })), "{refused:?}");
        }
        fs::write(dir.root().join(FILE), "{}").unwrap();
        assert!(matches!(dir.kind(), Err(StackError::Corrupt { .. })));
    }

    #[test]
    fn a_folder_of_embedded_stores_is_not_opened_with_others() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::at(parent.path());
        fs::write(parent.path().join(folder::FILE), "").unwrap();
        dir.check_kind("embedded").unwrap();
        let refused = dir.claim_kind(&TokioRuntime::handle(), "containers", false);
        assert!(matches!(refused, Err(StackError::OtherKind { .. })), "{refused:?}");
        assert!(!dir.root().join(FILE).exists());
    }
}
