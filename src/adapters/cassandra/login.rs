//! How a connection logs in.

use async_trait::async_trait;
use scylla::authentication::{
    AuthError, AuthenticatorProvider, AuthenticatorSession, PlainTextAuthenticator,
};

use super::super::endpoint::Endpoint;
use crate::{config::Cassandra, rt::Rt};

/// What is said of a provider that does not answer.
pub(super) const NO_TOKEN: &str = "no password was given in time";

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
        let Endpoint { config, tokens } = &self.endpoint;
        // The driver itself bounds only the connection, and waits for the rest for ever.
        let token = self.rt.timeout(config.connect_timeout(), tokens.token()).await;
        let token = token.map_err(|_| NO_TOKEN.to_owned())?;
        let token = token.map_err(|error| error.message)?;
        let plain = PlainTextAuthenticator::new(config.username.clone(), token.0);
        plain.start_authentication_session(authenticator).await
    }
}
