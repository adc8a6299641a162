//! Part 2: `POST /tweets`, beside the same transaction alone: over files in the same writer behind a
//! minimal handler, over servers in pgbench.

use std::{sync::Arc, time::Duration};

use chirp::{domain::TweetId, wire::api::Tweet};
use rand::RngExt;
use rand_pcg::Pcg64;

use crate::{
    driver::{Answer, Load, SLICE, slice, turns},
    pgbench::Pgbench,
    read::{audit, compare},
    report::{Part, Series},
    server::Server,
    stack::{Side, Stack},
    world::{self, World},
};

/// Connections: what one commit can take along.
const CONNECTIONS: usize = 64;
const GOAL: f64 = 0.6;
const GOAL_CONTAINERS: f64 = 0.7;

/// Writers, everybody as often.
pub(crate) struct Writers {
    world: Arc<World>,
    random: Pcg64,
    author: usize,
    pub(crate) posted: Vec<(usize, TweetId)>,
}

impl Writers {
    pub(crate) fn new(world: &Arc<World>, seed: u64) -> Self {
        let (world, random) = (Arc::clone(world), world::random(seed));
        Self { world, random, author: 0, posted: Vec::new() }
    }
}

impl Load for Writers {
    fn next(&mut self, request: &mut Vec<u8>) {
        self.author = self.random.random_range(0..self.world.len());
        self.world.post(self.author, &mut self.random, request);
    }

    fn check(&mut self, answer: &Answer<'_>) {
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
        let tweet: Tweet = serde_json::from_slice(answer.body).unwrap();
        self.posted.push((self.author, tweet.id));
    }
}

pub(crate) async fn run(stack: &Stack, length: Duration) -> Part {
    let Stack { chirp, world, side, .. } = stack;
    let writers = |seed: u64| -> Vec<Writers> {
        (0..CONNECTIONS as u64).map(|n| Writers::new(world, seed + n)).collect()
    };
    let mut ours = writers(400);
    let (turns, goals, about) = match side {
        Side::Twin(twin) => {
            let bare = Server::reference("posts", &[twin.path().to_str().unwrap()]);
            let mut others = writers(500);
            let reference = async || slice(&bare, &mut others, SLICE).await;
            let turns = turns(chirp, &mut ours, length, reference).await;
            let about = "chirp's cpu includes relay, bus, both copies and fan-out to 20 followers, to \
                         the last acknowledgement";
            (turns, (GOAL, Some(GOAL)), about.to_owned())
        }
        Side::Servers(servers) => {
            let pgbench = Pgbench::new(servers, world.len()).await;
            let reference = async || pgbench.slice(SLICE);
            let turns = turns(chirp, &mut ours, length, reference).await;
            (turns, (GOAL_CONTAINERS, None), pgbench.about())
        }
    };
    let mut part = compare("post", &turns, goals.0, goals.1);
    let drains = turns.chirp.iter().map(|slice| slice.drained_s).collect();
    part.chirp.push(Series::new("until queues are empty", "s", drains));
    part.note(format!("{CONNECTIONS} connections to chirp; {about}"));
    let posted: Vec<_> = ours.into_iter().flat_map(|writer| writer.posted).collect();
    match audit(chirp, world, &posted).await {
        Ok(note) => part.note(note),
        Err(why) => part.broken = Some(why),
    }
    part
}
