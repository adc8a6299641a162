//! Authors who become big.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use chirp::{
    domain::{
        PairChange, UserId,
        fanout::{BUCKETS, bucket_of, split_buckets},
    },
    ports::TimelineStore,
};

use super::{Server, follow, rows};

const AUTHOR: u64 = 1;
/// The most rows that a partition may ever have.
const PARTITION_MAX: i64 = 100_000;

/// Ids as they are given out: most differ in high bits.
const fn user(n: u64) -> u64 {
    (n + 2) << 20
}

/// All followers in a range of buckets, as a fan-out reads them.
async fn read(store: &dyn TimelineStore, buckets: (u16, u16), limit: usize) -> Vec<UserId> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.followers(UserId(AUTHOR), buckets, after, limit).await.unwrap();
        assert!(page.followers.len() <= limit);
        assert!(page.next > after || page.next.is_none(), "the cursor goes on");
        found.extend(page.followers);
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

/// Each follower once and in order.
fn once(found: Vec<UserId>) -> BTreeSet<UserId> {
    let order = |user: &UserId| (bucket_of(*user), *user);
    assert!(found.is_sorted_by(|a, b| order(a) < order(b)), "each once, in order");
    found.into_iter().collect()
}

/// Has 8 writers add followers; each says how many of its own are certain.
async fn add(
    stores: &[Arc<dyn TimelineStore>],
    each: u64,
    certain: &Arc<Vec<AtomicU64>>,
    batch: usize,
) {
    let writers: Vec<_> = (0..certain.len() as u64)
        .map(|writer| {
            let store = Arc::clone(&stores[writer as usize % stores.len()]);
            let certain = Arc::clone(certain);
            tokio::spawn(async move {
                let own: Vec<u64> = (writer * each..(writer + 1) * each).map(user).collect();
                for users in own.chunks(batch) {
                    let changes: Vec<PairChange> =
                        users.iter().map(|&user| follow(user, AUTHOR, 1, true)).collect();
                    // As a worker does whose batch did not come through.
                    while !store.put_pairs(&changes).await.is_done() {}
                    certain[writer as usize].fetch_add(users.len() as u64, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

fn certain_now(certain: &[AtomicU64], each: u64) -> BTreeSet<UserId> {
    let of = |(writer, count): (u64, &AtomicU64)| {
        (writer * each..writer * each + count.load(Ordering::SeqCst)).map(|n| UserId(user(n)))
    };
    (0..).zip(certain).flat_map(of).collect()
}

/// The rows of each part of the author's followers.
async fn sizes(server: &Server, keyspace: &str) -> Vec<i64> {
    let session = server.session().await;
    let mut sizes = Vec::new();
    for part in 0..=BUCKETS {
        let cql = format!(
            "select count(*) from {keyspace}.followers where followee_id = {AUTHOR} and part = {part}"
        );
        sizes.push(rows::<(i64,)>(&session, cql).await[0].0);
    }
    sizes
}

pub async fn an_author_becomes_big_under_running_fan_outs(server: Server) {
    const SMALL_MAX: usize = 2_000;
    const EACH: u64 = 1_000;
    let config = server.empty().await;
    // As many processes, which know nothing of each other: three that write, one that reads.
    let mut stores: Vec<Arc<dyn TimelineStore>> = Vec::new();
    for _ in 0..4 {
        stores.push(Arc::new(server.open(&config).await.with_small_max(SMALL_MAX)));
    }
    let reader = stores.pop().unwrap();
    let certain: Arc<Vec<AtomicU64>> = Arc::new((0..8).map(|_| AtomicU64::new(0)).collect());
    let ended = Arc::new(AtomicBool::new(false));
    let fan_outs: Vec<_> = [700, 64, 10_000]
        .map(|limit| {
            let (reader, certain) = (Arc::clone(&reader), Arc::clone(&certain));
            let ended = Arc::clone(&ended);
            tokio::spawn(async move {
                let mut passes = 0;
                while !ended.load(Ordering::SeqCst) {
                    let before = certain_now(&certain, EACH);
                    let found = once(read(&*reader, (0, BUCKETS), limit).await);
                    let lost = before.difference(&found).count();
                    assert_eq!(lost, 0, "of {} by {limit}", before.len());
                    passes += 1;
                }
                passes
            })
        })
        .into();
    add(&stores, EACH, &certain, 20).await;
    ended.store(true, Ordering::SeqCst);
    for fan_out in fan_outs {
        assert!(fan_out.await.unwrap() > 0);
    }
    let everybody = certain_now(&certain, EACH);
    // By a process that has never seen the author, too.
    let newcomer: Arc<dyn TimelineStore> = Arc::new(server.open(&config).await);
    for reader in [reader, newcomer] {
        assert_eq!(once(read(&*reader, (0, BUCKETS), 999).await), everybody);
    }
    let sizes = sizes(&server, &config.keyspace).await;
    assert_eq!(
        sizes.iter().sum::<i64>(),
        i64::try_from(8 * EACH).unwrap(),
        "no row is in two parts"
    );
    let small = usize::try_from(sizes[0]).unwrap();
    assert!((SMALL_MAX / 2..SMALL_MAX * 5 / 2).contains(&small), "part 0 has {small}");
}

pub async fn whoever_follows_before_and_leaves_after_the_change_is_gone(server: Server) {
    const SMALL_MAX: usize = 1_000;
    let config = server.empty().await;
    let late = server.open(&config).await;
    let store = server.open(&config).await.with_small_max(SMALL_MAX);
    let users: Vec<u64> = (0..3_000).map(user).collect();
    let all = |version, follows| -> Vec<PairChange> {
        users.iter().map(|&user| follow(user, AUTHOR, version, follows)).collect()
    };
    for changes in all(1, true).chunks(500) {
        assert!(store.put_pairs(changes).await.is_done());
    }
    let sizes = sizes(&server, &config.keyspace).await;
    assert!(sizes[1..].iter().any(|&rows| rows > 0), "the author is big");
    // Every third leaves, told by a process that takes the author for small; others, told by one that
    // does not, leave and come again, and their older versions come late.
    let leaves = |version, nth: usize| -> Vec<PairChange> {
        all(version, false).into_iter().skip(nth).step_by(3).collect()
    };
    assert!(late.put_pairs(&leaves(2, 0)).await.is_done());
    let back: Vec<PairChange> = all(3, true).into_iter().skip(1).step_by(3).collect();
    assert!(store.put_pairs(&back).await.is_done());
    assert!(late.put_pairs(&leaves(2, 1)).await.is_done());
    let expected: BTreeSet<UserId> =
        (0..3_000).filter(|n| n % 3 != 0).map(|n| UserId(user(n))).collect();
    for store in [&store, &late] {
        for limit in [100, 5_000] {
            assert_eq!(once(read(store, (0, BUCKETS), limit).await), expected, "by {limit}");
        }
        // Pages that end inside a bucket, of which the parts are read to different places.
        let few = (0, 32);
        let inside = |user: &&UserId| bucket_of(**user) < few.1;
        let expected: BTreeSet<UserId> = expected.iter().filter(inside).copied().collect();
        for limit in [1, 2, 3] {
            assert_eq!(once(read(store, few, limit).await), expected, "by {limit}");
        }
    }
}

/// `CHIRP_TEST_FOLLOWERS=1000000` is the account of a million.
fn followers() -> u64 {
    let asked = std::env::var("CHIRP_TEST_FOLLOWERS");
    asked.map_or(120_000, |asked| asked.parse().expect("CHIRP_TEST_FOLLOWERS is a number"))
}

pub async fn a_big_account_has_small_partitions_and_each_follower_once(server: Server) {
    let each = followers() / 8;
    let config = server.empty().await;
    let mut stores: Vec<Arc<dyn TimelineStore>> = Vec::new();
    for _ in 0..2 {
        stores.push(Arc::new(server.open(&config).await));
    }
    let certain: Arc<Vec<AtomicU64>> = Arc::new((0..8).map(|_| AtomicU64::new(0)).collect());
    let began = Instant::now();
    add(&stores, each, &certain, 500).await;
    let wrote = began.elapsed();
    let sizes = sizes(&server, &config.keyspace).await;
    let largest = *sizes.iter().max().unwrap();
    assert!(largest <= PARTITION_MAX, "{largest}");
    assert_eq!(sizes.iter().sum::<i64>(), i64::try_from(8 * each).unwrap());
    let began = Instant::now();
    let mut found = BTreeSet::new();
    for buckets in split_buckets(4) {
        let chunk = once(read(&*stores[0], buckets, 1_000).await);
        assert!(chunk.iter().all(|user| (buckets.0..buckets.1).contains(&bucket_of(*user))));
        found.extend(chunk);
    }
    println!(
        "         {} followers written in {:.1} s, read in {:.1} s; part 0 has {}, the largest other {}",
        8 * each,
        wrote.as_secs_f64(),
        began.elapsed().as_secs_f64(),
        sizes[0],
        sizes[1..].iter().max().unwrap(),
    );
    assert_eq!(found, certain_now(&certain, each));
}
