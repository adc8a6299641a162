//! How a connection logs in.

use async_trait::async_trait;
use scylla::authentication::{
    AuthError, AuthenticatorProvider, AuthenticatorSession, PlainTextAuthenticator,
};

use super::super::endpoint::Endpoint;
use crate::config::Cassandra;

/// A user with a password, which is asked for by each connection that is made.
pub(super) struct ByToken(pub(super) Endpoint<Cassandra>);

#[async_trait]
impl AuthenticatorProvider for ByToken {
    async fn start_authentication_session(
        &self,
        authenticator: &str,
    ) -> Result<(Option<Vec<u8>>, Box<dyn AuthenticatorSession>), AuthError> {
        let token = self.0.tokens.token().await.map_err(|error| error.message)?;
        let plain = PlainTextAuthenticator::new(self.0.config.username.clone(), token.0);
        plain.start_authentication_session(authenticator).await
    }
}
