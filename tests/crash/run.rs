//! The loop: load, kill, start, settle, drain, audit.

use std::{
    io::Write as _,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use chirp::domain::{TweetId, snowflake};
use tempfile::TempDir;

use crate::{
    judge::{
        api::PAGE,
        audit::{self, Scope, audit, drain},
        dice::Dice,
        settle::{early, settle, warm},
        world::{PASSIVE, STAR, Shared, WRITERS, now_ms},
    },
    load::Crowd,
    report::{Figures, PLACES, percentile},
    seed::seed,
    server::{Place, Server},
    tamper,
};

/// Homes read after each kill: of ordinary users, and of the star's passive followers.
const HOMES: (usize, usize) = (40, 40);
/// Acknowledged hides read after each kill before anything is drained.
const HIDES: usize = 60;
/// The load lasts so long before a kill is aimed, at random, in milliseconds.
const LOAD_MS: std::ops::Range<usize> = 100..700;
/// The audit is run on tampered copies once, as soon after this kill as enough has been written.
const TAMPER_AFTER: usize = 3;
/// From this number of kills on, the last audit reads every follower of the star, else [`FEW`].
const WHOLE_FROM: usize = 100;
const FEW: usize = 2_000;
/// Followers of the star that the last audit reads to their end.
const DEEP: usize = 50;
/// Violations that are printed in whole.
const PRINTED: usize = 20;

/// What is to be done.
pub struct Plan {
    pub kills: usize,
    pub seed: u64,
}

struct Run {
    world: Shared,
    place: Place,
    dice: Dice,
    figures: Figures,
    /// Under every id of the last load, and of the one before it.
    low: TweetId,
    low_before: TweetId,
    tampered: bool,
}

/// Runs the plan. `true` if nothing was found.
pub async fn run(plan: &Plan) -> bool {
    let began = Instant::now();
    let folder = tempfile::Builder::new().prefix("chirp-crash-").tempdir().unwrap();
    let place = Place::new(folder.path());
    let mut dice = Dice::new(plan.seed);
    // The first start makes stores and keys.
    drop(place.start().await.unwrap());
    let world = Arc::new(Mutex::new(seed(&place.data, &mut dice).await));
    println!(
        "crash loop: {} kills, {WRITERS} writers, a star with {PASSIVE} followers, seed {}, \
         data {} (seeded in {} ms)",
        plan.kills,
        plan.seed,
        folder.path().display(),
        began.elapsed().as_millis()
    );
    let zero = TweetId(0);
    let mut run = Run {
        world,
        place,
        dice,
        figures: Figures::default(),
        low: zero,
        low_before: zero,
        tampered: false,
    };
    let done = run.all(plan.kills).await;
    run.report(done, began.elapsed(), folder)
}

impl Run {
    async fn all(&mut self, kills: usize) -> Result<(), String> {
        loop {
            let server = self.come_back().await?;
            let count = self.figures.kills();
            if !self.tampered && count >= TAMPER_AFTER.min(kills) {
                let possible = tamper::possible(&self.world.lock().unwrap(), &mut self.dice);
                if possible {
                    self.tampered = true;
                    drop(server);
                    tamper::prove(&self.world, &self.place, &mut self.dice).await?;
                    continue;
                }
            }
            if count >= kills {
                let proven = if self.tampered { Ok(()) } else { Err("nothing to tamper with") };
                return self.whole(&server, kills).await.and(proven.map_err(str::to_owned));
            }
            self.load_and_kill(server).await;
            while self.figures.wants_recovery() && self.figures.kills() < kills {
                let starts = self.figures.starts.len().max(1) as u32;
                let usual = self.figures.starts.iter().sum::<Duration>() / starts;
                let fell = self.place.start_and_kill(usual, &mut self.dice).await;
                self.fell(fell);
            }
            let (kill, step) = (self.figures.kills(), (kills / 20).max(1));
            if kill % step == 0 {
                let world = self.world.lock().unwrap();
                let (posts, unknown) = (world.tally.posts, world.tally.unknown);
                println!(
                    "  kill {kill}: {posts} posts acknowledged, {unknown} calls with an unknown end"
                );
                drop(std::io::stdout().flush());
            }
        }
    }

    /// Starts, settles, drains and audits.
    async fn come_back(&mut self) -> Result<Server, String> {
        let server = self.place.start().await?;
        self.figures.starts.push(server.took);
        let (api, began) = (server.api(), Instant::now());
        let (world, dice) = (Arc::clone(&self.world), &mut self.dice);
        let homes = audit::readers(&world.lock().unwrap(), HOMES.0, HOMES.1, dice);
        // One half is warm while the rest is delivered, the other is read from the stores after it.
        let warmed: Vec<usize> = homes.iter().copied().step_by(2).collect();
        warm(&world, &api, &warmed).await;
        let unpromised = settle(&world, &api, self.low, dice).await;
        self.figures.pages += early(&world, &api, &unpromised, &warmed, HIDES, dice).await;
        drain(&[server.admin]).await?;
        self.figures.drains.push(began.elapsed());
        let mut scope = audit::sample(&world.lock().unwrap(), self.low_before, homes, dice);
        scope.lagging = unpromised.ids(&world.lock().unwrap());
        let read = audit(&world, &api, &scope, dice).await;
        self.read(read);
        self.verdict()?;
        Ok(server)
    }

    async fn load_and_kill(&mut self, mut server: Server) {
        self.low_before = self.low;
        self.low = TweetId(snowflake::first_at(now_ms()));
        let crowd = Crowd::start(&self.world, &server.api(), server.admin, &mut self.dice);
        let pause = LOAD_MS.start + self.dice.below(LOAD_MS.len());
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
        let (wanted, dice) = (self.figures.gap(), self.dice.split());
        let (down, jobs) = (Arc::clone(&crowd.down), Arc::clone(&crowd.jobs));
        let kill = tokio::task::spawn_blocking(move || server.kill_at(wanted, dice, &down, &jobs));
        let fell = kill.await.unwrap();
        self.figures.under_load += 1;
        self.figures.in_flight += usize::from(crowd.jobs.load(Ordering::Relaxed) > 0);
        self.fell(fell);
        crowd.end().await;
    }

    fn fell(&mut self, mark: String) {
        *self.figures.fell.entry(mark.clone()).or_default() += 1;
        let mut world = self.world.lock().unwrap();
        (world.kill, world.mark) = (self.figures.kills(), mark);
    }

    fn read(&mut self, read: audit::Read) {
        self.figures.pages += read.pages;
        self.figures.tweets += read.tweets;
        self.figures.reread += read.reread;
    }

    fn verdict(&self) -> Result<(), String> {
        let found = self.world.lock().unwrap().violations.len();
        if found == 0 { Ok(()) } else { Err(format!("{found} violations")) }
    }

    /// The last audit: every list from its top to its end, every edge count, every follower.
    async fn whole(&mut self, server: &Server, kills: usize) -> Result<(), String> {
        let api = server.api();
        let everybody: Vec<usize> = (0..=STAR).collect();
        let followers = if kills < WHOLE_FROM { FEW } else { PASSIVE };
        let (passive, newest) = {
            let world = self.world.lock().unwrap();
            let all: Vec<usize> = world.passive_numbers().collect();
            let mut newest = world.expected(&[STAR], TweetId(0), None).into_iter().take(PAGE);
            (
                self.dice.sample(&all, followers),
                newest.next_back().map_or(TweetId(0), |(id, ..)| id),
            )
        };
        let mut homes = everybody.clone();
        homes.extend(self.dice.sample(&passive, DEEP));
        let deep =
            Scope { homes, authors: everybody.clone(), profiles: everybody, ..Scope::default() };
        let wide = Scope { low: newest, homes: passive, ..Scope::default() };
        for (scope, how_far) in [(deep, "their end"), (wide, "the star's hundredth tweet")] {
            let read = audit(&self.world, &api, &scope, &mut self.dice).await;
            println!(
                "  last audit: {} homes and {} authors, down to {how_far}: {} pages, {} tweets",
                scope.homes.len(),
                scope.authors.len(),
                read.pages,
                read.tweets
            );
            self.read(read);
        }
        self.verdict()
    }

    fn report(&self, done: Result<(), String>, took: Duration, folder: TempDir) -> bool {
        let (figures, world) = (&self.figures, self.world.lock().unwrap());
        println!("kills: {}, in {} s; they fell on", figures.kills(), took.as_secs());
        print!("{}", figures.histogram());
        let tally = world.tally;
        println!(
            "under load: {}, of these with the star's fan-out in flight: {}",
            figures.under_load, figures.in_flight
        );
        println!(
            "acknowledged: {} posts ({} by the star), {} deletes, {} edges; answered 202: {}; \
             refused: {}; not sent or shed: {}; unknown: {} \
             (posts: {} were there, {} were not)",
            tally.posts,
            tally.star_posts,
            tally.deletes,
            tally.edges,
            tally.pending,
            tally.refused,
            tally.unavailable,
            tally.unknown,
            tally.there,
            tally.not_there
        );
        println!(
            "spawn to ready: p50 {} ms, p99 {} ms; ready to drained: p50 {} ms, p99 {} ms",
            percentile(&figures.starts, 50),
            percentile(&figures.starts, 99),
            percentile(&figures.drains, 50),
            percentile(&figures.drains, 99)
        );
        println!(
            "audits: {} pages, {} tweets compared, {} lists read twice",
            figures.pages, figures.tweets, figures.reread
        );
        let of = |rule| world.violations.iter().filter(|found| found.rule == rule).count();
        println!(
            "lost: {}, doubled: {}",
            of(crate::judge::checks::LOST),
            of(crate::judge::checks::DOUBLED)
        );
        let thin = PLACES.iter().filter(|place| {
            figures.fell.get(**place).copied().unwrap_or_default() * 10 < figures.kills()
        });
        let thin: Vec<&&str> = thin.collect();
        if !thin.is_empty() {
            println!("fewer than a tenth of the kills fell on {thin:?}");
        }
        for violation in world.violations.iter().take(PRINTED) {
            println!("{violation}");
        }
        match done {
            Ok(()) => {
                println!("crash loop: 1 passed, 0 failed");
                true
            }
            Err(why) => {
                println!("{why}; the data is kept in {}", folder.keep().display());
                println!("crash loop: 0 passed, 1 failed");
                false
            }
        }
    }
}
