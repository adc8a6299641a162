//! How rough a world is.

/// Chances are in 1/10,000 per call (or per message, where a call has several); times in whole
/// milliseconds, as that is the grain of the virtual clock. All faults are off while
/// [`World::set_faults`](super::World::set_faults) says so; latency, commit order and lag are not
/// faults and stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Longest ordinary way to a port, and back.
    pub latency_ms: u64,
    /// A way takes up to `spike_ms` instead.
    pub spike: u32,
    /// See `spike`.
    pub spike_ms: u64,
    /// The call is refused: it did not happen, and the caller knows.
    pub refuse: u32,
    /// The call never arrives: a write is unknown, and did not happen.
    pub lose_request: u32,
    /// The call happens and the answer is lost: a write is unknown, and did happen.
    pub lose_answer: u32,
    /// The call arrives up to `late_ms` after the caller gave up: a write is unknown, and happens.
    pub late: u32,
    /// See `late`.
    pub late_ms: u64,
    /// How long a caller waits at most for an answer that is lost.
    pub timeout_ms: u64,
    /// A call of several statements or deliveries ends after some of them.
    pub partial: u32,
    /// A call of several statements pauses between two of them, up to `split_ms`.
    pub split: u32,
    /// See `split`.
    pub split_ms: u64,
    /// A transaction takes its outbox number up to `commit_ms` before it commits, so that numbers
    /// become visible out of order.
    pub commit: u32,
    /// See `commit`.
    pub commit_ms: u64,
    /// A page of followers ends early.
    pub short_page: u32,
    /// One message of a publish, acknowledge or extend call fails or is unknown.
    pub entry: u32,
    /// A message is there twice, or comes again although it was acknowledged.
    pub duplicate: u32,
    /// A message arrives up to `delay_ms` late.
    pub delay: u32,
    /// See `delay`.
    pub delay_ms: u64,
    /// A message is received in another order than it was sent in.
    pub reorder: u32,
    /// Replication lag of the cache, at most: a failover loses what is younger.
    pub lag_ms: u64,
    /// Some key of the cache is evicted.
    pub evict: u32,
    /// A hint is lost.
    pub hint_loss: u32,
    /// Entries that a cached list holds at most, 1 to 800.
    pub entries_max: usize,
}

impl Knobs {
    /// A world without latency or faults: for contract suites.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            latency_ms: 0,
            spike: 0,
            spike_ms: 0,
            refuse: 0,
            lose_request: 0,
            lose_answer: 0,
            late: 0,
            late_ms: 0,
            timeout_ms: 0,
            partial: 0,
            split: 0,
            split_ms: 0,
            commit: 0,
            commit_ms: 0,
            short_page: 0,
            entry: 0,
            duplicate: 0,
            delay: 0,
            delay_ms: 0,
            reorder: 0,
            lag_ms: 0,
            evict: 0,
            hint_loss: 0,
            entries_max: 800,
        }
    }

    /// A world in which every kind of fault happens now and then.
    #[must_use]
    pub const fn rough() -> Self {
        Self {
            latency_ms: 4,
            spike: 50,
            spike_ms: 1_500,
            refuse: 80,
            lose_request: 60,
            lose_answer: 120,
            late: 60,
            late_ms: 4_000,
            timeout_ms: 400,
            partial: 200,
            split: 300,
            split_ms: 300,
            commit: 500,
            commit_ms: 400,
            short_page: 500,
            entry: 200,
            duplicate: 300,
            delay: 500,
            delay_ms: 8_000,
            reorder: 5_000,
            lag_ms: 20,
            evict: 20,
            hint_loss: 1_000,
            entries_max: 50,
        }
    }
}
