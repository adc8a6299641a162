//! A cluster with certificates that wants a password, which changes.

use std::{fs, path::Path, sync::Arc};

use chirp::{
    adapters::{
        cassandra::{CassandraTimelineStore, OpenError, migrate},
        endpoint::Endpoint,
    },
    config::{Cassandra, Secret},
    domain::TweetId,
    ports::TimelineStore as _,
    stack::containers::images,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use scylla::client::session_builder::SessionBuilder;

use super::{Server, behind, heals, tweet};
use crate::support::{
    proxy::{Proxy, Rule},
    run::{Backend as _, answers},
    server::Container,
    servers::{Stuck, endpoint},
    tls::{MAKE, NAME, authority},
};

/// In either image.
const RUN: &str = "
openssl pkcs12 -export -in server.pem -inkey server.key -passout pass:keystore -out server.p12
command -v entry.sh >/dev/null && exec entry.sh
exec docker-entrypoint.sh cassandra -f
";
/// The first user has this password, and this name.
const FIRST: &str = "cassandra";
const OPTIONS: &str = " -Dcassandra.superuser_setup_delay_ms=0 \
    -Dcassandra.config.allow_system_properties=true \
    -Dcassandra.settings.authenticator=PasswordAuthenticator \
    -Dcassandra.settings.credentials_validity=0ms \
    -Dcassandra.settings.client_encryption_options.enabled=true \
    -Dcassandra.settings.client_encryption_options.keystore=/tmp/server.p12 \
    -Dcassandra.settings.client_encryption_options.keystore_password=keystore \
    -Dcassandra.settings.client_encryption_options.store_type=PKCS12";

async fn start() -> Container {
    let usual = &images::pinned("cassandra").environment["JVM_EXTRA_OPTS"];
    let order = Server::order().with("JVM_EXTRA_OPTS", format!("{usual}{OPTIONS}"));
    // The driver knows a node by its address, unless a name is configured.
    let make = MAKE.replace("DNS:localhost", "DNS:localhost,IP:127.0.0.1");
    order.runs(Some("sh"), ["-c", &format!("{make}{RUN}")]).start().await.unwrap()
}

/// Sets the password of the first user, past the adapter.
async fn set_password(container: &Container, authority: &Path, from: &str, to: &str) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let session = SessionBuilder::new()
        .known_node(format!("{NAME}:{}", container.port))
        .tls_context(Some(Arc::new(client)))
        .user(FIRST, from)
        .build()
        .await
        .unwrap();
    let cql = format!("alter role {FIRST} with password = '{to}'");
    session.query_unpaged(cql, ()).await.unwrap();
}

/// Who gives no password for a while keeps nobody from connecting later.
async fn sticks_and_heals(server: &Server, container: &Container, known: &Cassandra) {
    let proxy = Proxy::before(container.port);
    let stuck = Arc::new(Stuck::new("hunter2hunter2"));
    let config = Cassandra { connect_timeout_ms: 500, ..behind(&proxy, known) };
    let endpoint = Endpoint { config: Arc::new(config), tokens: stuck.clone() };
    let store = CassandraTimelineStore::open(&server.rt, &endpoint).await.unwrap();
    stuck.sticks(true);
    proxy.set(Rule::Refuse);
    assert!(store.bodies(&[TweetId(20)]).await.is_err());
    proxy.set(Rule::Pass);
    stuck.was_asked().await;
    assert!(store.bodies(&[TweetId(20)]).await.is_err());
    stuck.sticks(false);
    heals(server, &store).await;
}

pub async fn a_cluster_is_known_by_its_authority_and_its_name_and_knows_a_password(server: Server) {
    let container = start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, FIRST).unwrap();
    let plain = Cassandra {
        addresses: format!("127.0.0.1:{}", container.port),
        username: FIRST.to_owned(),
        password_file: file.path().to_owned(),
        ..server.config.clone()
    };
    let authority = answers(&container, async || {
        std::panic::catch_unwind(|| authority(&container)).map_err(|_| "no authority")
    })
    .await;
    let known = Cassandra {
        tls: true,
        tls_name: NAME.to_owned(),
        ca_file: authority.path().to_str().unwrap().to_owned(),
        ..plain.clone()
    };
    answers(&container, async || migrate(&server.rt, &endpoint(&known)).await).await;
    let proxy = Proxy::before(container.port);
    let store = server.open(&behind(&proxy, &known)).await;
    assert!(store.put_tweets(&[tweet(10, 1)]).await.is_done());

    // What is connected stays so; a connection that is made anew reads the file again.
    set_password(&container, authority.path(), FIRST, "hunter2hunter2").await;
    assert!(store.put_tweets(&[tweet(20, 1)]).await.is_done());
    fs::write(&file, "hunter2hunter2\n").unwrap();
    proxy.set(Rule::Refuse);
    assert!(store.bodies(&[TweetId(20)]).await.is_err());
    proxy.set(Rule::Pass);
    heals(&server, &store).await;
    assert!(store.bodies(&[TweetId(20)]).await.unwrap()[0].is_some());

    sticks_and_heals(&server, &container, &known).await;
    let fixed = |password: &str| Cassandra {
        password: Secret(password.to_owned()),
        password_file: std::path::PathBuf::new(),
        ..known.clone()
    };
    let by_address = Cassandra { tls_name: String::new(), ..fixed("hunter2hunter2") };
    server.open(&by_address).await;
    let absent = file.path().with_extension("absent");
    for stranger in [
        plain,
        Cassandra { tls_name: "cassandra.elsewhere".to_owned(), ..known.clone() },
        Cassandra { ca_file: String::new(), ..known.clone() },
        Cassandra { username: String::new(), ..known.clone() },
        Cassandra { password_file: absent.clone(), ..known.clone() },
        fixed("hunter3hunter3"),
    ] {
        let impatient = Cassandra { connect_timeout_ms: 2_000, call_ms: 2_000, ..stranger };
        let opened = CassandraTimelineStore::open(&server.rt, &endpoint(&impatient)).await;
        let refused = opened.map(drop).unwrap_err();
        let text = format!("{refused} {refused:?} {impatient:?}");
        assert!(!text.contains("hunter"), "{text}");
        if impatient.username.is_empty() {
            assert!(matches!(refused, OpenError::Login { .. }), "{text}");
            assert!(text.contains("`cassandra.username`"), "{text}");
        } else if impatient.password_file == absent {
            assert!(matches!(refused, OpenError::Login { .. }), "{text}");
            assert!(text.contains(absent.to_str().unwrap()), "{text}");
        } else {
            assert!(matches!(refused, OpenError::Unreachable { .. }), "{text}");
        }
    }
}
