//! The people of a run: they sign up and follow as anybody does.

use bytes::Bytes;
use chirp::{
    adapters::postgres::UserStores, domain::UserId, rt::tokio_rt::TokioRuntime,
    services::kit::token::SigningKey, wire::api::Session,
};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    judge::{
        api::{Api, Verdict, Write},
        dice::Dice,
        world::{ORDINARY, STAR, World, candidates},
    },
    stack::Stack,
    support::servers::endpoint,
};

/// Followers of the star that only read: enough for a fan-out of several jobs.
pub const PASSIVE: usize = 300;
/// How many an ordinary user follows at first.
const FRIENDS: usize = 8;
/// Calls that are open at once, and how often and after which pause one is repeated: a busy machine
/// sheds some.
const AT_ONCE: usize = 8;
const TRIES: usize = 50;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
const PASSWORD: &str = "correct horse battery";

/// Repeats a write that is certainly not done, or may be repeated, until it is done.
async fn insist(api: &Api, token: &str, path: &str, body: serde_json::Value) -> Bytes {
    let mut last = None;
    for _ in 0..TRIES {
        let body = Some(body.to_string());
        let write = Write { method: "POST", path: path.to_owned(), token, key: None, body };
        match api.write(write).await {
            Verdict::Done { body, .. } => return body,
            other => last = Some(other),
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("{path} of {body} was answered {last:?}")
}

async fn sign_up(api: &Api, handle: String) -> (UserId, String) {
    let body = json!({ "handle": handle, "password": PASSWORD });
    let session: Session = serde_json::from_slice(&insist(api, "", "/users", body).await).unwrap();
    (session.user.id, handle)
}

async fn follow(api: &Api, token: String, handle: String) {
    insist(api, &token, "/follow", json!({ "handle": handle })).await;
}

/// Makes everybody, and tells what there is.
pub async fn seed(stack: &Stack, dice: &mut Dice) -> World {
    let api = Api::new(stack.address);
    let handles = (0..ORDINARY).map(|n| format!("user{n}")).chain(["star".to_owned()]);
    let handles = handles.chain((0..PASSIVE).map(|n| format!("follower{n}")));
    let people = stream::iter(handles.map(|handle| sign_up(&api, handle)));
    let mut people: Vec<_> = people.buffered(AT_ONCE).collect().await;
    let passive = people.split_off(STAR + 1);
    // Tokens outlive any run if they are made with the signing key.
    let stores =
        UserStores::open(&TokioRuntime::handle(), &endpoint(&stack.postgres), false).await.unwrap();
    let keys = stores.keys.load().await.unwrap();
    let key = keys.first().expect("the first start has made a key");
    let mut world = World::new(people, passive, SigningKey::new(&key.kid, &key.seed).unwrap());
    for user in 0..ORDINARY {
        let friends = dice.sample(&candidates(user), FRIENDS);
        world.follows.extend(friends.into_iter().chain([STAR]).map(|friend| (user, friend)));
    }
    let passive = world.passive_numbers().map(|reader| (reader, STAR));
    let edges: Vec<(usize, usize)> = world.follows.iter().copied().chain(passive).collect();
    let follows = edges
        .iter()
        .map(|&(actor, target)| follow(&api, world.token(actor), world.handle(target).to_owned()));
    stream::iter(follows).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    world
}
