//! Whom to believe that they are the cluster.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use scylla::client::session::TlsContext;

use super::open::OpenError;
use crate::config;

/// How connections are encrypted; `None` if they are not.
pub(super) fn context(config: &config::Cassandra) -> Result<Option<TlsContext>, OpenError> {
    if !config.tls {
        return Ok(None);
    }
    let fail = |why: String| OpenError::Tls { why };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::new(roots(config)?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .build()
        .map_err(|error| fail(error.to_string()))?;
    let verifier: Arc<dyn ServerCertVerifier> = if config.tls_name.is_empty() {
        verifier
    } else {
        let name = ServerName::try_from(config.tls_name.clone())
            .map_err(|_| fail(format!("`{}` is no name of a server", config.tls_name)))?;
        Arc::new(OneName { name, verifier })
    };
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fail(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Some(TlsContext::from(Arc::new(client))))
}

fn roots(config: &config::Cassandra) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    if config.ca_file.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    }
    let fail =
        |why: &dyn std::fmt::Display| OpenError::Tls { why: format!("{}: {why}", config.ca_file) };
    for certificate in CertificateDer::pem_file_iter(&config.ca_file).map_err(|e| fail(&e))? {
        roots.add(certificate.map_err(|e| fail(&e))?).map_err(|e| fail(&e))?;
    }
    Ok(roots)
}

/// Checks that every node has the certificate of one name, whatever its address. The driver dials
/// addresses that it learns from the cluster and names them to TLS, while the certificates of Amazon
/// Keyspaces carry the name of its region.
#[derive(Debug)]
struct OneName {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OneName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, ServerConfig, ServerConnection, pki_types::PrivateKeyDer};

    use super::*;

    const NODE: &[u8] = include_bytes!("../../../fixtures/tls/node.pem");
    const KEY: &[u8] = include_bytes!("../../../fixtures/tls/node.key");
    const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tls/ca.pem");

    fn config(tls_name: &str, ca_file: &str) -> config::Cassandra {
        config::Cassandra {
            tls: true,
            tls_name: tls_name.to_owned(),
            ca_file: ca_file.to_owned(),
            ..config::Cassandra::default()
        }
    }

    /// Dials 127.0.0.1, where a node calls itself `cassandra.test`.
    fn handshake(config: &config::Cassandra) -> Result<(), Error> {
        let Some(TlsContext::Rustls023(client)) = context(config).unwrap() else {
            panic!("it is on")
        };
        let chain = CertificateDer::pem_slice_iter(NODE).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let server = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let address = ServerName::try_from("127.0.0.1").unwrap();
        let mut client = ClientConnection::new(client, address)?;
        let mut server = ServerConnection::new(Arc::new(server))?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut &bytes[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn a_node_must_have_the_name_that_is_asked_for_and_an_authority_that_is_trusted() {
        assert_eq!(handshake(&config("cassandra.test", CA)), Ok(()));
        assert!(handshake(&config("cassandra.elsewhere", CA)).is_err(), "another name");
        assert!(handshake(&config("", CA)).is_err(), "its address is not in its certificate");
        assert!(handshake(&config("cassandra.test", "")).is_err(), "an authority of its own");
    }

    #[test]
    fn what_cannot_be_trusted_is_named() {
        let why = |config: &config::Cassandra| context(config).map(drop).unwrap_err().to_string();
        assert!(why(&config("", "/nowhere/ca.pem")).contains("/nowhere/ca.pem"));
        assert!(why(&config("not a name", CA)).contains("not a name"));
        assert!(context(&config::Cassandra::default()).unwrap().is_none(), "off by default");
    }
}
