//! Everybody who is at work while the process is killed.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use crate::judge::{
    api::Api,
    client::Client,
    dice::Dice,
    world::{GROUP, Shared, WRITERS},
};

/// A client pauses up to this long between two calls, in milliseconds.
const THINK_MS: usize = 50;
/// Readers beside the writers.
const READERS: usize = 6;

/// Everybody who is at work.
pub struct Crowd {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    pub down: Arc<AtomicBool>,
    /// Chunk jobs of the star's tweets that were waiting or in work when the star last looked.
    pub jobs: Arc<AtomicU64>,
}

impl Crowd {
    /// Sends everybody to work.
    pub fn start(world: &Shared, api: &Api, admin: SocketAddr, dice: &mut Dice) -> Self {
        let down = Arc::new(AtomicBool::new(false));
        let jobs = Arc::new(AtomicU64::new(0));
        let client = |dice: &mut Dice| Client {
            world: Arc::clone(world),
            api: api.clone(),
            dice: dice.split(),
            down: Arc::clone(&down),
            think_ms: THINK_MS,
            insists: false,
        };
        let mut tasks: Vec<_> =
            (0..WRITERS).map(|group| tokio::spawn(client(dice).writes(group * GROUP))).collect();
        tasks.extend((0..READERS).map(|_| tokio::spawn(client(dice).reads())));
        tasks.push(tokio::spawn(client(dice).shines(Api::new(admin), Arc::clone(&jobs))));
        Self { tasks, down, jobs }
    }

    /// Waits until everybody has noticed that the process is gone.
    pub async fn end(self) {
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}
