//! Waiting to the microsecond: the runtime's own timer wakes within a millisecond, which is more than a
//! warm page takes.

use std::{io, time::Instant};

/// Wakes at an instant.
pub struct Alarm {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<rustix::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// An alarm of the runtime that this is called in.
    ///
    /// # Errors
    /// If the system gives no timer.
    #[expect(
        deprecated,
        reason = "what is passed owns its descriptor, and the newer way is unsafe"
    )]
    pub fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let interest = tokio::io::Interest::READABLE;
        Ok(Self { timer: tokio::io::unix::AsyncFd::with_interest(timer, interest)? })
    }

    /// Returns at `at`, some ten microseconds later at best.
    ///
    /// # Errors
    /// If the timer cannot be set or read.
    pub async fn until(&self, at: Instant) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            },
        };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            match rustix::io::read(self.timer.get_ref(), &mut expirations) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// An alarm of the runtime that this is called in.
    ///
    /// # Errors
    /// None here.
    pub const fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Returns within a millisecond after `at`.
    ///
    /// # Errors
    /// None here.
    pub async fn until(&self, at: Instant) -> io::Result<()> {
        tokio::time::sleep_until(at.into()).await;
        Ok(())
    }
}
