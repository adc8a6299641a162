//! `chirp seed`: a data set that looks lived in, whole or not at all.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use chirp::{
    domain::TweetId,
    stack::seed::{Order, Plan},
    wire::api::Session,
};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::support::{Actor, Shape, TestApp, chirp, run_in};

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn plan(profile: &str, seed: u64) -> Plan {
    Plan::new(&Order { seed, ..Order::of(profile) }).unwrap()
}

/// What the home timeline of `user` must show, the newest first.
fn home(plan: &Plan, user: u32) -> Vec<TweetId> {
    let authors: BTreeSet<u32> =
        plan.graph().following.of(user).iter().copied().chain([user]).collect();
    let by_author = plan.by_author();
    let mut ids: Vec<TweetId> =
        authors.into_iter().flat_map(|author| by_author[author as usize].clone()).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids
}

/// The lines of a credentials file.
fn credentials(path: &Path) -> Vec<Value> {
    let mode = fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner only");
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// These run over servers too, if there are any.
mod one_process {
    use super::*;

    #[tokio::test]
    async fn a_seeded_data_set_reads_as_if_its_people_had_written_it() {
        let mut app = TestApp::prepare(Shape::OneProcess, &[]);
        app.has_databases().await;
        let seeded = json_of(&app.runs(&["seed", "demo", "--seed", "7", "--json"]));
        let plan = plan("demo", 7);
        assert_eq!((&seeded["users"], &seeded["edges"]), (&962.into(), &18_812.into()));
        assert_eq!(seeded["sha256"], plan.sha256());
        app.launch().await;

        let lines = credentials(&app.data_dir().join("credentials.jsonl"));
        assert_eq!((&lines[0]["schema"], lines.len()), (&"chirp.credentials/1".into(), 963));
        for user in [0, 1, 30, 961] {
            let account = plan.account(user);
            let handle = account.handle.as_str();
            let line = &lines[user as usize + 1];
            assert_eq!(line["handle"], handle);
            let bearer = [("authorization", format!("Bearer {}", line["token"].as_str().unwrap()))];
            let bearer: Vec<_> = bearer.iter().map(|(name, value)| (*name, &**value)).collect();
            let page = app.client.call(app.address, "GET", "/timeline", &bearer, None).await;
            page.unwrap().expect(200);

            let login = json!({ "handle": handle, "password": lines[0]["password"] });
            let answer = app.client.call(app.address, "POST", "/sessions", &[], Some(&login)).await;
            let actor = Actor::with(&app, answer.unwrap().expect(201).json::<Session>());
            assert_eq!(actor.walks_down("/timeline", 100).await, home(&plan, user), "{handle}");
            let own = actor.walks_down(&format!("/users/{handle}/tweets"), 100).await;
            let mut written = plan.by_author()[user as usize].clone();
            written.reverse();
            assert_eq!(own, written, "{handle}");
            let profile = actor.profile(handle).await;
            let graph = plan.graph();
            let (followers, following) = (graph.followers.of(user), graph.following.of(user));
            assert_eq!(profile.followers, followers.len() as u64);
            assert_eq!(profile.following, following.len() as u64);
        }

        // What is done from then on is as among any people.
        let login =
            json!({ "handle": plan.account(0).handle.as_str(), "password": lines[0]["password"] });
        let answer = app.client.call(app.address, "POST", "/sessions", &[], Some(&login)).await;
        let star = Actor::with(&app, answer.unwrap().expect(201).json::<Session>());
        let tweet = star.tweets("still here").await;
        assert!(tweet.id > home(&plan, 0)[0], "newer than the history");
        let newcomer = app.signs_up("newcomer").await;
        newcomer.follows(&star.handle).await;
        newcomer.eventually_sees(tweet.id).await;
        assert_eq!(
            newcomer.walks_down("/timeline", 100).await.len(),
            1 + plan.by_author()[0].len()
        );
    }

    #[tokio::test]
    async fn whom_many_follow_from_the_start_is_read_at_read_time() {
        let changed = [("CHIRP_FANOUT_CELEBRITY_FOLLOWERS", "100")];
        let mut app = TestApp::prepare(Shape::OneProcess, &changed);
        app.has_databases().await;
        json_of(&app.runs(&["seed", "demo", "--json"]));
        let plan = plan("demo", 1);
        app.launch().await;
        let lines = credentials(&app.data_dir().join("credentials.jsonl"));
        let follower = plan.graph().followers.of(0)[0];
        let session = |user: u32| {
            let handle = plan.account(user).handle;
            json!({ "handle": handle.as_str(), "password": lines[0]["password"] })
        };
        let mut actors = Vec::new();
        for user in [0, follower] {
            let login = session(user);
            let answer = app.client.call(app.address, "POST", "/sessions", &[], Some(&login)).await;
            actors.push(Actor::with(&app, answer.unwrap().expect(201).json::<Session>()));
        }
        let tweet = actors[0].tweets("to all of you").await;
        actors[1].eventually_sees(tweet.id).await;
        let pushed = app.metric("chirp_deliveries_total").await;
        let spared = app.metric("chirp_writes_saved_total").await;
        let followers = plan.graph().followers.of(0).len() as u64;
        assert!(followers > 100 && pushed + spared < 10, "{pushed} and {spared} of {followers}");
    }
}

#[test]
fn a_seed_goes_into_an_empty_data_set_only_and_never_over_another() {
    let folder = tempfile::tempdir().unwrap();
    let runs = |args: &str| run_in(folder.path(), &args.split(' ').collect::<Vec<_>>());
    let first = json_of(&runs("seed demo --json"));
    let path = folder.path().join(".chirp/credentials.jsonl");
    let before = credentials(&path);
    let again = runs("seed demo --json --tokens 3");
    let said = String::from_utf8(again.stderr.clone()).unwrap();
    assert!(said.contains("all of it was there; the access tokens are new"), "{said}");
    assert_eq!(json_of(&again)["sha256"], first["sha256"]);
    let after = credentials(&path);
    assert_eq!((after.len(), &after[0]["password"]), (4, &before[0]["password"]));

    fs::create_dir(folder.path().join("blocked")).unwrap();
    for (args, code, sentence, hint) in [
        (
            "seed demo --seed 2",
            24,
            "filled by `seed demo --seed 1 --tweets 5`, and `seed demo --seed 2 --tweets 5` would",
            "--purge",
        ),
        ("seed 10k", 24, "would be another one", "--data-dir"),
        ("seed huge", 2, "invalid value 'huge' for '<PROFILE>'", "demo, 10k, 100k, 1m"),
        ("seed demo --tweets 101", 2, "101 is not in 0..=100", "--help"),
        ("seed demo --credentials blocked", 2, "it is no ordinary file", "--credentials"),
        ("seed demo --credentials no/file", 2, "its folder is not there", "--credentials"),
        ("seed demo --credentials .chirp/user.db", 2, "among the files of the data", "new file"),
        ("migrate --check strategy push", 2, "cannot be used with", "--help"),
        ("up --seed 10k --port 0 --admin-port 0", 24, "would be another one", "--data-dir"),
    ] {
        let output = runs(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args}: {said}");
        assert!(said.contains(sentence) && said.contains(hint), "{args}: {said}");
    }

    // What was seeded is in no outbox, so the copy is not begun anew without it.
    fs::rename(folder.path().join(".chirp/timeline.db"), folder.path().join("saved.db")).unwrap();
    let rebuilt = runs("replay --since 0 --rebuild");
    let said = String::from_utf8(rebuilt.stderr).unwrap();
    assert_eq!(rebuilt.status.code(), Some(1), "{said}");
    assert!(said.contains("what was seeded is in no outbox"), "{said}");
    fs::rename(folder.path().join("saved.db"), folder.path().join(".chirp/timeline.db")).unwrap();
    assert!(runs("doctor").status.success(), "nothing was changed");

    let purged = runs("down --purge");
    assert!(purged.status.success() && !folder.path().join(".chirp").exists(), "{purged:?}");
    let nowhere = runs("migrate strategy push");
    assert_eq!(nowhere.status.code(), Some(15), "{nowhere:?}");

    // Somebody who signed up is no seed.
    let other = tempfile::tempdir().unwrap();
    crate::support::obstacles::stopped_stack(other.path());
    let users = Connection::open(other.path().join(".chirp/user.db")).unwrap();
    let ada = "insert into users (id, handle, name, created_at_ms) values (1, 'ada', 'Ada', 1)";
    users.execute(ada, []).unwrap();
    drop(users);
    let output = run_in(other.path(), &["seed", "demo"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(24), "{said}");
    assert!(said.contains("is not empty, and only an empty one is seeded"), "{said}");
}

#[test]
fn a_seed_that_is_killed_is_not_shown_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join(".chirp");
    let order = ["seed", "10k", "--seed", "3", "--tweets", "2"];
    let look = |file: &str, sql: &str| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let file = Connection::open_with_flags(data.join(file), flags).ok()?;
        file.query_row(sql, [], |row| row.get::<_, i64>(0)).ok()
    };
    let mut kills = 0;
    // At three depths: something is noted, users are there, tweets are there.
    for (file, sql) in [
        ("user.db", "select count(*) from seeds"),
        ("user.db", "select count(*) from users"),
        ("tweet.db", "select count(*) from tweets"),
    ] {
        let mut child =
            chirp(&order).current_dir(folder.path()).stderr(Stdio::null()).spawn().unwrap();
        let ended = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if look(file, sql).is_some_and(|rows| rows > 0) {
                break None;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        if ended.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            let unfinished = look("user.db", "select count(*) from seeds where done = 0");
            if unfinished == Some(1) {
                kills += 1;
                let up = run_in(folder.path(), &["up", "--port", "0", "--admin-port", "0"]);
                let said = String::from_utf8(up.stderr).unwrap();
                assert_eq!(up.status.code(), Some(24), "{said}");
                let what = "seed 10k --seed 3 --tweets 2";
                assert!(said.contains(&format!("only a part of `{what}`")), "{said}");
                assert!(said.contains(&format!("`chirp {what}` adds the rest")), "{said}");
            }
        }
    }
    assert!(kills > 0, "it was too fast for every kill");
    let output = run_in(folder.path(), &[&order[..], &["--json"]].concat());
    let report = json_of(&output);
    let plan = Plan::new(&Order { profile: "10k".to_owned(), seed: 3, tweets: 2 }).unwrap();
    assert_eq!(report["sha256"], plan.sha256());
    let pairs: usize = (0..plan.users()).map(|user| plan.pairs(user).count()).sum();
    let rows = |count: usize| i64::try_from(count).unwrap();
    let (edges, tweets) = (rows(plan.graph().edges()), rows(plan.tweets()));
    for (file, sql, count) in [
        ("user.db", "select count(*) from users", 10_000),
        ("user.db", "select count(*) from credentials", 10_000),
        ("user.db", "select count(*) from edges", rows(pairs)),
        ("user.db", "select sum(low_follows + high_follows) from edges", edges),
        ("user.db", "select sum(n) from counts where kind = 'followers'", edges),
        ("user.db", "select sum(n) from counts where kind = 'following'", edges),
        ("timeline.db", "select count(*) from followers where follows", edges),
        ("timeline.db", "select count(*) from relations where follows", edges),
        ("timeline.db", "select count(*) from author_tweets", tweets),
        ("timeline.db", "select count(*) from tweets", tweets),
        ("tweet.db", "select count(*) from tweets", tweets),
        ("tweet.db", "select count(*) from outbox", 0),
    ] {
        assert_eq!(look(file, sql), Some(count), "{file}: {sql}");
    }
}
