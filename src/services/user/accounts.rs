//! Sign-up, log-in, refresh and log-out.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::{keys::Keys, passwords::Passwords};
use crate::{
    domain::{DisplayName, Handle, SessionId, UserId, snowflake::Snowflake},
    ports::{
        Account, CreateUser, NewUser, Outcome, Refresh, RefreshHash, SessionRow, StoreError,
        UserStore, outcome::twice,
    },
    rt::points,
    services::kit::{
        Code, Common, Fault, Kit,
        auth::Verifier,
        token::{Claims, ISSUER},
    },
    wire::api::{LogIn, Session, SignUp, User},
};

/// The shortest password, in characters (NIST SP 800-63B).
const PASSWORD_MIN: usize = 8;
/// The longest password, in characters.
const PASSWORD_MAX: usize = 256;
/// Candidate ids tried for one account.
const IDS_TRIED: usize = 8;
/// Attempts at a read without which a used-up refresh token would be lost.
const READS_TRIED: usize = 3;

/// Accounts and their sessions.
pub(super) struct Accounts {
    common: Common,
    verifier: Arc<Verifier>,
    users: Arc<dyn UserStore>,
    keys: Arc<Keys>,
    passwords: Passwords,
    ids: Mutex<Snowflake>,
}

impl Accounts {
    pub(super) fn new(kit: &Kit, users: Arc<dyn UserStore>, keys: Arc<Keys>) -> Self {
        let common = kit.common.clone();
        let passwords = Passwords::new(common.rt.clone(), &common.config.auth);
        let ids = Mutex::new(Snowflake::new(common.replica as u16));
        Self { common, verifier: Arc::clone(&kit.verifier), users, keys, passwords, ids }
    }

    /// Makes an account and logs it in.
    pub(super) async fn sign_up(&self, asked: SignUp) -> Result<Session, Fault> {
        let handle =
            Handle::parse(&asked.handle).map_err(|e| Fault::field("handle", e.to_string()))?;
        let name = asked.name.as_deref().unwrap_or_else(|| handle.as_str());
        let name = DisplayName::parse(name).map_err(|e| Fault::field("name", e.to_string()))?;
        check_password(&asked.password)?;
        // Spares the hash; the transaction decides.
        if self.users.by_handle(&handle).await?.is_some() {
            return Err(Code::HandleTaken.into());
        }
        let password = self.passwords.hash(asked.password).await?;
        let created_at_ms = self.common.rt.wall_ms();
        let account = Account { id: UserId(0), handle, name, created_at_ms };
        let account = self.create(NewUser { account, password }).await?;
        self.open(account)
            .await
            .map_err(|fault| fault.detail("the account was made, but no session: log in"))
    }

    async fn create(&self, mut new: NewUser) -> Result<Account, Fault> {
        for _ in 0..IDS_TRIED {
            new.account.id = UserId(self.ids.lock().next(self.common.rt.wall_ms()));
            self.common.rt.point(points::COMMIT).await;
            // The same id and handle give the same answer again.
            let (outcome, _) = twice(|| self.users.create_user(&new)).await;
            self.common.rt.point(points::COMMIT).await;
            match outcome {
                Outcome::Done(CreateUser::Created) => return Ok(new.account),
                Outcome::Done(CreateUser::HandleTaken) => return Err(Code::HandleTaken.into()),
                Outcome::Done(CreateUser::IdTaken) => {}
                Outcome::Failed(error) => return Err(error.into()),
                Outcome::Unknown(error) => {
                    return Err(unknown(&error, "the account may exist: try to log in"));
                }
            }
        }
        Err(Code::Unavailable.into())
    }

    /// Logs in by password or by refresh token.
    pub(super) async fn log_in(&self, asked: LogIn) -> Result<Session, Fault> {
        match asked {
            LogIn { handle: Some(handle), password: Some(password), refresh_token: None } => {
                self.by_password(&handle, password).await
            }
            LogIn { handle: None, password: None, refresh_token: Some(token) } => {
                self.by_refresh(&token).await
            }
            LogIn { refresh_token: None, handle: Some(_), .. } => {
                Err(Fault::field("password", "the field is missing"))
            }
            LogIn { refresh_token: None, .. } => {
                Err(Fault::field("handle", "send handle and password, or a refresh_token"))
            }
            LogIn { .. } => {
                Err(Fault::field("refresh_token", "send either this or handle and password"))
            }
        }
    }

    async fn by_password(&self, handle: &str, password: String) -> Result<Session, Fault> {
        if password.chars().count() > PASSWORD_MAX {
            return Err(Code::WrongCredentials.into());
        }
        let found = match Handle::parse(handle) {
            Ok(handle) => self.users.credentials(&handle).await?,
            Err(_) => None,
        };
        let (account, hash) = found.unzip();
        let right = self.passwords.verify(password, hash).await?;
        match account {
            Some(account) if right => self.open(account).await,
            _ => Err(Code::WrongCredentials.into()),
        }
    }

