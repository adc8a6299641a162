//! Server-sent events, read one at a time.

use chirp::domain::TweetId;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::patience;

/// An event.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: Value,
}

/// An open stream.
pub struct Stream {
    body: Incoming,
    text: String,
}

impl Stream {
    pub fn new(body: Incoming) -> Self {
        Self { body, text: String::new() }
    }

    /// The next event with this name; others are skipped.
    pub async fn next(&mut self, name: &str) -> Event {
        let find = async {
            loop {
                let event = self.any().await;
                if event.name == name {
                    return event;
                }
            }
        };
        let found = tokio::time::timeout(patience(), find).await;
        found.unwrap_or_else(|_| panic!("no `{name}` came"))
    }

    /// The next event with this name about this tweet; others are skipped.
    pub async fn next_with(&mut self, name: &str, tweet: TweetId) -> Event {
        loop {
            let event = self.next(name).await;
            if event.data["id"] == tweet.to_string() {
                return event;
            }
        }
    }

    /// Waits until the server ends the stream.
    pub async fn ends(mut self) {
        let end = async { while let Some(Ok(_)) = self.body.frame().await {} };
        assert!(tokio::time::timeout(patience(), end).await.is_ok(), "the stream goes on");
    }

    async fn any(&mut self) -> Event {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |wanted: &str| {
                    let lines = block.lines().filter_map(|line| line.split_once(':'));
                    let mut values = lines.filter(|(name, _)| *name == wanted);
                    values.next().map_or("", |(_, value)| value.trim()).to_owned()
                };
                let data = serde_json::from_str(&field("data")).unwrap_or_default();
                let event = Event { name: field("event"), id: field("id"), data };
                self.text = rest.to_string();
                return event;
            }
            let frame = self.body.frame().await.expect("the stream goes on").unwrap();
            let bytes = frame.into_data().unwrap_or_default();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}
