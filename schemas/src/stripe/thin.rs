//! Thin events: they say which object changed, and nothing of how it is.

use jiff::Timestamp;
use serde_json::Value;

use super::value::{is_id, seconds, text};

/// What a thin event says: which object to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thin {
    /// The object's id.
    pub id: String,
    /// Its kind, as its `object` field says: `subscription`, `checkout.session` …
    pub kind: String,
    /// Where it can be read: `/v1/…`.
    pub url: String,
    /// When the event was made, in whole seconds.
    pub created: Option<Timestamp>,
}

/// Reads a thin event. `None` for any other, for one that is about no object with an address, and for one whose address is
/// not that of its object: what stands there would be kept as something else, and be missing still.
pub fn thin(body: &[u8]) -> Option<Thin> {
    let body: Value = serde_json::from_slice(body).ok()?;
    if body["object"] != "v2.core.event" {
        return None;
    }
    let related = &body["related_object"];
    let id = text(&related["id"]).filter(|id| is_id(id))?;
    let leads_to_it = |url: &String| is_path(url) && url.rsplit('/').next() == Some(id.as_str());
    let url = text(&related["url"]).filter(leads_to_it)?;
    let created = body["created"].as_str().and_then(|created| created.parse::<Timestamp>().ok());
    Some(Thin {
        id,
        kind: text(&related["type"])?,
        url,
        created: created.and_then(|created| seconds(created.as_second())),
    })
}

/// A path that is asked for as it stands: nothing in it leads elsewhere.
fn is_path(url: &str) -> bool {
    let segments = url.strip_prefix('/').into_iter().flat_map(|rest| rest.split('/'));
    let sane = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    url.starts_with('/') && segments.into_iter().all(|part| !part.is_empty() && part.bytes().all(sane))
}
