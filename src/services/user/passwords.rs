//! Passwords: argon2id, away from the async threads, few at a time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use tokio::sync::Semaphore;

use crate::{
    config::Auth,
    ports::PasswordHash,
    rt::Rt,
    services::kit::{Code, Fault},
};

/// Hashes and checks passwords.
pub(super) struct Passwords {
    rt: Rt,
    argon2: Argon2<'static>,
    running: Arc<Semaphore>,
    /// Those that run or wait.
    open: AtomicU64,
    open_max: u64,
}

impl Passwords {
    pub(super) fn new(rt: Rt, auth: &Auth) -> Self {
        let (memory, passes) = (auth.argon2_memory_kib as u32, auth.argon2_passes as u32);
        let params = Params::new(memory, passes, 1, None)
            .expect("validated configuration is within argon2's range");
        Self {
            rt,
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            running: Arc::new(Semaphore::new(auth.argon2_concurrency as usize)),
            open: AtomicU64::new(0),
            open_max: auth.argon2_concurrency + auth.argon2_queue_max,
        }
    }

    /// The hash of a new password.
    pub(super) async fn hash(&self, password: String) -> Result<PasswordHash, Fault> {
        let argon2 = self.argon2.clone();
        let salt = self.salt();
        let hash = self
            .run(move || {
                let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt).ok()?;
                Some(PasswordHash(hash.to_string()))
            })
            .await?;
        hash.ok_or_else(|| Code::Internal.into())
    }

    /// Whether `password` is the one that was hashed. Without a hash the answer is no, after the
    /// same work, so that time does not tell which handles exist.
    pub(super) async fn verify(
        &self,
        password: String,
        hash: Option<PasswordHash>,
    ) -> Result<bool, Fault> {
        let argon2 = self.argon2.clone();
        let salt = self.salt();
        self.run(move || {
            if let Some(hash) = hash {
                argon2.verify_password(password.as_bytes(), hash.0.as_str()).is_ok()
            } else {
                drop(argon2.hash_password_with_salt(password.as_bytes(), &salt));
                false
            }
        })
        .await
    }

    fn salt(&self) -> [u8; 16] {
        let mut salt = [0; 16];
        self.rt.fill(&mut salt);
        salt
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let _open = Open::take(&self.open, self.open_max).ok_or(Code::Overloaded)?;
        let permit = Arc::clone(&self.running).acquire_owned().await;
        let permit = permit.map_err(|_| Code::Internal)?;
        // The job owns its permit: a caller that gives up does not make room for another.
        let done = self.rt.blocking(move || {
            let result = job();
            drop(permit);
            result
        });
        done.await.ok_or_else(|| Code::Internal.into())
    }
}

struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    fn take(count: &'a AtomicU64, max: u64) -> Option<Self> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let open = Self(count);
        (before < max).then_some(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
