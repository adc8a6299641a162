//! M11, MX1, MX4 and MX5: a wrapper of calls to other roles. What is wrong with the answers of a role
//! is put into them on their way.

use async_trait::async_trait;
use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected};

use super::{Mutant, Wrapped};
use crate::{
    ports::{Kind, Outcome, Rpc, StoreError, rpc::Door},
    wire::{
        api::Page,
        events::Fact,
        internal::{APPLY, Apply},
        routes::Role,
    },
};

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// MX5: a page as if a part of it could not be had.
async fn degraded(answer: Outcome<Response<Body>>) -> Outcome<Response<Body>> {
    let Outcome::Done(response) = answer else { return answer };
    let (mut parts, body) = response.into_parts();
    let bytes = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let bytes = match serde_json::from_slice::<Page>(&bytes) {
        Ok(page) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            let page = Page { degraded: true, ..page };
            serde_json::to_vec(&page).expect("a page has only string keys").into()
        }
        Err(_) => bytes,
    };
    Outcome::Done(Response::from_parts(parts, Body::from(bytes)))
}

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
        if self.mutant == Mutant::MX5 {
            let answer = self.inner.call(role, replica, door, request).await;
            return if role == Role::Timeline { degraded(answer).await } else { answer };
        }
        if request.uri().path() != APPLY {
            return self.inner.call(role, replica, door, request).await;
        }
        if self.mutant == Mutant::MX4 {
            return Outcome::Done(empty(StatusCode::SERVICE_UNAVAILABLE));
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
            return Outcome::Done(empty(StatusCode::NO_CONTENT));
        }
        let request = Request::from_parts(parts, Body::from(bytes));
        self.inner.call(role, replica, door, request).await
    }
}
