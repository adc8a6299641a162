//! JSON logs, one object per line: where they go and how much of them is kept.
//!
//! Every line has `timestamp` (RFC 3339, UTC), `level`, `target` (the module) and `message`; the
//! other field names are listed in `docs/logging.md` and stand for one thing everywhere. Never
//! logged: passwords, tokens, keys, texts of tweets, bodies of requests.
//!
//! A line is handed to a writer thread through a bounded queue, so that a slow disk never holds up
//! a request; what does not fit is dropped and counted, and the count is logged.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, registry::Registry,
};

use crate::config;

/// Lines that wait for the writer; more are dropped.
const QUEUE_MAX: usize = 8_192;
/// How long the end of the process waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// How often it is looked whether a full queue has room for the last word.
const FLUSH_LOOK: Duration = Duration::from_millis(10);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Takes lines and never waits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Lines {
    /// Waits until everything that was logged so far is written: a second at most for room in the queue,
    /// and a second for what is in it.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        let mut flush = Message::Flush(done);
        let tries = FLUSH_MAX.as_millis() / FLUSH_LOOK.as_millis();
        for _ in 0..tries {
            match self.queue.try_send(flush) {
                Ok(()) => {
                    // On a time-out the process ends without its last lines, which is all one can do.
                    let _ = wait.recv_timeout(FLUSH_MAX);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(again)) => flush = again,
            }
            // Nobody answers yet: a pause.
            let _ = wait.recv_timeout(FLUSH_LOOK);
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The writer's half: runs on a thread of its own.
pub struct Pump {
    queue: Receiver<Message>,
    dropped: Arc<AtomicU64>,
    out: Out,
}

/// Where lines end.
enum Out {
    File(Rotating),
    Stderr,
}

impl Out {
    fn write(&mut self, line: &[u8]) {
        match self {
            Self::File(file) => file.write(line),
            // There is nobody to tell.
            Self::Stderr => drop(io::stderr().write_all(line)),
        }
    }
}

impl Pump {
    /// Writes lines until nobody can log any more.
    pub fn run(mut self) {
        loop {
            match self.queue.recv_timeout(Duration::from_secs(1)) {
                Ok(Message::Line(line)) => {
                    self.report_dropped();
                    self.out.write(&line);
                }
                Ok(Message::Flush(done)) => {
                    self.report_dropped();
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => self.report_dropped(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn report_dropped(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let line = format!(
                "{{\"level\":\"WARN\",\"target\":\"chirp::telemetry::logs\",\
                 \"message\":\"log lines were dropped\",\"dropped\":{dropped}}}\n"
            );
            self.out.write(line.as_bytes());
        }
    }
}

/// A file that is put aside as `.1` when it is full; `.1` becomes `.2`, and so on.
#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    kept: u64,
}

impl Rotating {
    fn open(path: &Path, bytes_max: u64, kept: u64) -> io::Result<Self> {
        let file = append(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file: Some(file), bytes, bytes_max, kept })
    }

    fn write(&mut self, line: &[u8]) {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(size) > self.bytes_max {
            self.rotate();
        }
        if self.file.is_none() {
            self.file = append(&self.path).ok();
            self.bytes = 0;
        }
        // A log that cannot be written must not stop the process, and there is nobody to tell.
        if let Some(file) = &mut self.file
            && file.write_all(line).is_err()
        {
            self.file = None;
        }
        self.bytes = self.bytes.saturating_add(size);
    }

    fn rotate(&mut self) {
        self.file = None;
        self.bytes = 0;
        let aside = |n: u64| PathBuf::from(format!("{}.{n}", self.path.display()));
        drop(fs::remove_file(aside(self.kept.max(1))));
        for n in (1..self.kept).rev() {
            drop(fs::rename(aside(n), aside(n + 1)));
        }
        if self.kept > 0 {
            drop(fs::rename(&self.path, aside(1)));
        } else {
            drop(fs::remove_file(&self.path));
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Opens a log file: where lines go in, and the half that a thread must run.
///
/// # Errors
/// If the file cannot be opened for appending.
pub fn file(path: &Path, log: &config::Log) -> io::Result<(Lines, Pump)> {
    Rotating::open(path, log.file_bytes_max, log.files_kept).map(|file| through(Out::File(file)))
}

/// The same for the standard error stream: whoever should read it and does not holds up no request.
#[must_use]
pub fn stderr() -> (Lines, Pump) {
    through(Out::Stderr)
}

fn through(out: Out) -> (Lines, Pump) {
    let (queue, lines) = sync_channel(QUEUE_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    let pump = Pump { queue: lines, dropped: Arc::clone(&dropped), out };
    (Lines { queue, dropped }, pump)
}

/// Sends every event of this process to `writer` from now on. `false` if that was decided before.
pub fn install<W>(writer: W, log: &config::Log) -> bool
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level: LevelFilter = log.level.parse().unwrap_or(LevelFilter::INFO);
    // Libraries speak of their own affairs; only their warnings matter here.
    let filter = Targets::new()
        .with_target("chirp", level)
        // It calls every connection that fails an error, at a start and while a node is away; what
        // that means for a call, the call's own error says.
        .with_target("scylla", LevelFilter::OFF)
        .with_default(level.min(LevelFilter::WARN));
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(writer)
        .with_filter(filter);
    tracing::subscriber::set_global_default(Registry::default().with(json)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chirp.log");
        let mut log = Rotating::open(&path, 10, 2).unwrap();
        for line in ["first..\n", "second.\n", "third..\n", "fourth.\n"] {
            log.write(line.as_bytes());
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("chirp.log"), "fourth.\n");
        assert_eq!(read("chirp.log.1"), "third..\n");
        assert_eq!(read("chirp.log.2"), "second.\n");
        assert!(!dir.path().join("chirp.log.3").exists());
    }

    #[test]
    fn a_line_that_finds_the_queue_full_is_dropped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chirp.log");
        let (mut lines, mut pump) = file(&path, &config::Log::default()).unwrap();
        for _ in 0..QUEUE_MAX + 3 {
            lines.write_all(b"{}\n").unwrap();
        }
        pump.report_dropped();
        assert!(fs::read_to_string(&path).unwrap().contains("\"dropped\":3"));
    }

    #[test]
    fn the_end_waits_until_a_slow_writer_has_written_a_full_queue() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chirp.log");
        let (mut lines, pump) = file(&path, &config::Log::default()).unwrap();
        for _ in 0..QUEUE_MAX + 3 {
            lines.write_all(b"{}\n").unwrap();
        }
        std::thread::Builder::new().spawn(|| pump.run()).unwrap();
        lines.flush();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written.matches("{}\n").count(), QUEUE_MAX);
        assert!(written.contains("\"dropped\":3"));
    }
}
