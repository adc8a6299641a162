//! A role whose database is not there yet, is behind, or never comes.

use std::time::Duration;

use chirp::{
    adapters::{postgres::server::create_databases, s3::S3Blobs, sns_sqs::SnsSqsBus},
    config::{Aws, Secret},
    domain::MediaId,
    ports::BlobStore as _,
    rt::tokio_rt::TokioRuntime,
};

use super::pod::{Env, Pod, eventually, get, on, run};
use crate::support::{
    proxy::{Proxy, Rule},
    run::{Alone, answers},
    server::{Container, Order, docker_does, free_ports},
    servers::endpoint,
};

/// What a user role is told whose database is behind the port `postgres`. Nothing else is there.
fn user_role(postgres: u16) -> Env {
    let nobody = free_ports(2);
    Env::from([
        ("CHIRP_BACKENDS_KIND", "external".to_owned()),
        ("CHIRP_POSTGRES_PORT", postgres.to_string()),
        ("CHIRP_POSTGRES_PASSWORD", "chirp".to_owned()),
        ("CHIRP_POSTGRES_TLS", "disable".to_owned()),
        ("CHIRP_REDIS_ADDRESSES", format!("127.0.0.1:{}", nobody[0])),
        ("CHIRP_AWS_ENDPOINT", format!("http://127.0.0.1:{}", nobody[1])),
        ("CHIRP_AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("CHIRP_AWS_ACCESS_KEY_SECRET", "test".to_owned()),
        ("CHIRP_PEERS_TWEET", "tweet.invalid:1/2".to_owned()),
        ("CHIRP_SERVE_SERVICE_TOKEN", "0123456789abcdef0123456789abcdef".to_owned()),
        ("CHIRP_SERVE_DRAIN_DELAY_MS", "0".to_owned()),
    ])
}

/// A server with empty databases.
async fn postgres() -> Container {
    let container = Order::of("postgres").start().await.unwrap();
    let config = on(container.port);
    answers(&container, async || create_databases(&endpoint(&config)).await).await;
    container
}

fn ports() -> (u16, u16) {
    let ports = free_ports(2);
    (ports[0], ports[1])
}

pub async fn a_role_lives_before_its_database_is_there_and_answers_once_it_is(_: Alone) {
    let container = postgres().await;
    let proxy = Proxy::before(container.port);
    proxy.set(Rule::Refuse);
    let mut pod = Pod::start("user", ports(), &user_role(proxy.port));
    eventually("it lives", || async { get(pod.admin, "/healthz").await.ok() }).await;
    let unready = eventually("it says what it waits for", || async {
        let answer = get(pod.admin, "/readyz").await.unwrap();
        answer.body.contains("waits for postgres").then_some(answer)
    })
    .await;
    assert_eq!(unready.status, 503, "{unready:?}");
    for (door, path) in [(pod.public, "/users/ada"), (pod.admin, "/internal/users/ada")] {
        let answer = get(door, path).await.unwrap();
        assert_eq!(answer.status, 503, "{path}: {answer:?}");
        assert!(answer.head.contains("x-chirp-not-begun"), "{path}: {answer:?}");
    }
    assert_eq!(get(pod.admin, "/healthz").await.unwrap().status, 200);
    proxy.set(Rule::Pass);
    pod.until_ready().await;
    let known = get(pod.public, "/.well-known/jwks.json").await.unwrap();
    assert_eq!(known.status, 200, "{known:?}");
    assert!(!pod.folder.path().join(".chirp").exists(), "a pod has no data folder");
    // Readiness follows no store that is away for a while: the role answers what it can.
    proxy.set(Rule::Refuse);
    assert_eq!(get(pod.admin, "/readyz").await.unwrap().status, 200);
    pod.tell_to_stop();
    assert_eq!(pod.ended().await.0, Some(0), "{}", pod.log());
    assert!(!pod.log().contains("0123456789abcdef"), "{}", pod.log());
}

pub async fn a_role_waits_for_the_file_of_its_password(_: Alone) {
    let container = postgres().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let mut env = user_role(container.port);
    env.remove("CHIRP_POSTGRES_PASSWORD");
    env.insert("CHIRP_POSTGRES_PASSWORD_FILE", file.to_str().unwrap().to_owned());
    let migrates = run(&env, folder.path(), &["migrate", "--role", "user"]);
    let said = String::from_utf8(migrates.stderr).unwrap();
    assert_eq!(migrates.status.code(), Some(18), "{said}");
    assert!(said.contains("no password can be read from `"), "{said}");
    let pod = Pod::start("user", ports(), &env);
    eventually("it says what it waits for", || async {
        let answer = get(pod.admin, "/readyz").await.ok()?;
        (answer.body.contains("waits for postgres")
            && pod.log().contains("no password can be read"))
        .then_some(())
    })
    .await;
    std::fs::write(&file, "chirp\n").unwrap();
    pod.until_ready().await;
}

pub async fn a_doctor_tells_which_servers_a_start_would_miss(_: Alone) {
    let (redis, emulator) =
        tokio::join!(async { Order::of("redis").start().await.unwrap() }, async {
            Order::of("ministack").start().await.unwrap()
        });
    let folder = tempfile::tempdir().unwrap();
    let mut env = user_role(free_ports(1)[0]);
    env.insert("CHIRP_CASSANDRA_ADDRESSES", format!("127.0.0.1:{}", free_ports(1)[0]));
    let doctor = |env: &Env| {
        let output = run(env, folder.path(), &["doctor"]);
        assert_eq!(output.status.code(), Some(1), "PostgreSQL is away: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = doctor(&env);
    for server in ["users", "tweets", "cassandra", "redis", "bus", "bucket"] {
        assert!(said.contains(&format!("fail {server}")), "{said}");
    }
    env.insert("CHIRP_REDIS_ADDRESSES", format!("127.0.0.1:{}", redis.port));
    env.insert("CHIRP_AWS_ENDPOINT", format!("http://127.0.0.1:{}", emulator.port));
    let said = eventually("both answer", || async {
        let said = doctor(&env);
        (said.contains("ok   redis        answers\n") && !said.contains("fail bus")).then_some(said)
    })
    .await;
    for server in ["bus   ", "bucket"] {
        let made = format!("ok   {server}       answers; what it lacks is made by the first start");
        assert!(said.contains(&made), "{said}");
    }
    env.insert("CHIRP_AWS_ENSURE", "false".to_owned());
    let said = doctor(&env);
    for server in ["bus", "bucket"] {
        assert!(said.contains(&format!("fail {server}")), "nobody makes them: {said}");
    }
    let config = aws(emulator.port);
    SnsSqsBus::open(&config, TokioRuntime::handle()).await.unwrap();
    S3Blobs::new(&config).await.prepare().await.unwrap();
    let said = doctor(&env);
    for server in ["bus   ", "bucket"] {
        assert!(said.contains(&format!("ok   {server}       answers\n")), "{said}");
    }
}

fn aws(emulator: u16) -> Aws {
    Aws {
        endpoint: format!("http://127.0.0.1:{emulator}"),
        access_key_id: "test".to_owned(),
        access_key_secret: Secret("test".to_owned()),
        ..Aws::default()
    }
}

pub async fn a_bucket_whose_server_comes_later_is_made_then(_: Alone) {
    let (database, emulator) =
        tokio::join!(postgres(), async { Order::of("ministack").start().await.unwrap() });
    let proxy = Proxy::before(emulator.port);
    proxy.set(Rule::Refuse);
    let mut env = user_role(database.port);
    env.remove("CHIRP_PEERS_TWEET");
    env.extend([
        ("CHIRP_AWS_ENDPOINT", format!("http://127.0.0.1:{}", proxy.port)),
        ("CHIRP_PEERS_USER", "user.invalid:1/2".to_owned()),
        ("CHIRP_PEERS_TIMELINE", "timeline.invalid:1/2".to_owned()),
    ]);
    let pod = Pod::start("tweet", ports(), &env);
    let says = |sentence: &'static str| {
        let log = pod.log();
        async move { log.contains(sentence).then_some(()) }
    };
    eventually("it goes on without", || says("the bucket of pictures is not ready")).await;
    proxy.set(Rule::Pass);
    eventually("it is made", || says("the bucket of pictures is ready")).await;
    // A bucket that is not there would be an error.
    assert_eq!(S3Blobs::new(&aws(emulator.port)).await.look(MediaId(1)).await, Ok(None));
}

pub async fn a_role_that_is_told_to_stop_while_it_waits_ends_at_once(_: Alone) {
    let nobody = free_ports(1)[0];
    let mut pod = Pod::start("user", ports(), &user_role(nobody));
    eventually("it waits", || async {
        get(pod.admin, "/readyz").await.ok().filter(|answer| answer.body.contains("waits for"))
    })
    .await;
    pod.tell_to_stop();
    let (code, took) = pod.ended().await;
    assert_eq!(code, Some(0), "{}", pod.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

pub async fn a_schema_that_is_behind_is_told_and_refused_and_migrated_once(_: Alone) {
    let container = postgres().await;
    let mut env = user_role(container.port);
    env.insert("CHIRP_BACKENDS_MIGRATE", "false".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let only_user = ["migrate", "--role", "user"];
    let check = || run(&env, folder.path(), &[&only_user[..], &["--check"]].concat());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();

    let behind = check();
    assert_eq!(behind.status.code(), Some(19), "{behind:?}");
    assert!(text(&behind.stdout).contains("chirp_user\t1 accounts\n"), "{behind:?}");
    let tables = || {
        docker_does(&[
            "exec",
            "-e",
            "PGPASSWORD=chirp",
            container.id(),
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            "chirp",
            "-d",
            "chirp_user",
            "-c",
            r"\dt",
        ])
    };
    assert!(!tables().contains("public"), "nothing was changed: {}", tables());
    let refused = run(&env, folder.path(), &["serve", "--role", "user", "--port", "0"]);
    assert_eq!(refused.status.code(), Some(19), "{refused:?}");
    assert!(text(&refused.stderr).contains("is behind, it lacks: 1 accounts"), "{refused:?}");

    let taken = run(&env, folder.path(), &only_user);
    assert_eq!(taken.status.code(), Some(0), "{taken:?}");
    assert_eq!(taken.stdout, behind.stdout);
    let again = run(&env, folder.path(), &only_user);
    assert_eq!((again.status.code(), again.stdout.len()), (Some(0), 0), "{again:?}");
    assert_eq!(check().status.code(), Some(0));
    let pod = Pod::start("user", ports(), &env);
    pod.until_ready().await;
}
