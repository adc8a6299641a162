//! Proof that the audit can fail: it is run on copies of the data that were tampered with, and has
//! to name each fault.

use std::{fs, path::Path};

use chirp::{adapters::embedded::sqlite::key, domain::TweetId};
use rusqlite::{Connection, params};

use crate::{
    judge::{
        audit::{Scope, audit, drain},
        checks::{COUNTS, DOUBLED, FOREIGN, KEYS, LOST, REFUSED, RESURRECTED},
        dice::Dice,
        world::{ORDINARY, STAR, Shared, State, World, candidates, key_of, text_of},
    },
    server::Place,
};

/// What is done to a copy.
struct Tamper {
    what: &'static str,
    /// The rule that the audit must find broken.
    rule: &'static str,
    by: fn(&World, &Target, &Path) -> rusqlite::Result<usize>,
}

/// Whom it is done to.
struct Target {
    author: usize,
    n: usize,
    id: TweetId,
    /// A deleted tweet.
    deleted: TweetId,
    /// A post of the same author that was refused.
    refused: (usize, usize),
    /// Somebody who does not follow the author, and has no other reason not to see them.
    stranger: usize,
}

const TAMPERS: [Tamper; 8] = [
    Tamper {
        what: "a tweet is gone from the timeline role's copy",
        rule: LOST,
        by: |world, target, dir| {
            let sql = "delete from author_tweets where author_id = ?1 and tweet_id = ?2";
            let author = key(world.users[target.author].id.0);
            Connection::open(dir.join("timeline.db"))?
                .execute(sql, params![author, key(target.id.0)])
        },
    },
    Tamper {
        what: "a tweet is gone from the truth",
        rule: LOST,
        by: |_, target, dir| {
            let sql = "delete from tweets where id = ?1";
            Connection::open(dir.join("tweet.db"))?.execute(sql, [key(target.id.0)])
        },
    },
    Tamper {
        what: "a tweet was stored twice, under two ids",
        rule: DOUBLED,
        by: |world, target, dir| {
            let text = text_of(target.author, target.n);
            copy_as(world, target, dir, &text)
        },
    },
    Tamper {
        what: "a post that was refused is stored",
        rule: REFUSED,
        by: |world, target, dir| {
            let text = text_of(target.refused.0, target.refused.1);
            copy_as(world, target, dir, &text)
        },
    },
    Tamper {
        what: "a delete is forgotten by the timeline role's copy",
        rule: RESURRECTED,
        by: |_, target, dir| {
            let sql = "update tweets set deleted = 0 where id = ?1 and deleted = 1";
            Connection::open(dir.join("timeline.db"))?.execute(sql, [key(target.deleted.0)])
        },
    },
    Tamper {
        what: "an author is seen by somebody who does not follow them",
        rule: FOREIGN,
        by: |world, target, dir| {
            let sql = "
                insert or replace into relations
                (user_id, other_id, version, follows, blocked, mutes) values (?1, ?2, 999, 1, 0, 0)";
            let (reader, author) = (world.users[target.stranger].id, world.users[target.author].id);
            let conn = Connection::open(dir.join("timeline.db"))?;
            conn.execute(sql, params![key(reader.0), key(author.0)])?;
            // With `push` a home timeline is what was put into it.
            let sql = "
                insert or ignore into home_timelines (user_id, tweet_id, author_id)
                select ?1, tweet_id, author_id from author_tweets where author_id = ?2";
            conn.execute(sql, params![key(reader.0), key(author.0)])
        },
    },
    Tamper {
        what: "a count is off by one",
        rule: COUNTS,
        by: |world, _, dir| {
            let sql = "
                update counts set n = n + 1 where user_id = ?1
                and shard = (select min(shard) from counts where user_id = ?1)";
            Connection::open(dir.join("user.db"))?.execute(sql, [key(world.users[STAR].id.0)])
        },
    },
    Tamper {
        what: "an idempotency key is forgotten",
        rule: KEYS,
        by: |world, target, dir| {
            let sql = "delete from idempotency where author_id = ?1 and key = ?2";
            let author = key(world.users[target.author].id.0);
            let name = key_of(target.author, target.n);
            Connection::open(dir.join("tweet.db"))?.execute(sql, params![author, name])
        },
    },
];

