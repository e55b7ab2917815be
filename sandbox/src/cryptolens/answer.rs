//! What the service says: JSON with `result` and `message`, whatever happened.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::settings::{Errors, Settings};

/// Done: the fields of the answer.
pub(super) type Done = Result<Value, No>;

/// Why a call is not done: nothing has changed, except where the method says so.
#[derive(Debug)]
pub(super) struct No {
    status: StatusCode,
    message: String,
}

impl No {
    fn of(status: StatusCode, message: &str) -> Self {
        Self { status, message: message.to_owned() }
    }

    pub(super) fn unauthenticated() -> Self {
        Self::of(StatusCode::UNAUTHORIZED, "Unable to authenticate.")
    }

    pub(super) fn denied(method: &str) -> Self {
        Self::of(StatusCode::FORBIDDEN, &format!("Access denied. Please add '{method}' permission."))
    }

    pub(super) fn lapsed() -> Self {
        Self::of(StatusCode::FORBIDDEN, "No active subscription found.")
    }

    pub(super) fn locked() -> Self {
        Self::of(StatusCode::FORBIDDEN, "Not enough permission and/or key not found.")
    }

    pub(super) fn incorrect(what: &str) -> Self {
        Self::of(StatusCode::BAD_REQUEST, &format!("The input parameters were incorrect: {what}."))
    }

    pub(super) fn no_product() -> Self {
        Self::of(StatusCode::NOT_FOUND, "Could not find the product.")
    }

    pub(super) fn no_key() -> Self {
        Self::of(StatusCode::NOT_FOUND, "Could not find the key.")
    }

    pub(super) fn no_customer() -> Self {
        Self::of(StatusCode::NOT_FOUND, "Customer could not be found.")
    }

    pub(super) fn refused(message: &str) -> Self {
        Self::of(StatusCode::BAD_REQUEST, message)
    }
}

/// The whole answer. Under `errors = "ok"` errors come with status 200.
pub(super) fn whole(settings: &Settings, done: Done) -> Response {
    let (status, mut body) = match done {
        Ok(body) => (StatusCode::OK, body),
        Err(no) => (no.status, json!({ "result": 1, "message": no.message })),
    };
    if let Value::Object(fields) = &mut body {
        fields.entry("result").or_insert_with(|| json!(0));
        fields.entry("message").or_insert(Value::Null);
        if settings.unknown_fields {
            fields.insert("addedLater".to_owned(), json!({ "nobody": ["knows", 1] }));
        }
    }
    let status = match settings.errors {
        Errors::Ok => StatusCode::OK,
        Errors::Fitting => status,
    };
    (status, Json(body)).into_response()
}

/// What a failing server says: a message without a result.
pub(super) fn failed(status: StatusCode) -> Response {
    let message = match status {
        StatusCode::UNAUTHORIZED => {
            return (status, Json(json!({ "result": 1, "message": "Unable to authenticate." }))).into_response();
        }
        StatusCode::TOO_MANY_REQUESTS => "Too many requests.",
        _ => "Something went wrong. Please contact support.",
    };
    (status, Json(json!({ "message": message }))).into_response()
}
