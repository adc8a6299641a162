//! Signals: the first SIGINT, SIGTERM or SIGHUP asks for a clean stop, the second kills.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Exit code of a process that was told twice: 128 + SIGINT, as shells have it.
pub const TOLD_TWICE: i32 = 130;

/// Waits for the signals.
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    /// Catches them all from now on.
    ///
    /// # Errors
    /// If the system has no room for another handler.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            // The terminal has gone; `up --detach` outlives it.
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }

    /// From now on another signal ends the process at once.
    pub fn next_one_kills(mut self) {
        tokio::spawn(async move {
            self.next().await;
            // Whoever says it twice does not want to wait.
            std::process::exit(TOLD_TWICE);
        });
    }
}