/// Stores the target's tweet once more with another id and `text`.
fn copy_as(world: &World, target: &Target, dir: &Path, text: &str) -> rusqlite::Result<usize> {
    let conn = Connection::open(dir.join("timeline.db"))?;
    // A millisecond earlier, by a node that does not exist: no tweet has this id.
    let (id, author) =
        (key(target.id.0 - (1 << 22) + (900 << 12)), key(world.users[target.author].id.0));
    let sql = "
        insert into tweets (id, author_id, handle, name, text, created_at_ms, deleted)
        select ?2, author_id, handle, name, ?3, created_at_ms, 0 from tweets where id = ?1";
    conn.execute(sql, params![key(target.id.0), id, text])?;
    conn.execute("insert into author_tweets values (?1, ?2)", params![author, id])
}

/// Something to tamper with; `None` while too little has been written.
fn target(world: &World, dice: &mut Dice) -> Option<Target> {
    let mut found = Vec::new();
    for author in 0..ORDINARY {
        let tweets = &world.users[author].tweets;
        let first = |state| tweets.iter().position(|tweet| tweet.state == state);
        let stranger = (0..ORDINARY).find(|&reader| {
            candidates(reader).contains(&author)
                && !world.visible(reader).contains(&author)
                && !world.apart(reader, author)
        });
        let (Some(n), Some(refused), Some(stranger)) =
            (first(State::Shown), first(State::Absent), stranger)
        else {
            continue;
        };
        found.push((author, n, tweets[n].id?, (author, refused), stranger));
    }
    let tweets = world.users.iter().flat_map(|user| &user.tweets);
    let deleted = tweets.filter(|tweet| tweet.state == State::Deleted);
    let deleted: Vec<TweetId> = deleted.filter_map(|tweet| tweet.id).collect();
    if found.is_empty() || deleted.is_empty() {
        return None;
    }
    let &(author, n, id, refused, stranger) = dice.pick(&found);
    Some(Target { author, n, id, deleted: *dice.pick(&deleted), refused, stranger })
}

/// Whether enough has been written.
pub fn possible(world: &World, dice: &mut Dice) -> bool {
    target(world, dice).is_some()
}

/// Tampers with copies of the data, which no process has open, and demands that each is flagged.
pub async fn prove(world: &Shared, place: &Place, dice: &mut Dice) -> Result<(), String> {
    for tamper in TAMPERS {
        let folder = tempfile::tempdir().unwrap();
        let copy = Place::new(folder.path());
        fs::create_dir(&copy.data).unwrap();
        for entry in fs::read_dir(&place.data).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), copy.data.join(entry.file_name())).unwrap();
            }
        }
        let target = target(&world.lock().unwrap(), dice);
        let target = target.ok_or("nothing to tamper with was written by then")?;
        let changed = (tamper.by)(&world.lock().unwrap(), &target, &copy.data).unwrap();
        assert!(changed > 0, "nothing was there to tamper with: {}", tamper.what);
        let server = copy.start().await?;
        drain(&[server.admin]).await?;
        let scope = Scope {
            homes: vec![target.stranger, target.author],
            authors: (0..=STAR).collect(),
            profiles: vec![STAR],
            keys: vec![(target.author, target.n)],
            ..Scope::default()
        };
        audit(world, &server.api(), &scope, dice).await;
        let found = std::mem::take(&mut world.lock().unwrap().violations);
        if !found.iter().any(|violation| violation.rule == tamper.rule) {
            return Err(format!("the audit does not see that {}: {found:?}", tamper.what));
        }
        println!("  tampered copy, {}: flagged ({} times)", tamper.what, found.len());
    }
    Ok(())
}
