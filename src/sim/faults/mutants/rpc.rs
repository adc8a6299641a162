//! M11 and MX1: a wrapper of calls to other roles.

use async_trait::async_trait;
use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;

use super::{Mutant, Wrapped};
use crate::{
    ports::{Kind, Outcome, Rpc, StoreError, rpc::Door},
    wire::{
        events::Fact,
        internal::{APPLY, Apply},
        routes::Role,
    },
};

#[async_trait]
impl Rpc for Wrapped<dyn Rpc> {
    fn replicas(&self, role: Role) -> usize {
        self.inner.replicas(role)
    }

    fn healthy(&self, role: Role, replica: usize) -> bool {
        self.inner.healthy(role, replica)
    }

    async fn call(
        &self,
        role: Role,
        replica: usize,
        door: Door,
        request: Request<Body>,
    ) -> Outcome<Response<Body>> {
        if request.uri().path() != APPLY {
            return self.inner.call(role, replica, door, request).await;
        }
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return Outcome::Failed(StoreError::new(Kind::Corrupt, role.as_str(), "no body"));
        };
        let bytes = body.to_bytes();
        let skipped = |fact: &Fact| match self.mutant {
            Mutant::M11 => matches!(fact, Fact::TweetCreated { .. }),
            _ => matches!(fact, Fact::GraphChanged { .. }),
        };
        let skips = serde_json::from_slice::<Apply>(&bytes)
            .is_ok_and(|apply| apply.events.iter().all(|event| skipped(&event.fact)));
        if skips {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Outcome::Done(response);
        }
        let request = Request::from_parts(parts, Body::from(bytes));
        self.inner.call(role, replica, door, request).await
    }
}
