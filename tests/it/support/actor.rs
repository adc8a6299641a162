//! Somebody who uses the stack. Every action asserts that it was accepted; use
//! [`Actor::call`] for what should be refused.

use std::net::SocketAddr;

use chirp::{
    domain::TweetId,
    wire::api::{Page, PostedTweet, Profile, Session, Tweet},
};
use serde_json::{Value, json};

use super::{Answer, Client, TestApp, eventually, sse::Stream};

/// The password of everybody.
pub const PASSWORD: &str = "correct horse battery";

/// Somebody with an open session.
#[derive(Clone)]
pub struct Actor {
    pub handle: String,
    pub session: Session,
    client: Client,
    address: SocketAddr,
}

impl Actor {
    pub(super) async fn signs_up(app: &TestApp, handle: &str) -> Self {
        let body = json!({ "handle": handle, "password": PASSWORD });
        let answer = app.client.call(app.address, "POST", "/users", &[], Some(&body)).await;
        Self::with(app, answer.unwrap().expect(201).json())
    }

    /// Somebody who logs in with the password.
    pub async fn logs_in(app: &TestApp, handle: &str) -> Self {
        let body = json!({ "handle": handle, "password": PASSWORD });
        let answer = app.client.call(app.address, "POST", "/sessions", &[], Some(&body)).await;
        Self::with(app, answer.unwrap().expect(201).json())
    }

    /// Somebody with this session.
    pub fn with(app: &TestApp, session: Session) -> Self {
        let handle = session.user.handle.as_str().to_owned();
        Self { handle, session, client: app.client.clone(), address: app.address }
    }

    /// Goes on at another address, after a restart.
    pub fn moves_to(&mut self, app: &TestApp) {
        self.address = app.address;
    }

    /// Any call with this actor's token.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, &[], body).await
    }

    /// Any call with this actor's token and more headers.
    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        self.tries(method, path, headers, body).await.unwrap()
    }

    /// Any call, which may find that the stack has gone.
    pub async fn tries(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Answer, String> {
        let bearer = format!("Bearer {}", self.session.access_token);
        let all = [&[("authorization", bearer.as_str())], headers].concat();
        self.client.call(self.address, method, path, &all, body.as_ref()).await
    }

    pub async fn tweets(&self, text: &str) -> Tweet {
        let posted: PostedTweet =
            self.call("POST", "/tweets", Some(json!({ "text": text }))).await.expect(201).json();
        posted.tweet
    }

    /// Deletes a tweet. The answer promises that nobody sees it any more.
    pub async fn deletes(&self, id: TweetId) {
        self.call("DELETE", &format!("/tweets/{id}"), None).await.expect(204);
    }

    pub async fn follows(&self, handle: &str) {
        let answer = self.call("POST", "/follow", Some(json!({ "handle": handle }))).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }

    /// Unfollows. The answer promises that nothing of them is seen any more.
    pub async fn unfollows(&self, handle: &str) {
        self.call("DELETE", &format!("/follow/{handle}"), None).await.expect(204);
    }

    pub async fn blocks(&self, handle: &str) {
        let answer = self.call("PUT", &format!("/blocks/{handle}"), None).await;
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    }

    pub async fn unblocks(&self, handle: &str) {
        let answer = self.call("DELETE", &format!("/blocks/{handle}"), None).await;
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
    }

    pub async fn profile(&self, handle: &str) -> Profile {
        self.call("GET", &format!("/users/{handle}"), None).await.expect(200).json()
    }

    /// The newest page of the home timeline.
    pub async fn timeline(&self) -> Page {
        self.page("/timeline").await
    }

    /// A page of any timeline, with its query.
    pub async fn page(&self, path: &str) -> Page {
        self.call("GET", path, None).await.expect(200).json()
    }

    /// The texts of the newest page, newest first.
    pub async fn reads(&self) -> Vec<String> {
        texts(&self.timeline().await)
    }

    pub async fn sees(&self, id: TweetId) -> bool {
        self.timeline().await.tweets.iter().any(|tweet| tweet.id == id)
    }

    pub async fn eventually_sees(&self, id: TweetId) {
        let what = format!("{} sees tweet {id}", self.handle);
        eventually(&what, || async { self.sees(id).await.then_some(()) }).await;
    }

    /// Every tweet of a list from the newest down to the end, by `next` cursors.
    pub async fn walks_down(&self, list: &str, limit: usize) -> Vec<TweetId> {
        let mut found = Vec::new();
        let mut path = format!("{list}?limit={limit}");
        loop {
            let page = self.page(&path).await;
            assert!(!page.degraded, "{path}");
            assert!(page.tweets.len() <= limit, "{path}");
            found.extend(page.tweets.iter().map(|tweet| tweet.id));
            let Some(next) = page.next else { return found };
            path = format!("{list}?limit={limit}&before={next}");
        }
    }

    /// Every tweet of a list above `from`, newest first, by `prev` cursors.
    pub async fn walks_up(&self, list: &str, limit: usize, from: TweetId) -> Vec<TweetId> {
        let mut found: Vec<TweetId> = Vec::new();
        let mut after = from;
        loop {
            let page = self.page(&format!("{list}?limit={limit}&after={after}")).await;
            assert!(!page.degraded, "above {after}");
            assert!(page.tweets.len() <= limit, "above {after}");
            let Some(prev) = page.prev else { return found };
            found.splice(0..0, page.tweets.iter().map(|tweet| tweet.id));
            after = prev;
        }
    }

    /// Opens the stream of the home timeline.
    pub async fn streams(&self) -> Stream {
        let bearer = format!("Bearer {}", self.session.access_token);
        let headers = [("authorization", bearer.as_str())];
        let path = "/timeline/stream";
        let answer = self.client.open(self.address, "GET", path, &headers, None).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Stream::new(answer.into_body())
    }
}

/// The texts of a page.
pub fn texts(page: &Page) -> Vec<String> {
    page.tweets.iter().map(|tweet| tweet.text.as_str().to_owned()).collect()
}
