//! Posts, and follows them to a reader.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use chirp::wire::api::Tweet;

use crate::driver::Connection;

/// A follower looks this often for a tweet that is followed.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// A tweet that is not seen by then is lost.
pub(crate) const SEEN_MAX: Duration = Duration::from_mins(1);

/// A tweet that was accepted.
pub(crate) struct Posted {
    /// How it begins on a page.
    pub(crate) name: String,
    pub(crate) accepted: Instant,
}

/// Posts tweet `number` as whoever has the token.
pub(crate) async fn post(connection: &mut Connection, token: &str, number: u32) -> Posted {
    let body = format!("{{\"text\":\"post number {number} of a bench\"}}");
    let request = format!(
        "POST /tweets HTTP/1.1\r\nhost: chirp\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    );
    let answer = connection.call(request.as_bytes()).await;
    assert_eq!(answer.status, 201);
    let tweet: Tweet = serde_json::from_slice(answer.body).unwrap();
    Posted { name: format!("{{\"id\":\"{}\"", tweet.id), accepted: Instant::now() }
}

/// Sends `request`, a read, until the tweet shows: how long after it was accepted, unless it is lost.
pub(crate) async fn seen(address: SocketAddr, request: &[u8], posted: &Posted) -> Option<Duration> {
    let mut connection = Connection::open(address).await;
    loop {
        let shown = shows(&mut connection, request, posted).await;
        let took = posted.accepted.elapsed();
        if shown {
            return Some(took);
        }
        if took > SEEN_MAX {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether the page that `request` reads is there and has the tweet.
pub(crate) async fn shows(connection: &mut Connection, request: &[u8], posted: &Posted) -> bool {
    let answer = connection.call(request).await;
    // Servers that are busy may not answer in time.
    answer.status == 200
        && answer.body.windows(posted.name.len()).any(|part| part == posted.name.as_bytes())
}
