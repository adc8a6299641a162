//! A client of the public API: one user at the gateway, over the faulty network.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Serialize, de::DeserializeOwned};

use super::history::Who;
use crate::{
    domain::{TweetId, UserId},
    ports::{Outcome, Rpc, rpc::Door},
    wire::{
        api::{LogIn, Page, Session, SignUp},
        problem::Problem,
        routes::Role,
    },
};

/// A client gives up after this time: longer than any time limit behind it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Every simulated user's password.
const PASSWORD: &str = "correct horse";

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status; `None` if no answer came, so that it may have happened.
    pub status: Option<StatusCode>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Whether the status is this.
    #[must_use]
    pub fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }

    /// Whether it was refused for certain, as the client's own mistake.
    #[must_use]
    pub fn refused(&self) -> bool {
        self.status.is_some_and(|status| status.is_client_error())
    }

    /// The body, if it has this shape.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Status and problem, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let Some(status) = self.status else { return "no answer".to_owned() };
        match self.json::<Problem>() {
            Some(problem) => {
                let detail = problem.detail.unwrap_or_default();
                format!("{status} {} {detail}", problem.kind)
            }
            None => status.to_string(),
        }
    }
}

/// What a page is asked for with.
#[derive(Clone, Copy, Debug)]
pub enum Cursor {
    /// The newest.
    Latest,
    /// Older than this.
    Before(TweetId),
    /// Newer than this.
    After(TweetId),
}

impl Cursor {
    /// Path and query of a list.
    #[must_use]
    pub fn path(self, list: &str, limit: usize) -> String {
        match self {
            Self::Latest => format!("{list}?limit={limit}"),
            Self::Before(id) => format!("{list}?limit={limit}&before={id}"),
            Self::After(id) => format!("{list}?limit={limit}&after={id}"),
        }
    }

    /// Whether the page may hold this id.
    #[must_use]
    pub fn holds(self, id: TweetId) -> bool {
        match self {
            Self::Latest => true,
            Self::Before(bound) => id < bound,
            Self::After(bound) => id > bound,
        }
    }
}

/// One user.
pub struct Client {
    /// Which.
    pub who: Who,
    /// The handle.
    pub handle: String,
    rpc: Arc<dyn Rpc>,
    random: Mutex<Pcg64>,
    login: Mutex<Option<Login>>,
}

#[derive(Clone)]
struct Login {
    user: UserId,
    token: String,
}

impl Client {
    /// User `who`, not signed up yet.
    #[must_use]
    pub fn new(who: Who, rpc: Arc<dyn Rpc>, random: Pcg64) -> Arc<Self> {
        let handle = handle_of(who);
        Arc::new(Self { who, handle, rpc, random: Mutex::new(random), login: Mutex::default() })
    }

    /// The user's id; 0 before the sign-up.
    #[must_use]
    pub fn id(&self) -> UserId {
        self.login.lock().as_ref().map(|login| login.user).unwrap_or_default()
    }

    /// Signs up.
    pub async fn sign_up(&self) -> Answer {
        let body = SignUp {
            handle: self.handle.clone(),
            name: Some(format!("User {}", self.who)),
            password: PASSWORD.to_owned(),
        };
        let answer = self.send(Method::POST, "/users", Some(&body), None).await;
        self.take_session(&answer);
        answer
    }

    async fn log_in(&self) -> bool {
        let body = LogIn {
            handle: Some(self.handle.clone()),
            password: Some(PASSWORD.to_owned()),
            refresh_token: None,
        };
        let answer = self.send(Method::POST, "/sessions", Some(&body), None).await;
        self.take_session(&answer)
    }

    fn take_session(&self, answer: &Answer) -> bool {
        let session = answer.is(StatusCode::CREATED).then(|| answer.json::<Session>()).flatten();
        let known = session.is_some();
        if let Some(session) = session {
            let login = Login { user: session.user.id, token: session.access_token };
            *self.login.lock() = Some(login);
        }
        known
    }

    /// Sends a request as this user; logs in again if the token has ended.
    pub async fn call<T: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&T>,
        key: Option<&str>,
    ) -> Answer {
        let answer = self.send(method.clone(), path, body, key).await;
        if answer.is(StatusCode::UNAUTHORIZED) && self.log_in().await {
            return self.send(method, path, body, key).await;
        }
        answer
    }

    /// `GET` as this user.
    pub async fn get(&self, path: &str) -> Answer {
        self.call::<()>(Method::GET, path, None, None).await
    }

    /// A page of `list`.
    pub async fn page(&self, list: &str, cursor: Cursor, limit: usize) -> Result<Page, Answer> {
        let answer = self.get(&cursor.path(list, limit)).await;
        let page = answer.is(StatusCode::OK).then(|| answer.json()).flatten();
        page.ok_or(answer)
    }

    async fn send<T: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&T>,
        key: Option<&str>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(login) = &*self.login.lock() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", login.token));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let bytes = body.map(|body| {
            serde_json::to_vec(body).expect("bodies of the api can be written as json")
        });
        if bytes.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Body::from(bytes.unwrap_or_default()))
            .expect("simulated users send valid requests");
        self.deliver(request).await
    }

    /// To a gateway that seems to be up; to another one if it was not sent.
    async fn deliver(&self, request: Request<Body>) -> Answer {
        let count = self.rpc.replicas(Role::Gateway).max(1);
        let drawn = self.random.lock().random_range(0..count);
        let order = (0..count).map(|step| (drawn + step) % count);
        let up = order.clone().find(|&replica| self.rpc.healthy(Role::Gateway, replica));
        let replica = up.unwrap_or(drawn);
        let call = self.rpc.call(Role::Gateway, replica, Door::Public, request);
        let none = Answer { status: None, body: Bytes::new() };
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Outcome::Done(response)) => {
                let (parts, body) = response.into_parts();
                match body.collect().await {
                    Ok(body) => Answer { status: Some(parts.status), body: body.to_bytes() },
                    Err(_) => none,
                }
            }
            // "Failed" would be certain, but a user at a screen could not tell.
            Ok(Outcome::Failed(_) | Outcome::Unknown(_)) | Err(_) => none,
        }
    }
}

/// The handle of user `who`.
#[must_use]
pub fn handle_of(who: Who) -> String {
    format!("u{who}")
}

/// Which user has this handle.
#[must_use]
pub fn who_of(handle: &str) -> Option<Who> {
    handle.strip_prefix('u')?.parse().ok()
}
