//! What can go wrong between a question and its answer: one enum for the API and the command line.
//!
//! Codes are stable: programs may match on them. Details are for people and may change.

use keyledger_eventlog::log::{AppendError, LogError};
use keyledger_projector::ViewsError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::Role;
use crate::search::parse::BadQuery;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Something in the request cannot be used: every such thing, at once.
    #[error("{}", summary(.0))]
    Invalid(Vec<Fault>),
    /// There is no such thing, or not in the mode and source asked about.
    #[error("there is no {what} `{id}` in this mode and source")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// Its id as asked for.
        id: String,
    },
    /// No such route.
    #[error("there is nothing at this path")]
    NoRoute,
    /// The route exists, not for this method.
    #[error("this path does not take this method")]
    MethodNotAllowed,
    /// No token, or one that is not ours.
    #[error("a bearer token is needed: `Authorization: Bearer …`")]
    Unauthorized {
        /// A token was given, and it is not ours.
        token_given: bool,
    },
    /// The token is ours, and may not do this.
    #[error("this needs the role {needs}, and the token has {has}")]
    Forbidden {
        /// The least role that may.
        needs: Role,
        /// The role of the token.
        has: Role,
    },
    /// The thing is not in a state where this can be done.
    #[error("{0}")]
    Conflict(String),
    /// The same `Idempotency-Key` came with another body before.
    #[error("this Idempotency-Key was used with another body")]
    IdempotencyMismatch,
    /// The body is too large.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// The path and query are too long.
    #[error("the address is longer than {limit_bytes} bytes")]
    AddressTooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// The body is not declared as JSON.
    #[error("the body must be declared as `Content-Type: application/json`")]
    NotJson,
    /// The answer took too long.
    #[error("the answer took longer than {after_s} seconds")]
    Timeout {
        /// The limit.
        after_s: u64,
    },
    /// The log or the views cannot be reached now: try again later.
    #[error("{part} cannot be reached now; try again later")]
    NotReady {
        /// `the log` or `the views`.
        part: &'static str,
        /// What happened.
        #[source]
        source: Source,
    },
    /// A bug, or damage. The log has the details.
    #[error("this is a fault in keyledger; its log has the details under this request's id")]
    Internal(#[source] Source),
}

/// One thing in a request that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// The query parameter or header it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The JSON Pointer into the body it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What is wrong, and what would be right.
    pub detail: String,
    /// The column in a search, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What was perhaps meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Fault {
    /// A fault in a query parameter or header.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self { parameter: Some(name.to_owned()), pointer: None, detail: detail.into(), column: None, suggestion: None }
    }

    /// A fault in the body; the empty pointer is the whole body.
    pub fn pointer(pointer: &str, detail: impl Into<String>) -> Self {
        Self {
            parameter: None,
            pointer: Some(pointer.to_owned()),
            detail: detail.into(),
            column: None,
            suggestion: None,
        }
    }
}

impl Problem {
    /// One fault in a query parameter.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault::parameter(name, detail)])
    }

    /// Nothing with this id.
    pub fn not_found(what: &'static str, id: &str) -> Self {
        Self::NotFound { what, id: id.to_owned() }
    }

    /// What it is, in one short phrase that is the same every time.
    pub fn title(&self) -> &'static str {
        self.kind().1
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.kind().0
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.kind().2
    }

    fn kind(&self) -> (&'static str, &'static str, u16) {
        match self {
            Self::Invalid(_) => ("validation_failed", "The request cannot be used", 400),
            Self::NotFound { .. } | Self::NoRoute => ("not_found", "Not found", 404),
            Self::Conflict(_) => ("conflict", "Not possible as things stand", 409),
            Self::MethodNotAllowed => ("method_not_allowed", "Method not allowed", 405),
            Self::Unauthorized { .. } => ("unauthorized", "Not signed in", 401),
            Self::Forbidden { .. } => ("forbidden", "Not allowed", 403),
            Self::IdempotencyMismatch => ("idempotency_mismatch", "Idempotency-Key used before", 422),
            Self::TooLarge { .. } => ("too_large", "Body too large", 413),
            Self::AddressTooLong { .. } => ("address_too_long", "Address too long", 414),
            Self::NotJson => ("unsupported_media_type", "Not JSON", 415),
            Self::Timeout { .. } => ("timeout", "Took too long", 504),
            Self::NotReady { .. } => ("not_ready", "Not ready", 503),
            Self::Internal(_) => ("internal", "Fault in keyledger", 500),
        }
    }

    /// The faults, where the request cannot be used.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Invalid(faults) => faults,
            _ => &[],
        }
    }
}

