//! What a sender is told. No answer carries personal data, keys, or anything of the request.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::gate::Closed;
use crate::signature::BadSignature;

/// When to come again after a 503, in seconds. Stripe has a schedule of its own; proxies and tests read this.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("10");

/// How one delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log since now.
    Stored,
    /// It was in the log already.
    Duplicate,
    /// No source has this name.
    UnknownSource,
    /// Not signed by Stripe for this source, or signed too long ago.
    BadSignature(BadSignature),
    /// Rightly signed, but not a Stripe event.
    NotAnEvent,
    /// Another source has this event: both are one account.
    SameAccount,
    /// Larger than the limit.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// The connection broke before the body was complete.
    Interrupted,
    /// Too many requests, or too many bytes, are in hand.
    Overloaded,
    /// The log did not take it.
    Unavailable,
    /// Nothing is taken now.
    Closed(Closed),
    /// A bug: the handler panicked.
    Panicked,
}

impl Outcome {
    /// Its name in metrics and spans.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate => "duplicate",
            Self::UnknownSource => "unknown_source",
            Self::BadSignature(BadSignature::TooOld) => "stale",
            Self::BadSignature(_) => "bad_signature",
            Self::NotAnEvent => "not_an_event",
            Self::SameAccount => "same_account",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Interrupted => "interrupted",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Closed(_) => "closed",
            Self::Panicked => "panicked",
        }
    }

    /// Its status. Stripe treats everything but 2xx alike: it tries again later.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Stored | Self::Duplicate => StatusCode::OK,
            Self::UnknownSource => StatusCode::NOT_FOUND,
            Self::BadSignature(_) | Self::NotAnEvent | Self::Interrupted => StatusCode::BAD_REQUEST,
            Self::SameAccount => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded | Self::Unavailable | Self::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn leaves_body_unread(self) -> bool {
        match self {
            Self::Stored
            | Self::Duplicate
            | Self::BadSignature(_)
            | Self::NotAnEvent
            | Self::SameAccount
            | Self::Unavailable
            | Self::Closed(_) => false,
            Self::UnknownSource
            | Self::TooLarge
            | Self::TooSlow
            | Self::Interrupted
            | Self::Overloaded
            | Self::Panicked => true,
        }
    }

    fn detail(self) -> String {
        match self {
            Self::Stored | Self::Duplicate => String::new(),
            Self::UnknownSource => "no source has this name".to_owned(),
            Self::BadSignature(reason) => reason.to_string(),
            Self::NotAnEvent => "the body is not a Stripe event".to_owned(),
            Self::SameAccount => "another source of this service has this event: they are one account".to_owned(),
            Self::TooLarge => "the body is larger than this service takes".to_owned(),
            Self::TooSlow => "the body did not arrive in time".to_owned(),
            Self::Interrupted => "the body is not complete".to_owned(),
            Self::Overloaded => "too much is in hand, try again later".to_owned(),
            Self::Unavailable => "the log is not available, try again later".to_owned(),
            Self::Closed(reason) => format!("{reason}, try again later"),
            Self::Panicked => "the service failed".to_owned(),
        }
    }
}

#[derive(Serialize)]
struct Kept {
    status: &'static str,
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        if self.status().is_success() {
            return (self.status(), Json(Kept { status: self.label() })).into_response();
        }
        let mut response = problem(self.status(), self.label(), &self.detail());
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
        }
        if self.leaves_body_unread() { closing(response) } else { response }
    }
}

/// RFC 9457.
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
}

/// Says that the connection ends with this answer. It must, where the body was not read to its end; a sender that is
/// not told would use the connection again while it is being closed, and lose its next request.
pub fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A problem document.
pub fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let mut response = (status, Json(Problem { title, status: status.as_u16(), detail })).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
