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
