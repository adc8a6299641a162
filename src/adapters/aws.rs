//! The settings that the clients of AWS services are made with: SNS, SQS and S3.
//!
//! Connections are encrypted with aws-lc where the endpoint says `https`, and send small requests at
//! once: both are defaults of the client of this version. Nothing is asked of a server here.

use std::error::Error;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sqs::config::Credentials;

use crate::config;

/// Region, endpoint, credentials, bounds and retries of every client. Without fixed credentials they
/// come, when they are needed, from what the environment of the process provides.
pub(crate) async fn sdk(config: &config::Aws) -> SdkConfig {
    let attempts = u32::try_from(config.attempts_max).unwrap_or(u32::MAX);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.connect_timeout())
        .operation_attempt_timeout(config.attempt())
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(attempts));
    if !config.endpoint.is_empty() {
        loader = loader.endpoint_url(&config.endpoint);
    }
    if !config.access_key_id.is_empty() {
        let (id, secret) = (&config.access_key_id, &config.access_key_secret.0);
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "config"));
    }
    loader.load().await
}

/// Characters of a cause that an error keeps.
const CAUSE_MAX: usize = 160;

/// An error of a client with what caused it, in one line. Of each the first line: with a wrong
/// signature those that follow repeat the request, with its tokens.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(one) = next {
        let line = one.to_string().lines().next().unwrap_or_default().to_owned();
        let line: String = line.chars().take(CAUSE_MAX).collect();
        if !said.iter().any(|other| other.contains(&line)) {
            said.push(line);
        }
        next = one.source();
    }
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[tokio::test]
    async fn clients_have_what_the_configuration_says_and_do_not_show_the_secret() {
        let config = config::Aws {
            endpoint: "http://127.0.0.1:1".to_owned(),
            region: "eu-north-1".to_owned(),
            access_key_id: "id".to_owned(),
            access_key_secret: Secret("hunter2".to_owned()),
            ..config::Aws::default()
        };
        let sdk = sdk(&config).await;
        assert_eq!(sdk.endpoint_url(), Some("http://127.0.0.1:1"));
        assert_eq!(sdk.region().map(Region::as_ref), Some("eu-north-1"));
        let timeouts = sdk.timeout_config().unwrap();
        assert_eq!(timeouts.connect_timeout(), Some(config.connect_timeout()));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(config.attempt()));
        let client = aws_sdk_sqs::Client::new(&sdk);
        let shown = format!("{sdk:?} {client:?} {config:?} {:?}", client.config());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
