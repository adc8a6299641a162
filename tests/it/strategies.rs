//! Fan-out strategies: what people see is the same under each, and after every switch.

use std::{collections::BTreeMap, fmt::Write as _};

use chirp::{
    domain::{TweetId, fanout::Strategy},
    stack::seed::{Order, Plan},
};
use futures_util::{StreamExt as _, stream};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use sha2::{Digest as _, Sha256};

use crate::support::{Actor, Shape, TestApp, nothing_waits, tokens::Signer};

const STRATEGY: &str = "CHIRP_FANOUT_STRATEGY";
/// Calls at once.
const AT_ONCE: usize = 8;

/// With this variable the strategies are compared over another profile of `chirp seed`; of one that is
/// larger than the demo everybody's first page is read, not all of them.
const PROFILE: &str = "CHIRP_TEST_PROFILE";
const DEMO: &str = "demo";

/// Over servers a walk to the end of a cold timeline takes a tenth of a second, so some walk.
const SERVERS_EVERY: usize = 12;

/// The people of a seed.
struct Crowd {
    plan: Plan,
    /// Whether timelines are read to their ends.
    to_end: bool,
    signer: Signer,
}

impl Crowd {
    async fn of(app: &TestApp, profile: &str) -> Self {
        let plan = Plan::new(&Order::of(profile)).unwrap();
        Self { plan, to_end: profile == DEMO, signer: Signer::of(app).await }
    }

    fn user(&self, app: &TestApp, user: u32) -> Actor {
        let account = self.plan.account(user);
        self.signer.acts(app, account.id, account.handle.as_str())
    }

    /// What people do, the same each time: they tweet, follow, leave and delete.
    async fn live(&self, app: &TestApp, seed: u64, steps: u64) {
        let mut dice = Pcg64::seed_from_u64(seed);
        let mut own: BTreeMap<u32, Vec<TweetId>> = BTreeMap::new();
        for step in 0..steps {
            // Few, so that they meet; among them the most and the least followed.
            let mut one = || match dice.random_range(0..3) {
                0 => dice.random_range(0..4),
                _ => 930 + dice.random_range(0..30),
            };
            let (user, other) = (one(), one());
            let actor = self.user(app, user);
            let handle = self.plan.account(other).handle;
            match dice.random_range(0..10) {
                0..6 => {
                    let tweet = actor.tweets(&format!("life {seed}, step {step}")).await;
                    own.entry(user).or_default().push(tweet.id);
                }
                6 if user != other => actor.follows(handle.as_str()).await,
                7 if user != other => actor.unfollows(handle.as_str()).await,
                8 => {
                    if let Some(id) = own.get_mut(&user).and_then(Vec::pop) {
                        actor.deletes(id).await;
                    }
                }
                _ => drop(actor.timeline().await),
            }
        }
    }

    /// A hash of the home timelines of all (over servers of some), each from its top to its end, or to
    /// that of its first page, without ids: those of two stacks differ. Tweets that say `not` are left out.
    async fn timelines(&self, app: &TestApp, not: &str) -> String {
        nothing_waits(app).await;
        let read = |user: u32| {
            let actor = self.user(app, user);
            async move {
                let mut lines = format!("{user}\n");
                let mut path = "/timeline?limit=100".to_owned();
                loop {
                    let page = actor.page(&path).await;
                    assert!(!page.degraded);
                    for tweet in page.tweets.iter().filter(|tweet| tweet.text.as_str() != not) {
                        let (author, text) = (tweet.author.handle.as_str(), &tweet.text);
                        writeln!(lines, "{author}\t{}", text.as_str()).unwrap();
                    }
                    let Some(next) = page.next.filter(|_| self.to_end) else { return lines };
                    path = format!("/timeline?limit=100&before={next}");
                }
            }
        };
        let every = if app.over_servers() { SERVERS_EVERY } else { 1 };
        let users = (0..self.plan.users()).step_by(every);
        let all = stream::iter(users).map(read).buffered(AT_ONCE);
        let hash = all.fold(Sha256::new(), async |hash, lines| hash.chain_update(lines)).await;
        hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
    }
}

/// These run over servers too, if there are any.
mod one_process {
    use super::*;

