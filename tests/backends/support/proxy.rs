//! A bare TCP proxy that delays, cuts, holds, freezes or loses what passes.

use std::{future::pending, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

/// Bytes that are read at once.
const PIECE_MAX: usize = 64 << 10;
/// Pieces of one direction of a connection that wait for their time, before the sender has to.
const WAITING_MAX: usize = 256;

/// What happens to connections, old and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Everything passes.
    Pass,
    /// Every connection is closed, new ones at once.
    Refuse,
    /// Everything passes, each way this much later.
    Delay(Duration),
    /// Nothing passes, and nothing is closed; with another rule what was said passes.
    Freeze,
    /// Connections, old and new, are lost without a word: nothing of them passes any more, also under
    /// a later rule, and no end hears that the other has closed. As behind a router that has forgotten
    /// them.
    HalfOpen,
    /// What contains these bytes is thrown away, and both sides are cut off.
    CutBefore(&'static [u8]),
    /// What contains these bytes passes, and the client is cut off without the answer.
    CutAfter(&'static [u8]),
    /// What contains these bytes, and all that follows, waits for [`Proxy::set`] with another rule,
    /// even if the client goes away meanwhile; then it passes.
    Hold(&'static [u8]),
}

/// A proxy on a port of its own. Dropped, it accepts no more and closes what is open.
pub struct Proxy {
    pub port: u16,
    rule: watch::Sender<Rule>,
    listening: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.rule.send_replace(Rule::Refuse);
    }
}

impl Proxy {
    /// A proxy before 127.0.0.1:`to`.
    pub fn before(to: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (rule, seen) = watch::channel(Rule::Pass);
        let listening = tokio::spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(connection(client, to, seen.clone()));
            }
        });
        Self { port, rule, listening }
    }

    /// From now on `rule` holds.
    pub fn set(&self, rule: Rule) {
        self.rule.send_replace(rule);
    }
}

async fn connection(client: TcpStream, to: u16, mut rule: watch::Receiver<Rule>) {
    if *rule.borrow() == Rule::Refuse {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answers = tokio::spawn(answers(from_server, to_client, rule.clone()));
    let questions = questions(from_client, to_server, rule.clone(), &answers);
    tokio::select! {
        biased;
        // An error means that the proxy is gone.
        _ = rule.wait_for(|rule| *rule == Rule::Refuse) => {}
        () = questions => {}
    }
    answers.abort();
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The next piece of a direction and the rule for it; `None` at its end.
async fn next(
    from: &mut OwnedReadHalf,
    buffer: &mut [u8],
    rule: &mut watch::Receiver<Rule>,
) -> Option<(usize, Rule)> {
    let lost = async { drop(rule.wait_for(|rule| *rule == Rule::HalfOpen).await) };
    let read = tokio::select! {
        biased;
        () = lost => return pending().await,
        read = from.read(buffer) => read.ok().filter(|read| *read > 0)?,
    };
    let now = *rule.borrow();
    if now == Rule::Freeze {
        drop(rule.wait_for(|rule| *rule != Rule::Freeze).await);
    }
    Some((read, now))
}

/// When what has just been read shall arrive.
fn due(rule: Rule) -> Instant {
    Instant::now() + if let Rule::Delay(delay) = rule { delay } else { Duration::ZERO }
}

/// Writes every piece at its time, and then says that there is no more. Who is gone hears nothing, and
/// what they said goes on.
async fn deliver(mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
    while let Some((due, bytes)) = pieces.recv().await {
        tokio::time::sleep_until(due).await;
        drop(to.write_all(&bytes).await);
    }
    drop(to.shutdown().await);
}

/// Passes what the client says, until a side is closed or a rule ends the connection.
async fn questions(
    mut client: OwnedReadHalf,
    server: OwnedWriteHalf,
    mut rule: watch::Receiver<Rule>,
    answers: &JoinHandle<()>,
) {
    let (pieces, arriving) = mpsc::channel(WAITING_MAX);
    let asking = async move {
        let mut buffer = vec![0; PIECE_MAX];
        while let Some((read, now)) = next(&mut client, &mut buffer, &mut rule).await {
            let bytes = &buffer[..read];
            let mut last = false;
            match now {
                Rule::CutBefore(part) if contains(bytes, part) => return,
                Rule::CutAfter(part) if contains(bytes, part) => {
                    // The server must have it before the connection ends.
                    answers.abort();
                    last = true;
                }
                Rule::Hold(part) if contains(bytes, part) => {
                    drop(rule.wait_for(|rule| *rule != now).await);
                }
                _ => {}
            }
            if pieces.send((due(now), bytes.to_vec())).await.is_err() || last {
                return;
            }
        }
    };
    tokio::join!(asking, deliver(arriving, server));
}

/// Passes what the server says.
async fn answers(
    mut server: OwnedReadHalf,
    client: OwnedWriteHalf,
    mut rule: watch::Receiver<Rule>,
) {
    let (pieces, arriving) = mpsc::channel(WAITING_MAX);
    let answering = async move {
        let mut buffer = vec![0; PIECE_MAX];
        while let Some((read, now)) = next(&mut server, &mut buffer, &mut rule).await {
            if pieces.send((due(now), buffer[..read].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(answering, deliver(arriving, client));
}
