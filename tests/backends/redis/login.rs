//! Servers that want a password: over TLS, and one that changes.

use std::fs;

use chirp::config::{self, Secret};

use super::{Caches, Server, home};
use crate::support::{
    run::answers,
    server::{Order, docker_does},
    tls::{MAKE, NAME, authority},
};

const RUN: &str = "
exec redis-server --port 0 --tls-port 6379 --bind 0.0.0.0 --save '' --tls-auth-clients no \
    --tls-cert-file server.pem --tls-key-file server.key --tls-ca-cert-file ca.pem \
    --requirepass hunter2hunter2
";

pub async fn a_server_is_known_by_its_authority_and_its_name_and_knows_a_password(_: Server) {
    let order = Order::of("redis").runs(Some("sh"), ["-c", &format!("{MAKE}{RUN}")]);
    let container = order.start().await.unwrap();
    let ping = "cd /tmp && redis-cli --tls --cacert ca.pem --sni localhost -h localhost \
                -a hunter2hunter2 ping | grep PONG";
    answers(&container, async || {
        let id = container.id().to_owned();
        let asked = std::panic::catch_unwind(|| docker_does(&["exec", &id, "sh", "-c", ping]));
        asked.map_err(|_| "no PONG")
    })
    .await;
    let file = authority(&container);
    let known = config::Redis {
        addresses: format!("{NAME}:{}", container.port),
        tls: true,
        ca_file: file.path().to_str().unwrap().to_owned(),
        password: Secret("hunter2hunter2".to_owned()),
        ..config::Redis::default()
    };
    let cache = Caches::new(&known);
    cache.redis.ping().await.unwrap();
    cache.warm(1).await;
    assert!(cache.begin(home(1)).await.is_none(), "it is there");

    let by_address = format!("127.0.0.1:{}", container.port);
    for stranger in [
        config::Redis { addresses: by_address, ..known.clone() },
        config::Redis { ca_file: String::new(), ..known.clone() },
        config::Redis { tls: false, ..known.clone() },
        config::Redis { password: Secret("hunter3hunter3".to_owned()), ..known.clone() },
        config::Redis { password: Secret::default(), ..known },
    ] {
        let refused = Caches::new(&stranger).redis.ping().await.unwrap_err();
        let text = format!("{refused} {refused:?} {stranger:?}");
        assert!(!text.contains("hunter"), "{text}");
    }
}

pub async fn a_password_that_was_changed_is_read_for_the_next_connection(server: Server) {
    let mut raw = server.raw(server.ports[0]).await;
    let config = server.config();
    let user = config.namespace.clone();
    raw.run::<()>(&format!("ACL SETUSER {user} reset on >hunter2hunter2 ~* &* +@all")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "hunter2hunter2\n").unwrap();
    let cache = Caches::new(&config::Redis {
        username: user.clone(),
        password_file: file.clone(),
        read_connections: 1,
        write_connections: 1,
        ..config.clone()
    });
    cache.warm(1).await;

    // What is connected stays so.
    raw.run::<()>(&format!("ACL SETUSER {user} resetpass >hunter3hunter3")).await;
    assert!(cache.begin(home(1)).await.is_none(), "it is there");
    fs::write(&file, "hunter3hunter3\n").unwrap();
    raw.run::<i64>(&format!("CLIENT KILL USER {user}")).await;
    cache.redis.ping().await.unwrap();
    assert!(cache.begin(home(1)).await.is_none(), "it is there");

    // While the file is away, what it held last is used.
    fs::remove_file(&file).unwrap();
    raw.run::<i64>(&format!("CLIENT KILL USER {user}")).await;
    cache.redis.ping().await.unwrap();
    let never = Caches::new(&config::Redis { password_file: file.clone(), ..config }).redis;
    let never = never.ping().await.unwrap_err().to_string();
    raw.run::<i64>(&format!("CLIENT KILL USER {user}")).await;
    fs::write(&file, "hunter2hunter2\n").unwrap();
    let wrong = cache.redis.ping().await.unwrap_err().to_string();
    fs::write(&file, "hunter3hunter3\n").unwrap();
    cache.redis.ping().await.unwrap();
    assert!(wrong.contains("authentication failed"), "{wrong}");
    assert!(never.contains(file.to_str().unwrap()), "{never}");
    assert!(!format!("{never} {wrong}").contains("hunter"), "{never} {wrong}");
    raw.run::<i64>(&format!("ACL DELUSER {user}")).await;
}
