//! How a connection logs in.

use async_trait::async_trait;
use scylla::authentication::{
    AuthError, AuthenticatorProvider, AuthenticatorSession, PlainTextAuthenticator,
};

use super::super::endpoint::Endpoint;
use crate::{config::Cassandra, rt::Rt};

/// A user with a password, which is asked for by each connection that is made.
pub(super) struct ByToken {
    pub(super) rt: Rt,
    pub(super) endpoint: Endpoint<Cassandra>,
}

#[async_trait]
impl AuthenticatorProvider for ByToken {
    async fn start_authentication_session(
        &self,
        authenticator: &str,
    ) -> Result<(Option<Vec<u8>>, Box<dyn AuthenticatorSession>), AuthError> {
        let config = &self.endpoint.config;
        // The driver itself bounds only the connection, and waits for the rest for ever.
        let token = self.endpoint.token(&self.rt, config.connect_timeout()).await;
        let token = token.map_err(|error| error.message)?;
        let plain = PlainTextAuthenticator::new(config.username.clone(), token.0);
        plain.start_authentication_session(authenticator).await
    }
}
