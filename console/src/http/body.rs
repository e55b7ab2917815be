//! The bodies of the three repairs, and the header that makes them safe to repeat.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use crate::problem::{Fault, Problem};

/// Largest body, bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Longest `Idempotency-Key`, characters.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// A JSON body. An absent one reads as the empty object.
///
/// A body must be declared as JSON: a web page can send other types to a server on the reader's machine unasked.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let declared = is_json(request.headers());
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status().as_u16() {
                413 => Problem::TooLarge { limit_bytes: BODY_BYTES_MAX },
                _ => Problem::Invalid(vec![Fault::pointer("", "the body cannot be read")]),
            })?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return read(b"{}");
        }
        if !declared {
            return Err(Problem::NotJson);
        }
        read(&bytes)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Body<T>, Problem> {
    // The messages name fields and places of ours, and at most a scalar of the sender's own.
    let read = serde_json::from_slice(bytes).map_err(|error| Fault::pointer("", error.to_string()));
    read.map(Body).map_err(|fault| Problem::Invalid(vec![fault]))
}

fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The `Idempotency-Key` header, where there is one.
///
/// # Errors
///
/// [`Problem::Invalid`] when it is blank, too long, or not plain text.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().map(str::trim).unwrap_or_default();
    if text.is_empty() || text.len() > IDEMPOTENCY_KEY_MAX {
        let detail = format!("must be 1 to {IDEMPOTENCY_KEY_MAX} characters of plain text");
        return Err(Problem::parameter("Idempotency-Key", detail));
    }
    Ok(Some(text.to_owned()))
}
