//! Extractors whose rejections are problems: [`Json`], [`Path`] and [`Query`].

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::QueryRejection},
};
use http::{HeaderMap, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError};
use serde::de::DeserializeOwned;

use super::answers::{Code, Fault};

/// A JSON body. Unknown fields are refused by the types in `wire`.
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Fault> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(body).await?;
        Self::parse(&parts.headers, &bytes)
    }
}

impl<T: DeserializeOwned> Json<T> {
    /// Reads a body that was buffered.
    pub fn parse(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Fault> {
        if !is_json(headers) {
            return Err(Fault::from(Code::UnsupportedMediaType)
                .detail("send the header `content-type: application/json`"));
        }
        // Serde would read a struct from an array too, and make the order of fields part of the API.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            let fault = Fault::from(Code::InvalidField);
            return Err(fault.detail("the body must be a json object, at line 1 column 1"));
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            json_fault(&path, error.inner())
        })?;
        json.end().map_err(|error| json_fault(".", &error))?;
        Ok(Self(value))
    }
}

/// Reads a body to its end; the guard has bounded it.
pub async fn read_body(body: axum::body::Body) -> Result<Bytes, Fault> {
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(body_fault(&error)),
    }
}

fn body_fault(error: &(dyn std::error::Error + 'static)) -> Fault {
    let mut source = Some(error);
    while let Some(error) = source {
        if error.is::<LengthLimitError>() {
            return Code::BodyTooLarge.into();
        }
        source = error.source();
    }
    Fault::from(Code::BadRequest).detail("the body ended before its end")
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Says where the body is wrong, but never repeats what it holds: it may be a password.
fn json_fault(path: &str, error: &serde_json::Error) -> Fault {
    let place = format!("at line {} column {}", error.line(), error.column());
    if !error.is_data() {
        return Fault::from(Code::MalformedJson).detail(place);
    }
    let text = error.to_string();
    let named = |prefix| Some(text.strip_prefix(prefix)?.split('`').next()?.to_owned());
    if let Some(name) = named("missing field `") {
        return Fault::field(name, "the field is missing");
    }
    if let Some(name) = named("unknown field `") {
        // The name is the client's: bounded, and only shown.
        let name: String = name.chars().take(64).collect();
        return Fault::field(name, "there is no such field");
    }
    if let Some(name) = named("duplicate field `") {
        return Fault::field(name, "the field is there twice");
    }
    let fault = Fault::from(Code::InvalidField);
    if path == "." {
        fault.detail(format!("the body must be a json object, {place}"))
    } else {
        Fault::field(path.to_owned(), format!("the value has the wrong type, {place}"))
    }
}

/// Parts of the path.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(Fault::from(Code::BadRequest).detail(rejection.body_text())),
        }
    }
}

/// The query.
#[derive(Clone, Copy, Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(query_fault(&rejection)),
        }
    }
}

fn query_fault(rejection: &QueryRejection) -> Fault {
    let text = rejection.body_text();
    let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    match text.split_once(": ") {
        Some((field, why)) if field.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
            Fault::field(field.to_owned(), why.to_owned())
        }
        _ => Fault::from(Code::InvalidField).detail(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{api::SignUp, problem::Problem};

    fn refused(content_type: &str, body: &str) -> Problem {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        Json::<SignUp>::parse(&headers, body.as_bytes()).unwrap_err().problem(None)
    }

    #[test]
    fn a_body_that_cannot_be_read_is_told_what_is_wrong_with_it() {
        let json = "application/json";
        for (content_type, body, status, code, field) in [
            ("text/plain", "{}", 415, "unsupported-media-type", None),
            (json, "{", 400, "malformed-json", None),
            (json, "", 400, "malformed-json", None),
            (json, r#"{"handle":"a","password":"b"} x"#, 400, "malformed-json", None),
            (json, r#"{"handle":"a"}"#, 422, "invalid-field", Some("password")),
            (json, r#"{"handle":"a","password":"p","x":1}"#, 422, "invalid-field", Some("x")),
            (json, r#"{"handle":7,"password":"p"}"#, 422, "invalid-field", Some("handle")),
            (json, r#"{"handle":"a","handle":"b"}"#, 422, "invalid-field", Some("handle")),
            (json, "[]", 422, "invalid-field", None),
            (json, r#" ["ada", null, "correct horse"]"#, 422, "invalid-field", None),
            (json, "7", 422, "invalid-field", None),
        ] {
            let problem = refused(content_type, body);
            assert_eq!(problem.status, status, "{body}");
            assert_eq!(problem.kind, format!("urn:chirp:problem:{code}"), "{body}");
            assert_eq!(problem.field.as_deref(), field, "{body}");
        }
    }

    #[test]
    fn a_password_of_the_wrong_type_is_not_repeated() {
        let problem = refused("application/json", r#"{"handle":"a","password":31415926}"#);
        assert_eq!(problem.field.as_deref(), Some("password"));
        assert!(!serde_json::to_string(&problem).unwrap().contains("31415926"));
    }
}
