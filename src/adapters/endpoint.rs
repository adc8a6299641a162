//! Where a server is, and what logs in there.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    config::{Cassandra, Postgres, Redis, Secret},
    ports::{Kind, Read, StoreError, TokenProvider},
    rt::Rt,
};

/// The longest password or token that is read out of a file; those of IAM have one to two thousand
/// bytes.
const TOKEN_MAX: usize = 16 * 1_024;
/// How long a file is waited for: far above what a disk takes, below the limits that a connection has
/// by default.
const READ_MAX: Duration = Duration::from_millis(400);
/// The store in the errors of a provider.
const STORE: &str = "login";

/// Where a server is, and what logs in there; cheap to clone.
pub struct Endpoint<C> {
    /// The server's section of the configuration.
    pub config: Arc<C>,
    /// What logs in. The section's own password is for whoever makes this.
    pub tokens: Arc<dyn TokenProvider>,
}

impl<C> Clone for Endpoint<C> {
    fn clone(&self) -> Self {
        Self { config: Arc::clone(&self.config), tokens: Arc::clone(&self.tokens) }
    }
}

/// A section of the configuration that leads to a server.
pub trait Login: Clone {
    /// The password, and the file that holds it instead.
    fn login(&self) -> (&Secret, &Path);
}

impl Login for Postgres {
    fn login(&self) -> (&Secret, &Path) {
        (&self.password, &self.password_file)
    }
}

impl Login for Redis {
    fn login(&self) -> (&Secret, &Path) {
        (&self.password, &self.password_file)
    }
}

impl Login for Cassandra {
    fn login(&self) -> (&Secret, &Path) {
        (&self.password, &self.password_file)
    }
}

impl<C: Login> Endpoint<C> {
    /// As `config` says: by a password, or by what a file holds.
    #[must_use]
    pub fn configured(rt: &Rt, config: &C) -> Self {
        let (password, file) = config.login();
        let tokens: Arc<dyn TokenProvider> = if file.as_os_str().is_empty() {
            Arc::new(FixedToken(password.clone()))
        } else {
            Arc::new(TokenFile::new(rt, file))
        };
        Self { config: Arc::new(config.clone()), tokens }
    }
}

impl<C> Endpoint<C> {
    /// What logs in now, or that it was not given within `limit`.
    pub async fn token(&self, rt: &Rt, limit: Duration) -> Read<Secret> {
        rt.timeout(limit, self.tokens.token()).await.unwrap_or_else(|_| Err(late()))
    }
}

/// What is said of a provider that does not answer.
#[must_use]
pub fn late() -> StoreError {
    StoreError::new(Kind::Timeout, STORE, "no password was given in time")
}

/// A password that never changes.
struct FixedToken(Secret);

#[async_trait]
impl TokenProvider for FixedToken {
    async fn token(&self) -> Read<Secret> {
        Ok(self.0.clone())
    }
}

/// What a file holds at the moment, without white space around it. While it cannot be read, as when
/// it is being replaced, what was read last goes on being used.
struct TokenFile {
    rt: Rt,
    path: PathBuf,
    last: parking_lot::Mutex<Option<Secret>>,
    /// Held by the thread that reads: a disk that hangs must not take one after another.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl TokenFile {
    /// Reads nothing yet.
    fn new(rt: &Rt, path: &Path) -> Self {
        let (last, turn) = Default::default();
        Self { rt: rt.clone(), path: path.to_owned(), last, turn }
    }

    async fn read(&self) -> io::Result<Secret> {
        let reads = async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let path = self.path.clone();
            let job = move || {
                let _turn = turn;
                read_secret(&path)
            };
            self.rt.blocking(job).await.unwrap_or_else(|| Err(io::Error::other("a panic")))
        };
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the disk"));
        self.rt.timeout(READ_MAX, reads).await.unwrap_or_else(late)
    }
}

#[async_trait]
impl TokenProvider for TokenFile {
    async fn token(&self) -> Read<Secret> {
        let why = match self.read().await {
            Ok(token) => {
                self.last.lock().replace(token.clone());
                return Ok(token);
            }
            Err(error) => {
                format!("no password can be read from `{}`: {error}", self.path.display())
            }
        };
        let last = self.last.lock().clone();
        last.inspect(|_| tracing::warn!(error = why, "what was read last is used again"))
            .ok_or_else(|| StoreError::new(Kind::Unavailable, STORE, why))
    }
}

/// The secret that a file holds, without white space around it.
///
/// # Errors
/// It is no file that can be read, is not text, or is empty or longer than 16 KiB.
pub fn read_secret(path: &Path) -> io::Result<Secret> {
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    // Opening a pipe waits until somebody writes to it.
    if !path.metadata()?.is_file() {
        return wrong("it is not a file");
    }
    let mut text = String::new();
    File::open(path)?.take(TOKEN_MAX as u64 + 1).read_to_string(&mut text)?;
    if text.len() > TOKEN_MAX {
        return wrong(&format!("it is longer than {} KiB", TOKEN_MAX >> 10));
    }
    match text.trim() {
        "" => wrong("it is empty"),
        token => Ok(Secret(token.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::rt::tokio_rt::TokioRuntime;

    fn tokens(path: &Path) -> Arc<dyn TokenProvider> {
        let config = Redis { password_file: path.to_owned(), ..Redis::default() };
        Endpoint::configured(&TokioRuntime::handle(), &config).tokens
    }

    #[tokio::test]
    async fn what_a_file_holds_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let tokens = tokens(&path);
        for token in ["hunter2", "hunter3"] {
            fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(tokens.token().await.unwrap().0, token);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(tokens.token().await.unwrap().0, "hunter3", "the last one");
        fs::write(&path, "hunter4").unwrap();
        assert_eq!(tokens.token().await.unwrap().0, "hunter4");
    }

    #[tokio::test]
    async fn a_file_that_never_held_a_password_is_named_and_its_text_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (wrong, why) in [
            (None, "No such file"),
            (Some(b" \n".to_vec()), "it is empty"),
            (Some(b"hunter2".repeat(TOKEN_MAX)), "16 KiB"),
            (Some(b"hunter2\xff".to_vec()), "UTF-8"),
        ] {
            wrong.inspect(|wrong| fs::write(&path, wrong).unwrap());
            let refused = tokens(&path).token().await.unwrap_err().to_string();
            assert!(refused.contains("password`: ") && refused.contains(why), "{refused}");
            assert!(!refused.contains("hunter"), "{refused}");
        }
        let refused = tokens(folder.path()).token().await.unwrap_err().to_string();
        assert!(refused.contains("not a file"), "{refused}");
    }

    #[tokio::test]
    async fn a_password_of_the_configuration_is_given_as_it_is() {
        let config = Postgres { password: Secret(" hunter2".to_owned()), ..Postgres::default() };
        let tokens = Endpoint::configured(&TokioRuntime::handle(), &config).tokens;
        assert_eq!(tokens.token().await.unwrap().0, " hunter2");
        let none = Endpoint::configured(&TokioRuntime::handle(), &Cassandra::default()).tokens;
        assert_eq!(none.token().await.unwrap().0, "");
    }
}
