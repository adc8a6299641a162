//! The people of a run: they sign up and follow as anybody does.

use chirp::{
    adapters::postgres::UserStores, domain::UserId, rt::tokio_rt::TokioRuntime,
    services::kit::token::SigningKey, wire::api::Session,
};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    judge::{
        api::{Api, Verdict, Write},
        audit::AT_ONCE,
        dice::Dice,
        world::{ORDINARY, STAR, World, candidates},
    },
    stack::Stack,
};

/// Followers of the star that only read: enough for a fan-out of several jobs.
pub const PASSIVE: usize = 300;
/// How many an ordinary user follows at first.
const FRIENDS: usize = 8;
const PASSWORD: &str = "correct horse battery";

async fn sign_up(api: &Api, handle: String) -> (UserId, String) {
    let body = Some(json!({ "handle": handle, "password": PASSWORD }).to_string());
    let write = Write { method: "POST", path: "/users".to_owned(), token: "", key: None, body };
    match api.write(write).await {
        Verdict::Done { body, .. } => {
            let session: Session = serde_json::from_slice(&body).unwrap();
            (session.user.id, handle)
        }
        other => panic!("{handle} cannot sign up: {other:?}"),
    }
}

async fn follow(api: &Api, token: String, handle: String) {
    let body = Some(json!({ "handle": handle }).to_string());
    let write =
        Write { method: "POST", path: "/follow".to_owned(), token: &token, key: None, body };
    let verdict = api.write(write).await;
    assert!(matches!(verdict, Verdict::Done { .. }), "{verdict:?}");
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
    let stores = UserStores::open(&TokioRuntime::handle(), &stack.postgres, false).await.unwrap();
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
