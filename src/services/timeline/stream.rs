//! `GET /timeline/stream`: the ordinary page read, repeated on a hint or after a while, sending what
//! this connection lacks. Server-sent events:
//!
//! - `tweet`: a tweet that was not sent before; `id` is the tweet's, `data` its JSON;
//! - `removed`: a tweet that was sent and may no longer be shown; a delete needs no read for it;
//! - `reset`: more is new than one page holds; the client reads the page anew;
//! - `ping`: nothing new, so that both ends notice a dead connection.

use std::{
    collections::{BTreeSet, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};

use super::{
    Core,
    error::Error,
    page::{List, Page},
};
use crate::{
    domain::{TweetId, UserId, Window},
    ports::{Hint, HintStream},
    rt::Instant,
    services::kit::{Caller, places::Place},
};

/// Hints of a burst are answered by one read; this is the least time between two.
const READ_GAP: Duration = Duration::from_millis(50);
/// Most tweets a connection remembers as sent: several pages, so that `removed` reaches back.
const SENT_MAX: usize = 500;
/// Most deletes a connection remembers, of everybody's. It is told of a delete before the replica's
/// near-cache forgets the body, and a page read within `timeline.near_ttl_ms` must not bring it back.
/// They are kept for twice that time; with more than this in it (8,000 a second by default) some may
/// come back until the next read.
const DELETED_MAX: usize = 4_096;
const PING: &[u8] = b"event: ping\ndata: {}\n\n";

/// One connection.
struct Connection {
    core: Arc<Core>,
    _place: Place<UserId>,
    caller: Caller,
    hints: Box<dyn HintStream>,
    sent: Sent,
    last_read: Option<Instant>,
}

/// What a connection was sent, and so need not be sent again.
struct Sent {
    ids: BTreeSet<TweetId>,
    /// What must not be sent any more, and when that was heard; the latest delete last.
    deleted: VecDeque<(Instant, TweetId)>,
    page_size: usize,
}

/// Why a connection has something to do.
#[derive(Clone, Copy)]
enum Wake {
    /// There may be news.
    Read,
    /// A tweet that was sent is deleted.
    Deleted(TweetId),
}

impl Core {
    /// Opens a stream of `caller`'s home timeline. It begins with the newest page, and ends with the
    /// access token, the session or the process. A user has at most `http.user_streams_max`.
    pub(super) async fn open_stream(
        self: &Arc<Self>,
        caller: Caller,
    ) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + Send + use<>, Error> {
        let most = self.config.http.user_streams_max as usize;
        let place = self.streams.take(caller.user, most).ok_or(Error::StreamsFull)?;
        let page_size = self.config.timeline.page_default as usize;
        let connection = Connection {
            // Before the first read, so that nothing falls between it and the first hint.
            hints: self.deps.hints.subscribe(caller.user).await,
            core: Arc::clone(self),
            _place: place,
            caller,
            sent: Sent::new(page_size),
            last_read: None,
        };
        Ok(stream::unfold(connection, |mut connection| async move {
            let chunk = connection.next().await?;
            Some((Ok(chunk), connection))
        }))
    }
}

impl Connection {
    /// The next bytes to send; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        let wake = self.wait().await?;
        if !self.core.kit.verifier.still_valid(&self.caller) {
            return None;
        }
        if let Wake::Deleted(id) = wake {
            return Some(removed(id).into());
        }
        self.last_read = Some(self.core.common.rt.now());
        let size = self.sent.page_size;
        match self.core.page(self.caller.user, List::Home, Window::Latest, size).await {
            Ok(page) => Some(self.sent.tell(&page)),
            // The client keeps what it has; the next read may succeed.
            Err(_) => Some(Bytes::from_static(PING)),
        }
    }

    /// Waits for a hint that concerns this connection, but not longer than the poll interval.
    async fn wait(&mut self) -> Option<Wake> {
        let Some(last) = self.last_read else { return Some(Wake::Read) };
        let rt = &self.core.common.rt;
        let poll = last.plus(self.core.config.timeline.stream_poll());
        let near = 2 * self.core.config.timeline.near_ttl();
        let (hints, sent) = (&mut self.hints, &mut self.sent);
        let hinted = async {
            loop {
                match hints.next().await {
                    Some(Hint::Deleted(id)) if sent.delete(id, rt.now(), near) => {
                        return Wake::Deleted(id);
                    }
                    Some(Hint::Deleted(_)) => {}
                    Some(Hint::Home(_) | Hint::Projected { .. }) => break,
                    // No source of hints any more: what is left is polling.
                    None => rt.sleep_until(poll).await,
                }
            }
            rt.sleep_until(last.plus(READ_GAP)).await;
            Wake::Read
        };
        tokio::select! {
            biased;
            () = self.core.common.shutdown.cancelled() => None,
            () = rt.sleep_until(poll) => Some(Wake::Read),
            wake = hinted => Some(wake),
        }
    }
}

impl Sent {
    const fn new(page_size: usize) -> Self {
        Self { ids: BTreeSet::new(), deleted: VecDeque::new(), page_size }
    }

    /// Does not send a deleted tweet for `near` from `now` on. `true` if it was sent, and so has to be
    /// taken down.
    fn delete(&mut self, id: TweetId, now: Instant, near: Duration) -> bool {
        let old = |&(heard, _): &(Instant, TweetId)| now.since(heard) > near;
        while self.deleted.len() >= DELETED_MAX || self.deleted.front().is_some_and(old) {
            self.deleted.pop_front();
        }
        self.deleted.push_back((now, id));
        self.ids.remove(&id)
    }

