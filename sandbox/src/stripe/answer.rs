//! Answers, and refusals in Stripe's form.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Map, Value, json};

/// What the API says when it does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `invalid_request_error`, `idempotency_error` or `api_error`.
    pub kind: &'static str,
    /// A word for programs.
    pub code: Option<&'static str>,
    /// A sentence for people.
    pub message: String,
    /// Which parameter.
    pub param: Option<String>,
    /// `Stripe-Should-Retry`.
    pub should_retry: Option<bool>,
    /// `Stripe-Rate-Limited-Reason`.
    pub limited: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: "invalid_request_error",
            code,
            message: message.into(),
            param: None,
            should_retry: None,
            limited: None,
        }
    }

    /// A parameter that cannot be.
    pub(super) fn parameter(code: &'static str, param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(400, Some(code), message) }
    }

    /// A parameter that is not known to be one.
    pub(super) fn unknown(param: &str) -> Self {
        Self::parameter("parameter_unknown", param, format!("Received unknown parameter: {param}"))
    }

    /// There is no such object in this account and mode.
    pub(super) fn missing(object: &str, id: &str, param: &str) -> Self {
        let message = format!("No such {}: '{id}'", object.replace('.', "_").replace("checkout_", ""));
        Self { status: 404, ..Self::parameter("resource_missing", param, message) }
    }

    /// No call of this method has this path.
    pub(super) fn no_such_call(method: &str, path: &str) -> Self {
        Self::new(404, None, format!("Unrecognized request URL ({method}: {path})"))
    }

    /// Too many requests.
    pub(super) fn limited(reason: &'static str) -> Self {
        Self { limited: Some(reason), ..Self::new(429, Some("rate_limit"), "Request rate limit exceeded.") }
    }

    pub(super) fn body(&self) -> Value {
        let mut error = Map::new();
        error.insert("type".to_owned(), json!(self.kind));
        error.insert("message".to_owned(), json!(self.message));
        if let Some(code) = self.code {
            error.insert("code".to_owned(), json!(code));
        }
        if let Some(param) = &self.param {
            error.insert("param".to_owned(), json!(param));
        }
        json!({ "error": error })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = (status, Json(self.body())).into_response();
        if let Some(retry) = self.should_retry {
            let word = HeaderValue::from_static(if retry { "true" } else { "false" });
            response.headers_mut().insert(HeaderName::from_static("stripe-should-retry"), word);
        }
        if let Some(reason) = self.limited {
            let name = HeaderName::from_static("stripe-rate-limited-reason");
            response.headers_mut().insert(name, HeaderValue::from_static(reason));
        }
        response
    }
}

/// The body of a scripted failure.
pub(super) fn failed(status: StatusCode) -> Response {
    let refusal = match status {
        StatusCode::TOO_MANY_REQUESTS => Refusal::limited("global-rate"),
        status if status.is_server_error() => {
            Refusal { kind: "api_error", ..Refusal::new(status.as_u16(), None, "An unknown error occurred.") }
        }
        status => Refusal::new(status.as_u16(), None, "A scripted failure."),
    };
    refusal.into_response()
}
