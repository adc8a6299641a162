//! Row after row: load, fault, healing, audit.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chirp::domain::{TweetId, snowflake};

use crate::{
    act,
    judge::{
        api::Api,
        audit::{self, Scope, audit, drain},
        dice::Dice,
        settle::{early, settle, warm},
        world::{STAR, Shared, now_ms},
    },
    load::{Crowd, Log},
    plant,
    report::{self, Cell},
    seed::seed,
    stack::Stack,
    table::{Heals, Row},
};

/// The load runs so long before the fault.
const BEFORE: Duration = Duration::from_secs(3);
/// What must be answered may fail for so long at first: the longest bound of a call, and a few calls
/// until a circuit opens.
const NOTICE: Duration = Duration::from_secs(4);
/// A stack has healed when nothing has failed for so long.
const QUIET: Duration = Duration::from_secs(3);
/// It must have healed after this: Cassandra takes a minute to start on a busy machine.
const HEAL_MAX: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(100);
/// A replay begins so long before its row: what was on its way then may be lost too.
const REPLAY_BEFORE: Duration = Duration::from_mins(1);
/// Homes read after each row: of ordinary users, and of the star's passive followers.
const HOMES: (usize, usize) = (40, 20);
/// Acknowledged hides read after each row before anything is delivered.
const HIDES: usize = 60;
/// Violations that are printed in whole.
const PRINTED: usize = 10;

struct Run {
    stack: Stack,
    world: Shared,
    log: Log,
    dice: Dice,
    wrong: usize,
}

/// Runs the rows. `true` if all came as expected.
pub async fn run(rows: &[Row]) -> bool {
    let (began, seeded) = (Instant::now(), now_ms());
    let mut dice = Dice::new(seeded);
    println!("fault matrix: {} rows, seed {seeded}", rows.len());
    let stack = match Stack::start().await {
        Ok(stack) => stack,
        Err(why) => {
            println!("fault matrix: {why}");
            return false;
        }
    };
    println!("  {:.1} s until every process was ready", began.elapsed().as_secs_f64());
    let world = Arc::new(Mutex::new(seed(&stack, &mut dice).await));
    println!("  {:.1} s until everybody had signed up", began.elapsed().as_secs_f64());
    let mut run = Run { stack, world, log: Log::default(), dice, wrong: 0 };
    let done = run.all(rows).await;
    let violations = std::mem::take(&mut run.world.lock().unwrap().violations);
    violations.iter().take(PRINTED).for_each(|violation| println!("{violation}"));
    let clean = match done {
        Ok(()) if run.wrong == 0 && violations.is_empty() => {
            println!("fault matrix: {} rows, all as expected", rows.len());
            return true;
        }
        Ok(()) => format!("{} of {} rows not as expected", run.wrong, rows.len()),
        Err(why) => why,
    };
    println!("fault matrix: {clean}; logs are kept in {}", run.stack.keep().display());
    false
}

impl Run {
    async fn all(&mut self, rows: &[Row]) -> Result<(), String> {
        plant::prove(&self.world, &self.stack, &mut self.dice).await?;
        println!("{}", report::head());
        for (at, row) in rows.iter().enumerate() {
            {
                let mut world = self.world.lock().unwrap();
                (world.kill, world.mark) = (at + 1, row.name());
            }
            let cell = self.row(row).await.map_err(|why| format!("{}: {why}", row.name()))?;
            self.wrong += usize::from(!cell.wrong.is_empty());
            println!("{}", report::line(row, &cell));
            drop(std::io::stdout().flush());
        }
        self.whole().await
    }

    async fn row(&mut self, row: &Row) -> Result<Cell, String> {
        let (began_ms, mut cell) = (now_ms(), Cell::default());
        let low = TweetId(snowflake::first_at(began_ms));
        let (world, api) = (Arc::clone(&self.world), Api::new(self.stack.address));
        self.log.clear();
        let crowd = Crowd::start(&world, &api, &self.log, &mut self.dice);
        tokio::time::sleep(BEFORE).await;
        let from = Instant::now();
        act::begin(&mut self.stack, row.fault).await;
        let holds = Instant::now();
        act::last(&self.stack, row.fault, row.lasts).await;
        let to = Instant::now();
        act::end(&mut self.stack, row.fault).await;
        self.stack.ready().await?;
        match self.quiet(to).await {
            Ok(heals) => cell.heals = heals,
            Err(why) => cell.wrong.push(why),
        }
        crowd.end().await;
        cell.during = self.log.count(from, to);
        cell.noticed = self.log.count(holds + NOTICE, to);
        let drained = Instant::now();
        if row.heals == Heals::ByReplay {
            self.stack.replay(began_ms - REPLAY_BEFORE.as_millis() as u64).await?;
        }
        self.audit(low).await?;
        cell.drains = drained.elapsed();
        cell.count(&world.lock().unwrap());
        cell.judge(row);
        Ok(cell)
    }

    /// Waits until nothing has failed for a while; how long after `from` the last call failed.
    async fn quiet(&self, from: Instant) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let last = self.log.last_trouble().unwrap_or(from).max(from);
            if last.elapsed() >= QUIET {
                return Ok(last - from);
            }
            if began.elapsed() > HEAL_MAX {
                let recent =
                    self.log.count(Instant::now().checked_sub(QUIET).unwrap(), Instant::now());
                return Err(format!("calls still fail after {HEAL_MAX:?}: {recent:?}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Finds out what clients do not know, lets everything be delivered, and audits what was written
    /// above `low`.
    async fn audit(&mut self, low: TweetId) -> Result<(), String> {
        let (world, api) = (Arc::clone(&self.world), Api::new(self.stack.address));
        let dice = &mut self.dice;
        let homes = audit::readers(&world.lock().unwrap(), HOMES.0, HOMES.1, dice);
        let warmed: Vec<usize> = homes.iter().copied().step_by(2).collect();
        warm(&world, &api, &warmed).await;
        let mut unpromised = settle(&world, &api, low, dice).await;
        unpromised.unblocks = true;
        early(&world, &api, &unpromised, &warmed, HIDES, dice).await;
        drain(&self.stack.admins()).await?;
        let mut scope = audit::sample(&world.lock().unwrap(), low, homes, dice);
        scope.lagging = unpromised.ids(&world.lock().unwrap());
        audit(&world, &api, &scope, dice).await;
        Ok(())
    }

    /// The last audit: every list from its top to its end, and every count of edges.
    async fn whole(&mut self) -> Result<(), String> {
        let everybody: Vec<usize> = (0..=STAR).collect();
        let scope = Scope {
            homes: everybody.clone(),
            authors: everybody.clone(),
            profiles: everybody,
            ..Scope::default()
        };
        drain(&self.stack.admins()).await?;
        let api = Api::new(self.stack.address);
        let read = audit(&self.world, &api, &scope, &mut self.dice).await;
        println!(
            "last audit: every home and author down to their end: {} pages, {} tweets compared",
            read.pages, read.tweets
        );
        Ok(())
    }
}
