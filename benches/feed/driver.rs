//! A light client: fixed connections, kept alive, one request at a time on each, every answer
//! checked. It speaks HTTP/1.1, or whatever a [`Load`] says.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::Server;

/// The part of a slice that is not counted: connections are made and caches of the processor warm.
const SETTLE: Duration = Duration::from_millis(300);
/// How long one side is measured before it is the other's turn.
pub(crate) const SLICE: Duration = Duration::from_secs(3);
/// The largest answer: a page of 100 tweets.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// An answer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

/// One connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; ANSWER_BYTES_MAX] }
    }

    /// Sends an HTTP request and reads the whole answer.
    ///
    /// # Panics
    /// If the connection breaks, or the answer has no length: then there is nothing to measure.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Answer<'_> {
        self.exchange(request, http_frame).await
    }

    /// Sends a request and reads the whole answer, as far as `frame` says that it goes.
    async fn exchange(&mut self, request: &[u8], frame: Framing) -> Answer<'_> {
        self.stream.write_all(request).await.unwrap();
        let (mut filled, mut known) = (0, None);
        loop {
            let more = self.stream.read(&mut self.buffer[filled..]).await.unwrap();
            assert!(more > 0, "the server hung up");
            filled += more;
            known = known.or_else(|| frame(&self.buffer[..filled]));
            if let Some(Frame { status, start, length }) = known
                && filled >= start + length
            {
                assert_eq!(filled, start + length, "more came than was asked for");
                return Answer { status, body: &self.buffer[start..filled] };
            }
        }
    }
}

/// How far an answer goes.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) status: u16,
    /// Where its body begins.
    pub(crate) start: usize,
    /// Bytes of its body, of which some may still come.
    pub(crate) length: usize,
}

/// Tells how far an answer goes, once enough of it has come.
type Framing = fn(&[u8]) -> Option<Frame>;

/// Known once the head is complete.
fn http_frame(bytes: &[u8]) -> Option<Frame> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let status = head.get(9..12).unwrap().parse().unwrap();
    let length = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    };
    let length = head.lines().skip(1).find_map(length).expect("an answer has a length");
    Some(Frame { status, start: end + 4, length })
}

/// What one connection asks for, one request after the other.
pub(crate) trait Load: Send + 'static {
    /// Writes the next request.
    fn next(&mut self, request: &mut Vec<u8>);
    /// Looks at the answer to it; panics if it is wrong.
    fn check(&mut self, answer: &Answer<'_>);
    /// Tells how far an answer goes.
    fn frame(bytes: &[u8]) -> Option<Frame> {
        http_frame(bytes)
    }
}

/// What a slice found.
pub(crate) struct Slice {
    pub(crate) requests_per_s: f64,
    /// Processor time per request, in microseconds, work put off included: of the server first, then
    /// of what works for it.
    pub(crate) cpu_us: Vec<(String, f64)>,
    /// Seconds until the work that was put off had been done.
    pub(crate) drained_s: f64,
    pub(crate) latency: Histogram<u64>,
}

/// Drives `server` for `length`, each load on a connection of its own.
pub(crate) async fn slice<L: Load>(server: &Server, loads: &mut Vec<L>, length: Duration) -> Slice {
    let begin = Instant::now() + SETTLE;
    let end = begin + length;
    let tasks: Vec<_> = loads
        .drain(..)
        .map(|load| tokio::spawn(connection(server.address, load, begin, end)))
        .collect();
    tokio::time::sleep_until(begin.into()).await;
    let (cpu, counted_from) = (server.cpu_s(), Instant::now());
    tokio::time::sleep_until(end.into()).await;
    let took = counted_from.elapsed().as_secs_f64();
    let mut latency = Histogram::new(3).unwrap();
    for task in tasks {
        let (load, own) = task.await.unwrap();
        latency.add(own).unwrap();
        loads.push(load);
    }
    let drained_s = server.drained().await;
    let requests = latency.len() as f64;
    let cpu_us = per_request(&cpu, &server.cpu_s(), requests);
    Slice { requests_per_s: requests / took, cpu_us, drained_s, latency }
}

/// Microseconds per request, from processor seconds before and after.
pub(crate) fn per_request(
    before: &[(String, f64)],
    after: &[(String, f64)],
    requests: f64,
) -> Vec<(String, f64)> {
    let share = |((name, before), (_, after)): (&(String, f64), &(String, f64))| {
        (name.clone(), (after - before) * 1e6 / requests)
    };
    before.iter().zip(after).map(share).collect()
}

/// What came of a part: a slice of the reference, a slice of chirp, and so on.
pub(crate) struct Turns {
    pub(crate) chirp: Vec<Slice>,
    pub(crate) reference: Vec<Slice>,
}

/// Measures a reference and chirp in turns, each for `length` in slices of [`SLICE`].
pub(crate) async fn turns<L: Load>(
    chirp: &Server,
    ours: &mut Vec<L>,
    length: Duration,
    mut reference: impl AsyncFnMut() -> Slice,
) -> Turns {
    let mut turns = Turns { chirp: Vec::new(), reference: Vec::new() };
    for _ in 0..slices(length) {
        turns.reference.push(reference().await);
        turns.chirp.push(slice(chirp, ours, SLICE).await);
    }
    turns
}

/// How many slices a side has in `length`.
pub(crate) fn slices(length: Duration) -> u64 {
    length.as_secs().div_ceil(SLICE.as_secs())
}

async fn connection<L: Load>(
    address: SocketAddr,
    mut load: L,
    begin: Instant,
    end: Instant,
) -> (L, Histogram<u64>) {
    let mut connection = Connection::open(address).await;
    let mut latency = Histogram::new(3).unwrap();
    let mut request = Vec::with_capacity(2_048);
    loop {
        let started = Instant::now();
        if started >= end {
            return (load, latency);
        }
        request.clear();
        load.next(&mut request);
        let answer = connection.exchange(&request, L::frame).await;
        load.check(&answer);
        if started >= begin {
            latency.record(started.elapsed().as_micros() as u64).unwrap();
        }
    }
}
