//! Signals: the first SIGINT, SIGTERM or SIGHUP asks for a clean stop, the second kills.

use std::io::{self, Read as _};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Exit code of a process that was told twice: 128 + SIGINT, as shells have it.
pub const TOLD_TWICE: i32 = 130;

/// Waits for the signals.
#[derive(Debug)]
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    /// Whoever started this process has gone.
    orphaned: Option<oneshot::Receiver<()>>,
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
            orphaned: None,
        })
    }

    /// From now on the end of standard input counts as a signal: it is a pipe that only the parent has
    /// open, which the kernel closes however that ends.
    ///
    /// # Errors
    /// If the system has no room for another thread.
    pub fn follow_parent(&mut self) -> io::Result<()> {
        let (gone, orphaned) = oneshot::channel();
        std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
            // Nothing is ever written to it.
            drop(io::copy(&mut io::stdin().take(u64::MAX), &mut io::sink()));
            drop(gone);
        })?;
        self.orphaned = Some(orphaned);
        Ok(())
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        let orphaned = async {
            match &mut self.orphaned {
                Some(orphaned) => drop(orphaned.await),
                None => std::future::pending().await,
            }
        };
        let gone = tokio::select! {
            biased;
            _ = self.interrupt.recv() => false,
            _ = self.terminate.recv() => false,
            _ = self.hang_up.recv() => false,
            () = orphaned => true,
        };
        if gone {
            self.orphaned = None;
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