    async fn by_refresh(&self, token: &str) -> Result<Session, Fault> {
        let old = hash(token);
        let (next, new) = self.new_refresh();
        self.common.rt.point(points::COMMIT).await;
        let outcome = self.users.refresh(old, new, self.common.rt.wall_ms()).await;
        self.common.rt.point(points::COMMIT).await;
        match outcome {
            Outcome::Done(Refresh::Rotated(row)) => {
                // The old token is used up, whatever comes now.
                let lost = |_| {
                    Fault::from(Code::UnknownOutcome)
                        .detail("the refresh token is used up: log in again")
                };
                let account = self.account(row.user).await.map_err(lost)?;
                self.session(account, row.id, next).map_err(lost)
            }
            Outcome::Done(Refresh::Reused(session)) => {
                tracing::warn!(%session, "a refresh token was used twice: session ended");
                self.verifier.revoke(session);
                Err(Fault::from(Code::SessionEnded).detail("the refresh token was used before"))
            }
            Outcome::Done(Refresh::Unknown) => Err(Code::SessionEnded.into()),
            Outcome::Failed(error) => Err(error.into()),
            // Never repeated here: a second use of the token would end the session.
            Outcome::Unknown(error) => {
                Err(unknown(&error, "the refresh token may be used up: log in again"))
            }
        }
    }

    /// Ends a session.
    pub(super) async fn log_out(&self, session: SessionId) -> Result<(), Fault> {
        let now = self.common.rt.wall_ms();
        self.common.rt.point(points::COMMIT).await;
        let (outcome, _) = twice(|| self.users.revoke(session, now)).await;
        self.common.rt.point(points::COMMIT).await;
        match outcome {
            Outcome::Done(_) => {
                self.verifier.revoke(session);
                Ok(())
            }
            Outcome::Failed(error) => Err(error.into()),
            Outcome::Unknown(error) => Err(unknown(&error, "the session may have ended")),
        }
    }

    /// The account with this id, which has a session and therefore exists.
    pub(super) async fn account(&self, id: UserId) -> Result<Account, Fault> {
        let mut last = None;
        for _ in 0..READS_TRIED {
            match self.users.by_id(id).await {
                Ok(account) => return account.ok_or_else(|| Code::SessionEnded.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| Code::Unavailable.into(), Fault::from))
    }

    /// Opens a session.
    async fn open(&self, account: Account) -> Result<Session, Fault> {
        let rt = &self.common.rt;
        let (token, refresh) = self.new_refresh();
        let life_ms = self.common.config.auth.session_ttl_s * 1_000;
        let row = SessionRow {
            // Random and not a snowflake: a taken id would go unnoticed.
            id: SessionId(rt.random_u64() >> 1),
            user: account.id,
            refresh,
            expires_at_ms: rt.wall_ms() + life_ms,
        };
        rt.point(points::COMMIT).await;
        let mut outcome = self.users.create_session(&row).await;
        if !outcome.is_done() {
            outcome = self.users.create_session(&row).await;
        }
        rt.point(points::COMMIT).await;
        // A session that nobody holds the token of is harmless, so unknown is as good as failed.
        outcome.certain()?;
        self.session(account, row.id, token)
    }

    fn session(
        &self,
        account: Account,
        session: SessionId,
        refresh_token: String,
    ) -> Result<Session, Fault> {
        let iat = self.common.rt.wall_ms() / 1_000;
        let expires_in_s = self.common.config.auth.access_ttl_s;
        let claims = Claims {
            sub: account.id,
            sid: session,
            handle: account.handle.clone(),
            name: account.name.clone(),
            iat,
            exp: iat + expires_in_s,
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            // Whoever signs up or logs in is counted, whatever token they came with.
            uncounted: false,
        };
        let access_token = self.keys.sign(&claims)?;
        Ok(Session { user: user(account), access_token, expires_in_s, refresh_token })
    }

    fn new_refresh(&self) -> (String, RefreshHash) {
        let mut bytes = [0; 32];
        self.common.rt.fill(&mut bytes);
        let token = URL_SAFE_NO_PAD.encode(bytes);
        let hash = hash(&token);
        (token, hash)
    }
}

/// An account as everybody may see it.
pub(super) fn user(account: Account) -> User {
    let Account { id, handle, name, created_at_ms } = account;
    User { id, handle, name, created_at_ms }
}

fn hash(token: &str) -> RefreshHash {
    Sha256::digest(token.as_bytes()).into()
}

fn unknown(error: &StoreError, detail: &'static str) -> Fault {
    tracing::warn!(%error, "the outcome of a write is unknown");
    Fault::from(Code::UnknownOutcome).detail(detail)
}

fn check_password(password: &str) -> Result<(), Fault> {
    let length = password.chars().take(PASSWORD_MAX + 1).count();
    if (PASSWORD_MIN..=PASSWORD_MAX).contains(&length) {
        Ok(())
    } else {
        Err(Fault::field("password", "a password has 8 to 256 characters"))
    }
}
