//! The data that a run begins with.

use std::path::Path;

use chirp::{
    adapters::embedded::{Stores, sqlite::Options},
    domain::{DisplayName, Handle, UserId, snowflake::Snowflake},
    ports::{Account, PasswordHash},
    rt::tokio_rt::TokioRuntime,
    services::kit::token::SigningKey,
};

use crate::judge::{
    dice::Dice,
    world::{ORDINARY, PASSIVE, STAR, World, candidates, now_ms},
};

/// Nobody logs in: tokens are made with the signing key. The form is right, the hash is of nothing.
const PASSWORD: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$\
                        0000000000000000000000000000000000000000000";

/// Fills the stores in `dir`, which a stopped stack has left behind, and tells what they hold.
pub async fn seed(dir: &Path, dice: &mut Dice) -> World {
    let rt = TokioRuntime::handle();
    let stores = Stores::open(dir, &rt, Options::default()).unwrap();
    let mut ids = Snowflake::new(1_000);
    let mut person = |handle: String| (UserId(ids.next(now_ms())), handle);
    let mut people: Vec<_> = (0..ORDINARY).map(|n| person(format!("user{n}"))).collect();
    people.push(person("star".to_owned()));
    let passive: Vec<_> = (0..PASSIVE).map(|n| person(format!("follower{n}"))).collect();

    let account = |(id, handle): &(UserId, String)| Account {
        id: *id,
        handle: Handle::parse(handle).unwrap(),
        name: DisplayName::parse(handle).unwrap(),
        created_at_ms: now_ms(),
    };
    let accounts: Vec<Account> = people.iter().chain(&passive).map(account).collect();
    let password = PasswordHash(PASSWORD.to_owned());
    stores.seeder().users(&accounts, &password).await.certain().unwrap();

    let keys = stores.user.keys.load().await.unwrap();
    let key = keys.first().expect("the first start has made a key");
    let mint = SigningKey::new(&key.kid, &key.seed).unwrap();
    let mut world = World::new(people, passive, mint);
    for user in 0..ORDINARY {
        let friends = dice.sample(&candidates(user), 8);
        world.follows.extend(friends.into_iter().chain([STAR]).map(|friend| (user, friend)));
    }
    let star = world.users[STAR].id;
    let mut edges: Vec<(UserId, UserId)> =
        world.follows.iter().map(|&(a, b)| (world.users[a].id, world.users[b].id)).collect();
    edges.extend(world.passive.iter().map(|(id, _)| (*id, star)));
    stores.seeder().follows(&edges).await.certain().unwrap();
    tokio::task::spawn_blocking(move || stores.close()).await.unwrap();
    world
}
