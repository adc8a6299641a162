//! Runs the scenarios of a backend one after another on one server, and removes the server.

use std::{time::Duration, time::Instant};

use chirp::{
    ports::contract::{Behaviour, failures},
    rt::{BoxFuture, Rt},
};

use super::server::{self, Container};

/// Far above what any scenario needs, so that only one that hangs meets it.
const SCENARIO_MAX: Duration = Duration::from_mins(5);

/// A server that scenarios share. Each scenario keeps to databases or names of its own.
pub trait Backend: Clone + Send + 'static {
    /// Its section in the list of images.
    const NAME: &'static str;

    /// Waits until it answers its protocol, and prepares what all scenarios need.
    fn begin(container: &Container) -> impl Future<Output = Self> + Send;
}

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

/// Holds an adapter to a contract suite.
pub async fn hold<C>(rt: &Rt, behaviours: &[Behaviour<C>], fresh: impl Fn() -> C) {
    let found = failures(rt, behaviours, fresh).await;
    assert!(found.is_empty(), "{found:#?}");
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

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }

    /// Plays the scenarios of a backend that are wanted.
    pub async fn backend<S: Backend>(&mut self, scenarios: &[Scenario<S>]) {
        let wanted: Vec<_> = scenarios
            .iter()
            .map(|scenario| (format!("{}::{}", S::NAME, scenario.name), scenario.play))
            .filter(|(name, _)| self.wants(name))
            .collect();
        if self.list {
            for (name, _) in &wanted {
                println!("{name}: test");
            }
            return;
        }
        if wanted.is_empty() {
            return;
        }
        // Held here and not by scenarios: whatever ends this future drops, and so removes, it.
        let container = match server::start(S::NAME).await {
            Ok(container) => container,
            Err(why) => {
                println!("{}: {why}", S::NAME);
                self.failed.extend(wanted.into_iter().map(|(name, _)| name));
                return;
            }
        };
        let server = S::begin(&container).await;
        for (name, play) in wanted {
            self.scenario(name, play(server.clone())).await;
        }
        container.remove().await;
    }

    async fn scenario(&mut self, name: String, play: BoxFuture<'static, ()>) {
        let began = Instant::now();
        // A task of its own, so that its panic is its own.
        let ended = tokio::spawn(tokio::time::timeout(SCENARIO_MAX, play)).await;
        let seconds = began.elapsed().as_secs_f64();
        if matches!(ended, Ok(Ok(()))) {
            self.passed += 1;
            println!("{seconds:6.1} s  {name}");
        } else {
            println!(
                "{seconds:6.1} s  {name} FAILED{}",
                if ended.is_ok() { ": it hangs" } else { "" }
            );
            self.failed.push(name);
        }
    }

    /// Prints the sum; whether nothing failed.
    pub fn report(&self) -> bool {
        if !self.list {
            println!("backends: {} passed, {} failed", self.passed, self.failed.len());
            for name in &self.failed {
                println!("    {name}");
            }
        }
        self.failed.is_empty()
    }
}
