//! Errors over HTTP: RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};

/// The content type.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The body of every error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:chirp:problem:<code>`: a stable name that programs may branch on.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short text that is the same for every problem of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request, and how to mend it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// The field of the body or query that is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// The request's id, as in the logs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem named `code` (kebab-case).
    #[must_use]
    pub fn new(status: u16, code: &str, title: &str) -> Self {
        Self {
            kind: format!("urn:chirp:problem:{code}"),
            title: title.to_owned(),
            status,
            detail: None,
            field: None,
            request_id: None,
        }
    }
}
