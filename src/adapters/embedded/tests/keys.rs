use std::os::unix::fs::PermissionsExt as _;

use super::fixture;
use crate::ports::{Kind, Outcome, StoredKey};

fn key(n: u8) -> StoredKey {
    StoredKey { kid: format!("k{n}"), seed: [n; 32], created_at_ms: n.into() }
}

#[tokio::test]
async fn keys_are_replaced_only_by_who_knows_them() {
    let f = fixture();
    let keys = &f.stores.user.keys;
    let other = &f.again().user.keys;
    assert_eq!(keys.load().await, Ok(vec![]));
    assert_eq!(keys.replace(&[], &[key(1)]).await, Outcome::Done(vec![key(1)]));
    assert_eq!(other.replace(&[], &[key(2)]).await, Outcome::Done(vec![key(1)]), "too late");
    let rotated = vec![key(3), key(1)];
    assert_eq!(other.replace(&[key(1)], &rotated).await, Outcome::Done(rotated.clone()));
    assert_eq!(keys.replace(&[key(1)], &rotated).await, Outcome::Done(rotated.clone()), "again");
    assert_eq!(keys.load().await, Ok(rotated));
    let many = [key(1), key(2), key(3)];
    assert!(matches!(keys.replace(&[], &many).await, Outcome::Failed(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_first_starts_one_makes_the_key() {
    let f = fixture();
    let tasks: Vec<_> = (1..20)
        .map(|n| {
            let keys = f.again().user.keys;
            tokio::spawn(async move { keys.replace(&[], &[key(n)]).await.done().unwrap() })
        })
        .collect();
    let made = {
        let mut made = Vec::new();
        for task in tasks {
            made.push(task.await.unwrap());
        }
        made
    };
    let kept = f.stores.user.keys.load().await.unwrap();
    assert!(kept.len() == 1 && made.iter().all(|keys| *keys == kept));
}

#[tokio::test]
async fn the_file_is_the_owners_alone_and_a_damaged_one_is_not_repeated_in_the_error() {
    let f = fixture();
    let keys = &f.stores.user.keys;
    assert!(keys.replace(&[], &[key(1)]).await.is_done());
    let path = f.dir.path().join("data").join("keys.json");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    keys.load().await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a copy with another mode is tightened");
    std::fs::write(&path, r#"{"keys":[{"kid":"k","seed":"topsecret","created_at_ms":1}]}"#)
        .unwrap();
    let error = keys.load().await.unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(!error.to_string().contains("topsecret"), "{error}");
    assert!(matches!(keys.replace(&[], &[key(2)]).await, Outcome::Failed(_)));
}
