//! Proof that the audit can fail: faults are planted in what the stack holds, behind the model's back,
//! and each has to be named.

use chirp::{domain::TweetId, wire::api::PostedTweet};

use crate::{
    judge::{
        api::{Api, Verdict, Write},
        audit::{Scope, audit, drain},
        checks::{DOUBLED, FOREIGN, LOST, RESURRECTED},
        client::post,
        dice::Dice,
        world::{ORDINARY, Posted, STAR, Shared, State, key_of},
    },
    stack::Stack,
};

/// Whoever is planted with: an ordinary user, for whom no writer acts.
const USER: usize = ORDINARY - 1;

async fn writes(api: &Api, write: Write<'_>) -> bytes::Bytes {
    match api.write(write).await {
        Verdict::Done { body, .. } => body,
        other => panic!("a plant was answered {other:?}"),
    }
}

async fn delete(api: &Api, token: &str, id: TweetId) {
    let path = format!("/tweets/{id}");
    writes(api, Write { method: "DELETE", path, token, key: None, body: None }).await;
}

/// Audits, and demands that `rule` is found broken; nothing stays behind of what was found.
async fn flagged(
    world: &Shared,
    stack: &Stack,
    what: &str,
    rule: &str,
    dice: &mut Dice,
) -> Result<(), String> {
    drain(&stack.admins()).await?;
    let scope = Scope { homes: vec![USER], authors: vec![USER, STAR], ..Scope::default() };
    audit(world, &Api::new(stack.address), &scope, dice).await;
    let found = std::mem::take(&mut world.lock().unwrap().violations);
    if !found.iter().any(|violation| violation.rule == rule) {
        return Err(format!("the audit does not see that {what}: {found:?}"));
    }
    println!("  planted, {what}: flagged ({} times)", found.len());
    Ok(())
}

/// Posts the next tweet of `user`, as the model is told.
async fn posts(world: &Shared, api: &Api, user: usize) -> (usize, TweetId) {
    let (n, token) = {
        let mut world = world.lock().unwrap();
        let n = world.users[user].tweets.len();
        let tweet = Posted { id: None, state: State::Doubtful, kill: 0, answered_ms: 0 };
        world.users[user].tweets.push(tweet);
        (n, world.token(user))
    };
    let body = writes(api, post(&token, &key_of(user, n), user, n)).await;
    let id = serde_json::from_slice::<PostedTweet>(&body).unwrap().tweet.id;
    world.lock().unwrap().posted(user, n, id);
    (n, id)
}

/// Plants each fault and demands that it is flagged.
pub async fn prove(world: &Shared, stack: &Stack, dice: &mut Dice) -> Result<(), String> {
    let api = Api::new(stack.address);
    let (n, id) = posts(world, &api, USER).await;
    posts(world, &api, STAR).await;
    let token = world.lock().unwrap().token(USER);
    let is = |state| world.lock().unwrap().users[USER].tweets[n].state = state;

    let twin = writes(&api, post(&token, "planted", USER, n)).await;
    let twin = serde_json::from_slice::<PostedTweet>(&twin).unwrap().tweet.id;
    flagged(world, stack, "a tweet was stored twice", DOUBLED, dice).await?;
    delete(&api, &token, twin).await;

    assert!(world.lock().unwrap().follows.remove(&(USER, STAR)));
    flagged(world, stack, "somebody is seen who is not followed", FOREIGN, dice).await?;
    world.lock().unwrap().follows.insert((USER, STAR));

    is(State::Deleted);
    flagged(world, stack, "a deleted tweet is shown", RESURRECTED, dice).await?;
    is(State::Shown);

    delete(&api, &token, id).await;
    flagged(world, stack, "an acknowledged tweet is gone", LOST, dice).await?;
    is(State::Deleted);
    Ok(())
}
