//! `GET /timeline/stream`: the ordinary page read, repeated on a hint or after a while, sending what
//! this connection lacks. Server-sent events:
//!
//! - `tweet`: a tweet that was not sent before; `id` is the tweet's, `data` its JSON;
//! - `removed`: a tweet that was sent and may no longer be shown;
//! - `reset`: more is new than one page holds; the client reads the page anew;
//! - `ping`: nothing new, so that both ends notice a dead connection.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, stream};

use super::{
    Core,
    page::{List, Page},
};
use crate::{
    domain::{TweetId, UserId, Window},
    ports::HintStream,
    rt::Instant,
    services::kit::Caller,
};

/// Hints of a burst are answered by one read; this is the least time between two.
const READ_GAP: Duration = Duration::from_millis(50);
/// Most tweets a connection remembers as sent: several pages, so that `removed` reaches back.
const SENT_MAX: usize = 500;

/// One connection.
struct Connection {
    core: Arc<Core>,
    caller: Caller,
    hints: Box<dyn HintStream>,
    /// What was sent, and so need not be sent again; oldest first.
    sent: BTreeSet<TweetId>,
    limit: usize,
    last_read: Option<Instant>,
}

impl Core {
    /// Opens a stream of `caller`'s home timeline. It begins with the newest page, and ends with the
    /// access token, the session or the process.
    pub(super) async fn open_stream(
        self: &Arc<Self>,
        caller: Caller,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
        let connection = Connection {
            // Before the first read, so that nothing falls between it and the first hint.
            hints: self.deps.hints.subscribe(caller.user).await,
            core: Arc::clone(self),
            caller,
            sent: BTreeSet::new(),
            limit: self.config.timeline.page_default as usize,
            last_read: None,
        };
        stream::unfold(connection, |mut connection| async move {
            let chunk = connection.next().await?;
            Some((Ok(chunk), connection))
        })
    }
}

impl Connection {
    /// The next bytes to send; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        self.wait().await?;
        if !self.core.kit.verifier.still_valid(&self.caller) {
            return None;
        }
        self.last_read = Some(self.core.common.rt.now());
        let reader: UserId = self.caller.user;
        match self.core.page(reader, List::Home, Window::Latest, self.limit).await {
            Ok(page) => Some(self.tell(&page)),
            // The client keeps what it has; the next read may succeed.
            Err(_) => Some(Bytes::from_static(b"event: ping\ndata: {}\n\n")),
        }
    }

    /// Waits for a hint, but not longer than the poll interval.
    async fn wait(&mut self) -> Option<()> {
        let Some(last) = self.last_read else { return Some(()) };
        let rt = &self.core.common.rt;
        tokio::select! {
            biased;
            () = self.core.common.shutdown.cancelled() => return None,
            hint = self.hints.next() => {
                if hint.is_none() {
                    // No source of hints any more: what is left is polling.
                    rt.sleep_until(last.plus(self.core.config.timeline.stream_poll())).await;
                }
            }
            () = rt.sleep_until(last.plus(self.core.config.timeline.stream_poll())) => {}
        }
        rt.sleep_until(last.plus(READ_GAP)).await;
        Some(())
    }

    /// Writes what the connection lacks of `page`, oldest first.
    fn tell(&mut self, page: &Page) -> Bytes {
        let mut out = Vec::with_capacity(256);
        let overlaps = page.shown.iter().any(|tweet| self.sent.contains(&tweet.id));
        let full = page.shown.len() == self.limit;
        if full && !overlaps && !self.sent.is_empty() {
            out.extend_from_slice(b"event: reset\ndata: {}\n\n");
            self.sent.clear();
        }
        if !page.degraded {
            self.tell_removed(page, full, &mut out);
        }
        for tweet in page.shown.iter().rev() {
            if self.sent.insert(tweet.id) {
                out.extend_from_slice(format!("event: tweet\nid: {}\ndata: ", tweet.id).as_bytes());
                out.extend_from_slice(&tweet.json);
                out.extend_from_slice(b"\n\n");
            }
        }
        while self.sent.len() > SENT_MAX {
            self.sent.pop_first();
        }
        if out.is_empty() {
            out.extend_from_slice(b"event: ping\ndata: {}\n\n");
        }
        out.into()
    }

    /// Tells of tweets that were sent, lie within `page` and are not on it.
    fn tell_removed(&mut self, page: &Page, full: bool, out: &mut Vec<u8>) {
        let oldest = match page.shown.last() {
            Some(last) if full => last.id,
            _ => TweetId(0),
        };
        let gone: Vec<TweetId> = self
            .sent
            .range(oldest..)
            .copied()
            .filter(|id| !page.shown.iter().any(|tweet| tweet.id == *id))
            .collect();
        for id in gone {
            self.sent.remove(&id);
            out.extend_from_slice(
                format!("event: removed\ndata: {{\"id\":\"{id}\"}}\n\n").as_bytes(),
            );
        }
    }
}
