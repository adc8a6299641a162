//! Part 2: `POST /tweets`, beside a minimal handler that runs the same statements in the same writer.

use std::{sync::Arc, time::Duration};

use chirp::{domain::TweetId, wire::api::Tweet};
use rand::RngExt;
use rand_pcg::Pcg64;

use crate::{
    driver::{Answer, Load, slice},
    read::{audit, compare, warm},
    report::{Part, Series},
    server::Server,
    world::{self, USERS, World},
};

/// Connections: what one commit can take along.
const CONNECTIONS: usize = 64;
/// Seconds of a slice.
const SLICE_S: u64 = 3;
const GOAL: f64 = 0.6;

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
        self.author = self.random.random_range(0..USERS);
        self.world.post(self.author, &mut self.random, request);
    }

    fn check(&mut self, answer: &Answer<'_>) {
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
        let tweet: Tweet = serde_json::from_slice(answer.body).unwrap();
        self.posted.push((self.author, tweet.id));
    }
}

pub(crate) async fn run(length: Duration) -> Part {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let world = World::load(folder.path()).await;
    // The same tweets are there at the start, so that the trees of both files are as deep. A store
    // opens only in a folder that has all of them.
    for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), other.path().join(file.file_name())).unwrap();
        }
    }
    let chirp = Server::chirp(folder.path()).await;
    warm(&chirp, &world).await;
    let bare = Server::reference("posts", &[other.path().to_str().unwrap()]);
    let writers = |seed: u64| -> Vec<Writers> {
        (0..CONNECTIONS as u64).map(|n| Writers::new(&world, seed + n)).collect()
    };
    let (mut ours, mut others) = (writers(400), writers(500));
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let slice_length = Duration::from_secs(SLICE_S);
    for _ in 0..length.as_secs().div_ceil(SLICE_S) {
        let (found, back) = slice(&bare, others, slice_length).await;
        others = back;
        b.push(found);
        let (found, back) = slice(&chirp, ours, slice_length).await;
        ours = back;
        a.push(found);
    }
    let mut part = compare("post", &a, &b, GOAL, GOAL);
    let drains = a.iter().map(|slice| slice.drained_s).collect();
    part.chirp.push(Series::new("until queues are empty", "s", drains));
    part.note(format!(
        "{CONNECTIONS} connections; chirp's cpu includes relay, bus, both copies and fan-out to 20 \
         followers, to the last acknowledgement"
    ));
    let posted: Vec<_> = ours.into_iter().flat_map(|writer| writer.posted).collect();
    match audit(&chirp, &world, &posted).await {
        Ok(note) => part.note(note),
        Err(why) => part.broken = Some(why),
    }
    part
}
