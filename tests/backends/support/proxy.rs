//! A bare TCP proxy that cuts, holds or freezes what passes.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// What happens to connections, old and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Everything passes.
    Pass,
    /// Every connection is closed, new ones at once.
    Refuse,
    /// Nothing passes, and nothing is closed.
    Freeze,
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

/// Passes what the client says, until a side is closed or a rule ends the connection.
async fn questions(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    mut rule: watch::Receiver<Rule>,
    answers: &JoinHandle<()>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = client.read(&mut buffer).await {
        let bytes = &buffer[..read];
        let now = *rule.borrow();
        match now {
            Rule::CutBefore(part) if contains(bytes, part) => return,
            Rule::CutAfter(part) if contains(bytes, part) => {
                answers.abort();
                drop(server.write_all(bytes).await);
                // The server must have it before the connection ends.
                drop(server.shutdown().await);
                return;
            }
            Rule::Hold(part) if contains(bytes, part) => {
                drop(rule.wait_for(|rule| *rule != now).await);
            }
            Rule::Freeze => drop(rule.wait_for(|rule| *rule != Rule::Freeze).await),
            _ => {}
        }
        if server.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Passes what the server says.
async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    mut rule: watch::Receiver<Rule>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = server.read(&mut buffer).await {
        if *rule.borrow() == Rule::Freeze {
            drop(rule.wait_for(|rule| *rule != Rule::Freeze).await);
        }
        // A client that is gone hears nothing, and what it said goes on.
        drop(client.write_all(&buffer[..read]).await);
    }
}
