//! A server that speaks TLS.

use chirp::{
    adapters::postgres::{OpenError, UserStores},
    config::Postgres,
    domain::UserId,
    rt::tokio_rt::TokioRuntime,
};

use super::Server;
use crate::support::{
    run::answers,
    server::Order,
    servers::endpoint,
    tls::{MAKE, NAME, authority},
};

/// In either image.
const RUN: &str = "
chown postgres server.key 2>/dev/null || true
set -- -c ssl=on -c ssl_cert_file=/tmp/server.pem -c ssl_key_file=/tmp/server.key
command -v entry.sh >/dev/null && exec entry.sh \"$@\"
exec docker-entrypoint.sh postgres \"$@\"
";

pub async fn a_server_is_known_by_its_authority_and_its_name(server: Server) {
    let command = format!("{MAKE}{RUN}");
    let order = Order::of("postgres").runs(Some("sh"), ["-c", &command]);
    let container = order.start().await.unwrap();
    let rt = TokioRuntime::handle();
    let plain = Postgres { port: container.port, ..server.config };
    let plain = Postgres { user_database: "chirp".to_owned(), ..plain };
    answers(&container, async || UserStores::open(&rt, &endpoint(&plain), true).await).await;

    let file = authority(&container);
    let known = Postgres {
        host: NAME.to_owned(),
        tls: "verify-full".to_owned(),
        ca_file: file.path().to_str().unwrap().to_owned(),
        ..plain
    };
    let stores = UserStores::open(&rt, &endpoint(&known), true).await.unwrap();
    assert_eq!(stores.users.by_id(UserId(1)).await, Ok(None));

    let by_address = Postgres { host: "127.0.0.1".to_owned(), ..known.clone() };
    let by_address_only = Postgres { tls: "verify-ca".to_owned(), ..by_address.clone() };
    UserStores::open(&rt, &endpoint(&by_address_only), true).await.map(drop).unwrap();
    for stranger in [by_address, Postgres { ca_file: String::new(), ..known }] {
        let refused =
            UserStores::open(&rt, &endpoint(&stranger), true).await.map(drop).unwrap_err();
        assert!(
            matches!(refused, OpenError::Unreachable { .. } | OpenError::Refused { .. }),
            "{refused}"
        );
    }
}
