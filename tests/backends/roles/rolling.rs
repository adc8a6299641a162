//! A rolling restart: two pods of each role, one after the other told to stop and replaced, while
//! clients post, follow and read.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chirp::adapters::postgres::server::create_databases;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::pod::{Env, Pod, ask, eventually, on, run};
use crate::support::{
    run::Alone,
    server::{Container, Order, free_ports},
    servers::endpoint,
};

const ROLES: [&str; 3] = ["user", "tweet", "timeline"];
const AUTHORS: usize = 3;
/// How long a pod may take to end: the delay, and what is in work.
const GRACE: Duration = Duration::from_secs(20);

/// The four servers, for as long as this lives.
struct Servers(BTreeMap<&'static str, Container>);

impl Servers {
    async fn start() -> Self {
        let emulator = free_ports(1)[0];
        let orders = [
            ("postgres", Order::of("postgres")),
            ("redis", Order::of("redis")),
            ("cassandra", Order::of("cassandra")),
            (
                "ministack",
                Order::of("ministack").on(&[emulator]).with("GATEWAY_PORT", emulator.to_string()),
            ),
        ];
        let starts =
            orders.map(|(name, order)| async move { (name, order.start().await.unwrap()) });
        Self(futures_util::future::join_all(starts).await.into_iter().collect())
    }

    fn port(&self, name: &str) -> u16 {
        self.0[name].port
    }

    /// What every pod is told, and where the pods are.
    fn env(&self, places: &BTreeMap<&'static str, Vec<(u16, u16)>>) -> Env {
        let mut env = Env::from([
            ("CHIRP_BACKENDS_KIND", "external".to_owned()),
            ("CHIRP_POSTGRES_PORT", self.port("postgres").to_string()),
            ("CHIRP_POSTGRES_PASSWORD", "chirp".to_owned()),
            ("CHIRP_POSTGRES_TLS", "disable".to_owned()),
            ("CHIRP_REDIS_ADDRESSES", format!("127.0.0.1:{}", self.port("redis"))),
            ("CHIRP_CASSANDRA_ADDRESSES", format!("127.0.0.1:{}", self.port("cassandra"))),
            ("CHIRP_AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port("ministack"))),
            ("CHIRP_AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("CHIRP_AWS_ACCESS_KEY_SECRET", "test".to_owned()),
            ("CHIRP_SERVE_SERVICE_TOKEN", "0123456789abcdef0123456789abcdef".to_owned()),
            ("CHIRP_AUTH_ARGON2_MEMORY_KIB", "8".to_owned()),
            ("CHIRP_AUTH_ARGON2_PASSES", "1".to_owned()),
            ("CHIRP_HTTP_USER_CALLS_PER_MINUTE", "1000000".to_owned()),
            ("CHIRP_HTTP_ADDRESS_CALLS_PER_MINUTE", "1000000".to_owned()),
            ("CHIRP_HTTP_ADDRESS_LOGINS_PER_MINUTE", "1000000".to_owned()),
        ]);
        for (role, key) in [
            ("user", "CHIRP_PEERS_USER"),
            ("tweet", "CHIRP_PEERS_TWEET"),
            ("timeline", "CHIRP_PEERS_TIMELINE"),
        ] {
            let all =
                places[role].iter().map(|(public, admin)| format!("localhost:{public}/{admin}"));
            env.insert(key, all.collect::<Vec<_>>().join(","));
        }
        env
    }

    /// Makes the databases, and every schema once the servers answer.
    async fn prepare(&self, env: &Env) {
        let postgres = on(self.port("postgres"));
        eventually("the databases are made", || async {
            create_databases(&endpoint(&postgres)).await.ok()
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let last = Mutex::new(None);
        eventually("the schemas are made", || async {
            let ended = run(env, folder.path(), &["migrate"]);
            let success = ended.status.success();
            if last.lock().replace(ended.stderr.clone()) != Some(ended.stderr.clone()) {
                println!("         {}", String::from_utf8_lossy(&ended.stderr).trim_end());
            }
            success.then_some(())
        })
        .await;
    }
}

/// Clients, and what went wrong for them.
struct Load {
    gateway: SocketAddr,
    authors: Vec<String>,
    reader: String,
    stop: AtomicBool,
    calls: AtomicUsize,
    posted: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
}

async fn sign_up(gateway: SocketAddr, handle: &str) -> String {
    let body = json!({ "handle": handle, "password": "correct horse" }).to_string();
    let answer = ask(gateway, "POST", "/users", "", &body).await.unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

impl Load {
    async fn new(gateway: SocketAddr) -> Arc<Self> {
        let reader = sign_up(gateway, "reader").await;
        let mut authors = Vec::new();
        for number in 0..AUTHORS {
            let handle = format!("author_{number}");
            authors.push(sign_up(gateway, &handle).await);
            let body = json!({ "handle": handle }).to_string();
            let followed = ask(gateway, "POST", "/follow", &reader, &body).await.unwrap();
            assert_eq!(followed.status, 201, "{followed:?}");
        }
        let (stop, calls, posted, failures) = Default::default();
        Arc::new(Self { gateway, authors, reader, stop, calls, posted, failures })
    }

    /// A call that must succeed.
    async fn call(&self, method: &str, path: &str, token: &str, body: &str) -> Option<Value> {
        self.calls.fetch_add(1, Relaxed);
        match ask(self.gateway, method, path, token, body).await {
            Ok(answer) if answer.status < 300 => {
                Some(serde_json::from_str(&answer.body).unwrap_or_default())
            }
            other => {
                self.failures.lock().push(format!("{method} {path}: {other:?}"));
                None
            }
        }
    }

    async fn writes(self: Arc<Self>, author: usize) {
        for number in 0.. {
            if self.stop.load(Relaxed) {
                return;
            }
            // Without a key: nobody may send it a second time who does not know that it was never begun.
            let text = json!({ "text": format!("{author} {number}") }).to_string();
            if let Some(tweet) = self.call("POST", "/tweets", &self.authors[author], &text).await {
                self.posted.lock().push(tweet["id"].as_str().unwrap().to_owned());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn reads(self: Arc<Self>) {
        while !self.stop.load(Relaxed) {
            self.call("GET", "/timeline", &self.reader, "").await;
            self.call("GET", "/users/author_0", &self.reader, "").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every id on the reader's home timeline.
    async fn shown(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let mut path = "/timeline?limit=100".to_owned();
        loop {
            let page = self.call("GET", &path, &self.reader, "").await.unwrap();
            let tweets = page["tweets"].as_array().unwrap();
            ids.extend(tweets.iter().map(|tweet| tweet["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { return ids };
            path = format!("/timeline?limit=100&before={next}");
        }
    }
}

pub async fn a_rolling_restart_under_load_drops_nothing(_: Alone) {
    let servers = Servers::start().await;
    let free = free_ports(2 + 4 * ROLES.len());
    let mut ports = free.chunks(2).map(|pair| (pair[0], pair[1]));
    let gateway_ports = ports.next().unwrap();
    let places: BTreeMap<&str, Vec<(u16, u16)>> =
        ROLES.into_iter().map(|role| (role, ports.by_ref().take(2).collect())).collect();
    let env = servers.env(&places);
    servers.prepare(&env).await;
    let mut pods: Vec<(Pod, (u16, u16))> = Vec::new();
    for (role, places) in &places {
        pods.extend(places.iter().map(|ports| (Pod::start(role, *ports, &env), *ports)));
    }
    let gateway = Pod::start("gateway", gateway_ports, &env);
    for (pod, _) in &pods {
        pod.until_ready().await;
    }
    gateway.until_ready().await;

    let load = Load::new(gateway.public).await;
    let mut tasks: Vec<_> =
        (0..AUTHORS).map(|author| tokio::spawn(Arc::clone(&load).writes(author))).collect();
    tasks.push(tokio::spawn(Arc::clone(&load).reads()));
    let mut logs = Vec::new();
    for (pod, ports) in &mut pods {
        pod.tell_to_stop();
        let (code, took) = pod.ended().await;
        assert_eq!(code, Some(0), "{}: {}", pod.role, pod.log());
        assert!(took < GRACE, "{} took {took:?}", pod.role);
        logs.push(pod.log());
        *pod = Pod::start(pod.role, *ports, &env);
        pod.until_ready().await;
    }
    load.stop.store(true, Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    logs.extend(pods.iter().map(|(pod, _)| pod.log()).chain([gateway.log()]));
    let failures = load.failures.lock().clone();
    let calls = load.calls.load(Relaxed);
    let warnings = || {
        let lines = logs.iter().flat_map(|log| log.lines());
        lines.filter(|line| line.contains("WARN")).collect::<Vec<_>>().join("\n")
    };
    assert!(failures.is_empty(), "of {calls} calls: {failures:#?}\n{}", warnings());

    let mut posted = load.posted.lock().clone();
    assert!(posted.len() > 10 * AUTHORS, "only {} were posted", posted.len());
    // Ids have the same number of digits: newest first.
    posted.sort_unstable_by(|a, b| b.cmp(a));
    let shown = eventually("every tweet is shown once", || async {
        let shown = load.shown().await;
        (shown.len() >= posted.len()).then_some(shown)
    })
    .await;
    assert_eq!(shown, posted);
    println!("         {calls} calls during six restarts, {} tweets, none failed", posted.len());
}