    /// Writes what the connection lacks of `page`, oldest first.
    fn tell(&mut self, page: &Page) -> Bytes {
        let mut out = Vec::with_capacity(256);
        let overlaps = page.shown.iter().any(|tweet| self.ids.contains(&tweet.id));
        let full = page.shown.len() == self.page_size;
        if full && !overlaps && !self.ids.is_empty() {
            out.extend_from_slice(b"event: reset\ndata: {}\n\n");
            self.ids.clear();
        }
        // A page that may be incomplete proves nothing gone.
        if !page.degraded {
            self.tell_removed(page, &mut out);
        }
        for tweet in page.shown.iter().rev() {
            let deleted = self.deleted.iter().any(|&(_, id)| id == tweet.id);
            if !deleted && self.ids.insert(tweet.id) {
                out.extend_from_slice(format!("event: tweet\nid: {}\ndata: ", tweet.id).as_bytes());
                out.extend_from_slice(&tweet.json);
                out.extend_from_slice(b"\n\n");
            }
        }
        while self.ids.len() > SENT_MAX {
            self.ids.pop_first();
        }
        if out.is_empty() {
            out.extend_from_slice(PING);
        }
        out.into()
    }

    /// Tells of tweets that were sent, lie within `page` and are not on it.
    fn tell_removed(&mut self, page: &Page, out: &mut Vec<u8>) {
        // The page's cursor is where its knowledge ends; without one it reaches to the very end.
        let oldest = page.next.unwrap_or_default();
        let on_page = |id: TweetId| page.shown.iter().any(|tweet| tweet.id == id);
        let gone: Vec<TweetId> =
            self.ids.range(oldest..).copied().filter(|&id| !on_page(id)).collect();
        for id in gone {
            self.ids.remove(&id);
            out.extend_from_slice(removed(id).as_bytes());
        }
    }
}

/// Tells that a tweet may no longer be shown.
fn removed(id: TweetId) -> String {
    format!("event: removed\ndata: {{\"id\":\"{id}\"}}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::timeline::hydrate::Shown;

    /// A page that ends at its last tweet.
    fn page(ids: &[u64]) -> Page {
        let shown = ids.iter().map(|&id| Shown { id: TweetId(id), json: format!("{id}").into() });
        let next = ids.last().map(|&id| TweetId(id));
        Page { shown: shown.collect(), next, ..Page::default() }
    }

    fn told(sent: &mut Sent, page: &Page) -> Vec<String> {
        let text = String::from_utf8(sent.tell(page).to_vec()).unwrap();
        let field = |event: &str, name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().to_owned()
        };
        let events = text.split_terminator("\n\n");
        events.map(|e| format!("{} {}", field(e, "event: "), field(e, "data: "))).collect()
    }

    #[test]
    fn a_connection_is_told_what_it_lacks_oldest_first() {
        let mut sent = Sent::new(3);
        assert_eq!(told(&mut sent, &page(&[2, 1])), ["tweet 1", "tweet 2"]);
        assert_eq!(told(&mut sent, &page(&[2, 1])), ["ping {}"]);
        assert_eq!(told(&mut sent, &page(&[4, 2, 1])), ["tweet 4"]);
        // A late one in the middle is sent too: a stream is no cursor.
        assert_eq!(told(&mut sent, &page(&[4, 3, 2])), ["tweet 3"]);
    }

    #[test]
    fn what_left_the_page_is_removed_unless_the_page_proves_nothing() {
        let mut sent = Sent::new(3);
        told(&mut sent, &page(&[3, 2, 1]));
        let degraded = Page { degraded: true, ..page(&[3, 1]) };
        assert_eq!(told(&mut sent, &degraded), ["ping {}"]);
        assert_eq!(told(&mut sent, &page(&[3, 1])), [r#"removed {"id":"2"}"#]);
        // Pushed off a full page is not removed.
        assert_eq!(told(&mut sent, &page(&[5, 4, 3])), ["tweet 4", "tweet 5"]);
        let whole = Page { next: None, ..page(&[5, 4]) };
        let gone = [r#"removed {"id":"1"}"#, r#"removed {"id":"3"}"#];
        assert_eq!(told(&mut sent, &whole), gone);
    }

    #[test]
    fn a_deleted_tweet_does_not_come_back_from_a_near_body() {
        let mut sent = Sent::new(3);
        told(&mut sent, &page(&[2, 1]));
        let (start, near) = (Instant::default(), Duration::from_millis(500));
        assert!(sent.delete(TweetId(2), start, near), "it was sent");
        assert!(!sent.delete(TweetId(7), start, near), "it was not");
        // However many others are deleted meanwhile.
        for id in 100..1_100 {
            sent.delete(TweetId(id), start.plus(near), near);
        }
        assert_eq!(told(&mut sent, &page(&[7, 3, 2, 1])), ["tweet 3"]);
        sent.delete(TweetId(9), start.plus(near * 3), near);
        assert_eq!(sent.deleted.len(), 1, "what no near body can bring back is forgotten");
        for id in 1..=DELETED_MAX as u64 {
            sent.delete(TweetId(id), start.plus(near * 3), near);
        }
        assert_eq!(sent.deleted.len(), DELETED_MAX);
    }

    #[test]
    fn more_news_than_a_page_holds_resets_the_client() {
        let mut sent = Sent::new(2);
        told(&mut sent, &page(&[2, 1]));
        assert_eq!(told(&mut sent, &page(&[9, 8])), ["reset {}", "tweet 8", "tweet 9"]);
    }
}
