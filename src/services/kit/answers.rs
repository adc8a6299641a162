//! Errors as answers: one table of problems, and [`Fault`], the error type of every handler.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};

use super::limits::Standing;
use crate::{
    ports::{Kind, StoreError},
    wire::problem::{PROBLEM_JSON, Problem},
};

/// Every problem that a role answers with: a stable code, its status and its title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request cannot be read.
    BadRequest,
    /// The body is not JSON.
    MalformedJson,
    /// A field of the body, the path, the query or a header is missing, unknown or out of range.
    InvalidField,
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// The body is larger than `http.body_bytes_max`.
    BodyTooLarge,
    /// No access token, or one that is not accepted.
    Unauthorized,
    /// Handle and password do not belong together.
    WrongCredentials,
    /// The refresh token is unknown, used up or has ended.
    SessionEnded,
    /// The call is for other roles only.
    Forbidden,
    /// One of the two users blocks the other.
    Blocked,
    /// The tweet is somebody else's.
    NotOwner,
    /// There is no such thing.
    NotFound,
    /// The path takes other methods.
    MethodNotAllowed,
    /// A tweet names an upload that is not its author's, or that never was.
    MediaUnknown,
    /// A tweet names an upload that came too late.
    MediaExpired,
    /// A tweet names an upload whose bytes were not sent.
    MediaNotUploaded,
    /// A tweet names an upload whose bytes are no picture that is taken.
    MediaRefused,
    /// A tweet names an upload that another tweet shows.
    MediaUsed,
    /// Somebody has the handle.
    HandleTaken,
    /// Users have no edges to themselves.
    Yourself,
    /// The idempotency key was used for another body.
    KeyReused,
    /// Too many calls.
    RateLimited,
    /// A fault of the program.
    Internal,
    /// A replica did not answer.
    BadGateway,
    /// The role is full.
    Overloaded,
    /// A store or another role that is needed cannot be reached.
    Unavailable,
    /// It may have happened.
    UnknownOutcome,
    /// It took too long; it may have happened.
    Timeout,
}

impl Code {
    /// The stable name, the status and the title.
    #[must_use]
    pub const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BadRequest => ("bad-request", 400, "the request cannot be read"),
            Self::MalformedJson => ("malformed-json", 400, "the body is not valid json"),
            Self::Unauthorized => ("unauthorized", 401, "a valid access token is needed"),
            Self::WrongCredentials => ("wrong-credentials", 401, "wrong handle or password"),
            Self::SessionEnded => ("session-ended", 401, "the session has ended"),
            Self::Forbidden => ("forbidden", 403, "this call is not allowed"),
            Self::Blocked => ("blocked", 403, "one of the two users blocks the other"),
            Self::NotOwner => ("not-owner", 403, "the tweet belongs to another user"),
            Self::NotFound => ("not-found", 404, "there is no such thing"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "the path has other methods"),
            Self::HandleTaken => ("handle-taken", 409, "the handle is taken"),
            Self::Yourself => ("yourself", 409, "this cannot be done to oneself"),
            Self::MediaNotUploaded => ("media-not-uploaded", 409, "a picture was not sent yet"),
            Self::MediaUsed => ("media-used", 409, "another tweet shows the picture"),
            Self::MediaExpired => ("media-expired", 410, "the upload came too late"),
            Self::BodyTooLarge => ("body-too-large", 413, "the body is too large"),
            Self::UnsupportedMediaType => ("unsupported-media-type", 415, "the body must be json"),
            Self::InvalidField => ("invalid-field", 422, "a field is not valid"),
            Self::MediaUnknown => ("media-unknown", 422, "there is no such upload"),
            Self::MediaRefused => ("media-refused", 422, "the picture is not taken"),
            Self::KeyReused => {
                ("idempotency-key-reused", 422, "the idempotency key was used for another body")
            }
            Self::RateLimited => ("rate-limited", 429, "too many calls"),
            Self::Internal => ("internal", 500, "an internal error"),
            Self::BadGateway => ("bad-gateway", 502, "a replica did not answer"),
            Self::Overloaded => ("overloaded", 503, "too much is asked at once"),
            Self::Unavailable => ("unavailable", 503, "a part of the system cannot be reached"),
            Self::UnknownOutcome => ("unknown-outcome", 503, "it is not known whether it happened"),
            Self::Timeout => ("timeout", 504, "it took too long"),
        }
    }
}

/// An error on its way to the client. What it holds may be shown to the client.
#[derive(Clone, Debug)]
pub struct Fault(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    detail: Option<Cow<'static, str>>,
    field: Option<Cow<'static, str>>,
    retry_after_s: Option<u64>,
    standing: Option<Standing>,
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        let retry_after_s = matches!(
            code,
            Code::RateLimited | Code::Overloaded | Code::Unavailable | Code::UnknownOutcome
        )
        .then_some(1);
        Self(Box::new(Inner { code, detail: None, field: None, retry_after_s, standing: None }))
    }
}

/// A store cannot be used now. The store's own words stay in the logs.
impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a store failed");
        match error.kind {
            Kind::Full => Code::Overloaded.into(),
            Kind::Unavailable | Kind::Timeout | Kind::Corrupt => Code::Unavailable.into(),
        }
    }
}

impl Fault {
    /// A field that is not valid, and why.
    pub fn field(field: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Self {
        let mut fault = Self::from(Code::InvalidField);
        fault.0.field = Some(field.into());
        fault.0.detail = Some(why.into());
        fault
    }

    /// The same with a text that says what is wrong with this request and how to mend it.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The same, asking the client to come back after `wait`, in whole seconds rounded up.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after_s = Some(wait.as_millis().div_ceil(1_000).max(1) as u64);
        self
    }

    /// The same, telling how the limit stands that refused the call.
    #[must_use]
    pub(super) fn standing(mut self, standing: Standing) -> Self {
        self.0.standing = Some(standing);
        self
    }

    /// What it is.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The problem as it is sent.
    #[must_use]
    pub fn problem(&self, request_id: Option<&str>) -> Problem {
        let (code, status, title) = self.0.code.row();
        Problem {
            detail: self.0.detail.as_deref().map(str::to_owned),
            field: self.0.field.as_deref().map(str::to_owned),
            request_id: request_id.map(str::to_owned),
            ..Problem::new(status, code, title)
        }
    }

    /// The answer that names the request.
    ///
    /// # Panics
    /// Never: the table has valid statuses, and a problem can be written as JSON.
    pub fn into_named_response(self, request_id: Option<&str>) -> Response {
        let (_, status, _) = self.0.code.row();
        let body =
            serde_json::to_vec(&self.problem(request_id)).expect("a problem has only string keys");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(status).expect("the table has valid codes");
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.0.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(standing) = self.0.standing {
            standing.show(headers);
        }
        if status == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // The guard finds the fault here and names the request in it.
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        self.into_named_response(None)
    }
}

/// JSON with a status.
pub fn json<T: serde::Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => json_bytes(status, bytes),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            Fault::from(Code::Internal).into_response()
        }
    }
}

/// JSON that is written already, with a status.
pub fn json_bytes(status: StatusCode, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// No content.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
