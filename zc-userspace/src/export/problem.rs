//! Errors as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What went wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of problem, for programs: a URN that is not meant to be opened.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The kind of problem, for people.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time, and what to do.
    pub detail: String,
}

impl Problem {
    fn new(kind: &'static str, title: &'static str, status: StatusCode, detail: impl Into<String>) -> Self {
        Self { kind, title, status: status.as_u16(), detail: detail.into() }
    }

    /// A query or path parameter that is wrong, unknown or missing.
    pub fn bad_parameter(detail: impl Into<String>) -> Self {
        Self::new("urn:zcprof:problem:bad-parameter", "Bad parameter", StatusCode::BAD_REQUEST, detail)
    }

    /// A window that the history does not reach back to.
    pub fn window_too_long(detail: impl Into<String>) -> Self {
        Self::new("urn:zcprof:problem:window-too-long", "Window too long", StatusCode::BAD_REQUEST, detail)
    }

    /// No process is meant.
    pub fn no_such_process(detail: impl Into<String>) -> Self {
        Self::new("urn:zcprof:problem:no-such-process", "No such process", StatusCode::NOT_FOUND, detail)
    }

    /// No such route.
    pub fn no_such_resource(path: &str) -> Self {
        let detail = format!("there is nothing at {path}; /openapi.json lists what there is");
        Self::new("urn:zcprof:problem:no-such-resource", "No such resource", StatusCode::NOT_FOUND, detail)
    }

    /// The route does not know this method.
    pub fn wrong_method(method: &str) -> Self {
        let detail = format!("everything here is read-only: use GET instead of {method}");
        Self::new("urn:zcprof:problem:wrong-method", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    /// The request has a body.
    pub fn body_too_large() -> Self {
        let detail = "nothing here takes a request body: leave it out";
        Self::new("urn:zcprof:problem:body-too-large", "Body too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// The daemon has no snapshot yet.
    pub fn not_ready() -> Self {
        let detail = "the first snapshot has not been taken yet: try again in a second";
        Self::new("urn:zcprof:problem:not-ready", "Not ready", StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Others have all there is.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new("urn:zcprof:problem:busy", "Busy", StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// Nobody has said who asks, or not rightly.
    pub fn unauthorized() -> Self {
        let detail = "the daemon's web configuration asks for a name and a password (HTTP Basic authentication)";
        Self::new("urn:zcprof:problem:unauthorized", "Unauthorized", StatusCode::UNAUTHORIZED, detail)
    }

    /// The answer took too long.
    pub fn timeout() -> Self {
        let detail = "the answer took too long, the host may be overloaded: try again";
        Self::new("urn:zcprof:problem:timeout", "Timed out", StatusCode::GATEWAY_TIMEOUT, detail)
    }

    /// The daemon failed.
    pub fn failed(what: &dyn std::fmt::Display) -> Self {
        let detail = format!("{what}; see the daemon's log");
        Self::new("urn:zcprof:problem:failed", "Failed", StatusCode::INTERNAL_SERVER_ERROR, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