/// Every code, and what it means to whoever meets it. `GET /problems/{code}` shows these.
pub const CODES: &[(&str, &str)] = &[
    (
        "validation_failed",
        "A parameter or the body cannot be used. `errors` names each and says what would be right. Nothing was done.",
    ),
    ("not_found", "There is no such thing, or it is in the other mode (`?mode=test`) or another source."),
    ("conflict", "The thing is not in a state where this can be done; the detail says why. Nothing was done."),
    ("method_not_allowed", "The path exists, but not for this method. The `Allow` header names those it takes."),
    ("unauthorized", "Send `Authorization: Bearer` with the API token of this deployment."),
    ("forbidden", "The token is right, but its role may not do this."),
    (
        "idempotency_mismatch",
        "The same `Idempotency-Key` came with another body before. Use a new key for a new request.",
    ),
    ("too_large", "The body is larger than any request needs."),
    ("address_too_long", "The path and query are longer than any request needs."),
    ("unsupported_media_type", "Send the body as JSON with `Content-Type: application/json`."),
    ("timeout", "The answer took too long. Ask for less, or again later."),
    (
        "not_ready",
        "The log or the views cannot be reached now. Ask again after the `Retry-After` time. Nothing was done.",
    ),
    ("internal", "A fault in keyledger. Its own log has the details under the request's id (`instance`)."),
];

impl From<BadQuery> for Problem {
    fn from(error: BadQuery) -> Self {
        let BadQuery { column, message, suggestion } = error;
        Self::Invalid(vec![Fault { column: Some(column), suggestion, ..Fault::parameter("q", message) }])
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Database(_) | LogError::Closed => Self::NotReady { part: "the log", source: error.into() },
            LogError::Unsafe { .. } | LogError::Damaged { .. } => Self::Internal(error.into()),
        }
    }
}

impl From<ViewsError> for Problem {
    fn from(error: ViewsError) -> Self {
        match error {
            ViewsError::Database(_) | ViewsError::Unusable { .. } | ViewsError::Newer => {
                Self::NotReady { part: "the views", source: error.into() }
            }
            ViewsError::Damaged { .. } => Self::Internal(error.into()),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::IdReused { .. } => Self::IdempotencyMismatch,
            AppendError::Unavailable(error) => Self::from(error),
            // Operators' events are appended to any version and write no state.
            AppendError::Conflict { .. } | AppendError::StaleState { .. } => Self::Internal(error.into()),
        }
    }
}

fn summary(faults: &[Fault]) -> String {
    let one = |fault: &Fault| match (&fault.parameter, &fault.pointer) {
        (Some(name), _) => format!("`{name}`: {}", fault.detail),
        (None, Some(pointer)) if !pointer.is_empty() => format!("`{pointer}`: {}", fault.detail),
        _ => fault.detail.clone(),
    };
    faults.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained() {
        let problems = [
            Problem::Invalid(Vec::new()),
            Problem::NoRoute,
            Problem::Conflict(String::new()),
            Problem::MethodNotAllowed,
            Problem::Unauthorized { token_given: false },
            Problem::Forbidden { needs: Role::Admin, has: Role::Viewer },
            Problem::IdempotencyMismatch,
            Problem::TooLarge { limit_bytes: 1 },
            Problem::AddressTooLong { limit_bytes: 1 },
            Problem::NotJson,
            Problem::Timeout { after_s: 1 },
            Problem::NotReady { part: "the views", source: "down".into() },
            Problem::Internal("bug".into()),
        ];
        for problem in &problems {
            assert!(CODES.iter().any(|(code, _)| *code == problem.code()), "{}", problem.code());
        }
        assert_eq!(problems.len(), CODES.len());
    }

    #[test]
    fn the_detail_names_every_parameter_that_is_wrong() {
        let problem = Problem::Invalid(vec![Fault::parameter("limit", "too much"), Fault::pointer("/reason", "blank")]);
        assert_eq!(problem.to_string(), "`limit`: too much; `/reason`: blank");
    }
}
