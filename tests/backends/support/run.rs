//! Runs the scenarios of each backend one after another on one server, and removes the server.
//!
//! The servers of all backends that are wanted start at once ([`Run::begin`]); the scenarios are
//! played alone ([`Run::play`]), so that their bounds of time mean something on a small machine.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use chirp::{
    ports::contract::{Behaviour, failures},
    rt::{BoxFuture, Rt},
};
use futures_util::FutureExt as _;
use tokio::task::JoinHandle;

use super::server::{self, Container, Order};

/// Far above what any scenario needs, so that only one that hangs meets it; `CHIRP_TEST_SCENARIO_S` is
/// for one that was asked to do more.
const SCENARIO_MAX: Duration = Duration::from_mins(5);
/// How long a new server may take to answer; Cassandra took 10 s, and a minute on a busy machine.
const ANSWER_MAX: Duration = Duration::from_mins(3);
/// How often a new server is asked.
const ASK: Duration = Duration::from_millis(50);

/// A server that scenarios share. Each scenario keeps to databases or names of its own, and starts
/// a container of its own if it breaks more than a connection.
pub trait Backend: Clone + Send + 'static {
    /// Its section in the list of images.
    const NAME: &'static str;

    /// The container: as the list of images has it.
    fn order() -> Order {
        Order::of(Self::NAME)
    }

    /// Waits until it answers its protocol ([`answers`]), and prepares what all scenarios need.
    fn begin(container: &Container) -> impl Future<Output = Self> + Send;
}

/// The place of a server for scenarios that start all they need.
#[derive(Clone)]
pub struct Alone;

/// One scenario: its name is a sentence.
pub struct Scenario<S> {
    pub name: &'static str,
    pub play: fn(S) -> BoxFuture<'static, ()>,
}

/// Lists functions as scenarios, each under its own name.
macro_rules! scenarios {
    ($($play:path),+ $(,)?) => {
        &[$($crate::support::run::Scenario {
            name: stringify!($play),
            play: |server| Box::pin($play(server)),
        }),+]
    };
}
pub(crate) use scenarios;

/// Asks a new server until it answers; what it answered.
pub async fn answers<T, E, F>(container: &Container, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Debug,
{
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(why) if began.elapsed() > ANSWER_MAX => {
                panic!("no answer after {ANSWER_MAX:?}: {why:?}\n{}", container.logs())
            }
            Err(_) => tokio::time::sleep(ASK).await,
        }
    }
}

fn scenario_max() -> Duration {
    let asked = std::env::var("CHIRP_TEST_SCENARIO_S");
    let seconds = |text: String| text.parse().expect("CHIRP_TEST_SCENARIO_S is a number");
    asked.map_or(SCENARIO_MAX, |text| Duration::from_secs(seconds(text)))
}

/// Holds an adapter to a contract suite.
pub async fn hold<C>(rt: &Rt, behaviours: &[Behaviour<C>], fresh: impl Fn() -> C) {
    let found = failures(rt, behaviours, fresh).await;
    assert!(found.is_empty(), "{found:#?}");
}

type Named<S> = (String, fn(S) -> BoxFuture<'static, ()>);

/// The scenarios of a backend that are wanted, and its server, which is starting.
pub struct Begun<S> {
    wanted: Vec<Named<S>>,
    /// The container outlives the scenarios: it is dropped, and so removed, after them.
    server: JoinHandle<Result<(Option<Container>, S), String>>,
}

/// What was asked for, and how it went so far.
pub struct Run {
    names: Vec<String>,
    list: bool,
    passed: usize,
    failed: Vec<String>,
}

impl Run {
    /// Takes names of scenarios, or parts of them, from the command line. Of the flags of test
    /// harnesses only `--list` means something.
    pub fn of_arguments() -> Self {
        let (flags, names): (Vec<_>, Vec<_>) =
            std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
        let list = flags.iter().any(|flag| flag == "--list");
        Self { names, list, passed: 0, failed: Vec::new() }
    }

    /// Starts the server of a backend, if one of its scenarios is wanted.
    pub fn begin<S: Backend>(&self, scenarios: &[Scenario<S>]) -> Option<Begun<S>> {
        let wanted = self.wanted(S::NAME, scenarios)?;
        let server = tokio::spawn(async {
            server::engine()?;
            let began = Instant::now();
            let container = S::order().start().await?;
            let server = AssertUnwindSafe(S::begin(&container)).catch_unwind().await;
            let server = server.map_err(|_| "it could not be prepared".to_owned())?;
            println!("{:6.1} s  {} is ready", began.elapsed().as_secs_f64(), S::NAME);
            Ok((Some(container), server))
        });
        Some(Begun { wanted, server })
    }

    /// The same for scenarios that start all they need.
    pub fn begin_alone(&self, name: &str, scenarios: &[Scenario<Alone>]) -> Option<Begun<Alone>> {
        let wanted = self.wanted(name, scenarios)?;
        let server = tokio::spawn(async { Ok((None, Alone)) });
        Some(Begun { wanted, server })
    }

    fn wanted<S>(&self, backend: &str, scenarios: &[Scenario<S>]) -> Option<Vec<Named<S>>> {
        let wants = |name: &str| {
            self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
        };
        let wanted: Vec<_> = scenarios
            .iter()
            .map(|scenario| (format!("{backend}::{}", scenario.name), scenario.play))
            .filter(|(name, _)| wants(name))
            .collect();
        if self.list {
            for (name, _) in &wanted {
                println!("{name}: test");
            }
            return None;
        }
        (!wanted.is_empty()).then_some(wanted)
    }

    /// Plays the scenarios of a backend, and removes its server.
    pub async fn play<S: Clone>(&mut self, begun: Option<Begun<S>>) {
        let Some(Begun { wanted, server }) = begun else { return };
        let started = server.await.unwrap_or_else(|error| Err(error.to_string()));
        let (_container, server) = match started {
            Ok(started) => started,
            Err(why) => {
                println!("no server for {}: {why}", wanted[0].0);
                self.failed.extend(wanted.into_iter().map(|(name, _)| name));
                return;
            }
        };
        for (name, play) in wanted {
            self.scenario(name, play(server.clone())).await;
        }
    }

    async fn scenario(&mut self, name: String, play: BoxFuture<'static, ()>) {
        let began = Instant::now();
        // A task of its own, so that its panic is its own, and so that one that blocks its thread is
        // noticed: such a task cannot notice it itself.
        let mut played = tokio::spawn(play);
        let ended = tokio::time::timeout(scenario_max(), &mut played).await;
        played.abort();
        let seconds = began.elapsed().as_secs_f64();
        if matches!(ended, Ok(Ok(()))) {
            self.passed += 1;
            println!("{seconds:6.1} s  {name}");
        } else {
            let hangs = if ended.is_err() { ": it hangs" } else { "" };
            println!("{seconds:6.1} s  {name} FAILED{hangs}");
            self.failed.push(name);
        }
    }

    /// Prints the sum; whether nothing failed.
    pub fn report(&self) -> bool {
        if self.list {
            return true;
        }
        println!("backends: {} passed, {} failed", self.passed, self.failed.len());
        self.failed.iter().for_each(|name| println!("    {name}"));
        if self.passed == 0 && self.failed.is_empty() {
            println!("no scenario has {:?} in its name: --list says what there is", self.names);
        }
        self.failed.is_empty()
    }
}
