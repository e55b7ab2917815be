//! Errors, in Keygen's shape.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The media type of everything that is said here.
pub(super) const MEDIA_TYPE: &str = "application/vnd.api+json";

/// Why a call was not done.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    code: Option<&'static str>,
    pointer: Option<String>,
}

impl Problem {
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request", detail)
    }

    pub(super) fn unauthorized(code: &'static str, detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", detail).coded(code)
    }

    pub(super) fn payment_required() -> Self {
        let detail = "Your account's active licensed user limit has been reached.";
        Self::new(StatusCode::PAYMENT_REQUIRED, "Account limit exceeded", detail).coded("ACCOUNT_ALU_LIMIT_EXCEEDED")
    }

    pub(super) fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Access denied", detail)
    }

    pub(super) fn not_found(what: &str, id: &str) -> Self {
        let detail = format!("The requested {what} '{id}' was not found");
        Self::new(StatusCode::NOT_FOUND, "Not found", detail).coded("NOT_FOUND")
    }

    /// A unique index was hit.
    pub(super) fn conflict() -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict", "another resource is in conflict with this one")
    }

    pub(super) fn unprocessable(code: &'static str, pointer: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable resource", detail).coded(code).at(pointer)
    }

    /// A rule that was broken without a word about which.
    pub(super) fn unprocessable_and_silent() -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "", "")
    }

    /// What a scripted fault answers.
    pub(super) fn scripted(status: StatusCode) -> Response {
        let title = status.canonical_reason().unwrap_or("Error");
        let code = match status {
            StatusCode::TOO_MANY_REQUESTS => Some("TOO_MANY_REQUESTS"),
            StatusCode::UNAUTHORIZED => Some("TOKEN_EXPIRED"),
            _ => None,
        };
        Self { code, ..Self::new(status, title, "something went wrong") }.into_response()
    }

    pub(super) fn too_many() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests",
            "Throttle limit has been reached for your account.",
        )
        .coded("TOO_MANY_REQUESTS")
    }

    fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), code: None, pointer: None }
    }

    pub(super) fn coded(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(super) fn with(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn at(self, pointer: &str) -> Self {
        Self { pointer: Some(pointer.to_owned()), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let errors = if self.title.is_empty() {
            json!([])
        } else {
            let mut error = json!({ "title": self.title, "detail": self.detail });
            if let Some(code) = self.code {
                error["code"] = json!(code);
            }
            if let Some(pointer) = self.pointer {
                error["source"] = json!({ "pointer": pointer });
            }
            json!([error])
        };
        document(self.status, &json!({ "meta": { "id": "sandbox" }, "errors": errors }))
    }
}

/// An answer with a body.
pub(super) fn document(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, format!("{MEDIA_TYPE}; charset=utf-8"))], body.to_string()).into_response()
}