    #[tokio::test]
    async fn the_same_history_is_the_same_timelines_under_every_strategy() {
        let profile = std::env::var(PROFILE).unwrap_or_else(|_| DEMO.to_owned());
        let mut found = Vec::new();
        for strategy in Strategy::ALL.map(Strategy::as_str) {
            // Many authors are pulled, many are pushed by chunk jobs, many in one go.
            let limits = [
                (STRATEGY, strategy),
                ("CHIRP_FANOUT_CELEBRITY_FOLLOWERS", "100"),
                ("CHIRP_FANOUT_INLINE_FOLLOWERS", "30"),
                ("CHIRP_FANOUT_BACKFILL_MAX", "2"),
                ("CHIRP_TIMELINE_REBUILD_ENTRIES", "30"),
            ];
            let mut app = TestApp::prepare(Shape::OneProcess, &limits);
            app.has_databases().await;
            let seeded = app.runs(&["seed", &profile]);
            assert!(seeded.status.success(), "{seeded:?}");
            app.launch().await;
            let crowd = Crowd::of(&app, &profile).await;
            crowd.live(&app, 1, 200).await;
            let (warm, rows) =
                (crowd.timelines(&app, "").await, app.metric("chirp_home_rows_total").await);
            assert_eq!(rows > 0, strategy == "push", "{strategy} wrote {rows} home rows");
            println!("{profile} {strategy}: {warm}, {rows} rows of home timelines");
            found.push((strategy, warm));
        }
        assert!(found.windows(2).all(|pair| pair[0].1 == pair[1].1), "{found:?}");
    }

    #[tokio::test]
    async fn a_data_set_is_switched_and_nobody_notices() {
        let mut app = TestApp::prepare(Shape::OneProcess, &[]);
        app.has_databases().await;
        let seeded = app.runs(&["seed", "demo"]);
        assert!(seeded.status.success(), "{seeded:?}");
        app.launch().await;
        let crowd = Crowd::of(&app, DEMO).await;
        let mut before = "hybrid";
        for (life, next) in (1..).zip(["push", "pull", "hybrid"]) {
            crowd.live(&app, life, 40).await;
            // Lists are warm: a switch that left them would show them later, without what comes next.
            let last = format!("on its way when {before} ends");
            let timelines = crowd.timelines(&app, "").await;
            crowd.user(&app, 0).tweets(&last).await;
            app.asks_to_stop();
            app.has_stopped().await;
            let switched = app.runs(&["migrate", "strategy", next]);
            let said = String::from_utf8_lossy(&switched.stderr).into_owned();
            assert!(switched.status.success(), "{said}");
            assert_eq!(String::from_utf8_lossy(&switched.stdout), format!("{before}\t{next}\n"));
            app.launch().await;
            assert_eq!(crowd.timelines(&app, &last).await, timelines, "to {next}");
            for &follower in crowd.plan.graph().followers.of(0).iter().filter(|&&f| f < 930).take(9)
            {
                assert_eq!(crowd.user(&app, follower).reads().await[0], last, "to {next}");
            }
            before = next;
        }
    }
}

#[test]
fn a_strategy_that_the_data_set_has_not_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let runs = |args: &[&str], strategy: &str| {
        let mut command = crate::support::chirp(args);
        command.current_dir(folder.path()).env(STRATEGY, strategy).output().unwrap()
    };
    let up = &["up", "--detach", "--port", "0", "--admin-port", "0"];
    // Whoever only looks chooses nothing.
    assert!(runs(&["seed", "demo"], "").status.success());
    assert!(runs(&["doctor"], "").status.success());
    assert!(runs(&["migrate"], "").status.success());
    let first = runs(up, "pull");
    assert!(first.status.success(), "{first:?}");
    let switch = runs(&["migrate", "strategy", "push"], "");
    let said = String::from_utf8(switch.stderr).unwrap();
    assert_eq!(switch.status.code(), Some(14), "{said}");
    assert!(runs(&["down"], "").status.success());

    let other = runs(up, "push");
    let said = String::from_utf8(other.stderr).unwrap();
    assert_eq!(other.status.code(), Some(25), "{said}");
    assert!(said.contains("was made with the strategy `pull`, not `push`"), "{said}");
    assert!(said.contains("run `chirp migrate strategy push`"), "{said}");
    let bad = runs(up, "fanout");
    let said = String::from_utf8(bad.stderr).unwrap();
    assert_eq!(bad.status.code(), Some(3), "{said}");
    assert!(said.contains("is `fanout`, allowed are hybrid, push and pull"), "{said}");
    let unknown = runs(&["migrate", "strategy", "both"], "");
    assert_eq!(unknown.status.code(), Some(2));

    let same = runs(&["migrate", "strategy", "pull"], "");
    assert_eq!(String::from_utf8(same.stdout).unwrap(), "pull\tpull\n");
    let switched = runs(&["migrate", "strategy", "push"], "");
    assert_eq!(String::from_utf8(switched.stdout).unwrap(), "pull\tpush\n");
    for strategy in ["push", ""] {
        let up = runs(up, strategy);
        assert!(up.status.success(), "{up:?}");
        assert!(runs(&["down"], "").status.success());
    }
}
