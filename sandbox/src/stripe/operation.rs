//! Which call a request is, and whether it may be asked at all.

use axum::http::{HeaderMap, Method};

use super::answer::Refusal;
use super::params::Params;
use super::reads::{RESOURCES, Resource};
use super::settings::Settings;
use super::world::{Realm, World};

const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;

/// What is asked for.
#[derive(Clone)]
pub(super) enum Operation {
    One(&'static Resource, String),
    List(&'static Resource),
    Inner(&'static Resource, String, &'static str),
    SubscriptionItems,
    Events,
    Event(String),
    ThinEvent(String),
    Write(&'static Resource, String),
}

/// A request that may be done.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) operation: Operation,
    pub(super) path: String,
    pub(super) params: Params,
    pub(super) realm: Realm,
    pub(super) version: String,
    pub(super) idempotency_key: Option<String>,
    pub(super) request: String,
}

impl Operation {
    /// The call with this method and path.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, Refusal> {
        let unknown = || Refusal::no_such_call(method.as_str(), path);
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        if segments.iter().any(|segment| segment.is_empty() || segment.contains('%')) {
            return Err(unknown());
        }
        let id = |segment: &&str| (*segment).to_owned();
        match (method, segments.as_slice()) {
            (&Method::GET, ["v1", "events"]) => Ok(Self::Events),
            (&Method::GET, ["v1", "events", event]) => Ok(Self::Event(id(event))),
            (&Method::GET, ["v2", "core", "events", event]) => Ok(Self::ThinEvent(id(event))),
            (&Method::GET, ["v1", "subscription_items"]) => Ok(Self::SubscriptionItems),
            (_, ["v1", rest @ ..]) => {
                let resource = RESOURCES.iter().find_map(|resource| {
                    let own: Vec<&str> = resource.path.split('/').collect();
                    Some((resource, rest.strip_prefix(own.as_slice())?))
                });
                let Some((resource, rest)) = resource else { return Err(unknown()) };
                match (method, resource.kind, rest) {
                    (&Method::GET, _, []) => Ok(Self::List(resource)),
                    (&Method::GET, _, [one]) => Ok(Self::One(resource, id(one))),
                    (&Method::GET, "invoice", [one, "lines"]) => Ok(Self::Inner(resource, id(one), "lines")),
                    (&Method::GET, "checkout.session", [one, "line_items"]) => {
                        Ok(Self::Inner(resource, id(one), "line_items"))
                    }
                    (&Method::POST, "subscription" | "customer", [one]) => Ok(Self::Write(resource, id(one))),
                    _ => Err(unknown()),
                }
            }
            _ => Err(unknown()),
        }
    }

    /// Its name in faults and counts: `subscriptions.get`, `invoices.lines`, `customers.update` …
    pub(super) fn name(&self) -> String {
        match self {
            Self::One(resource, _) => format!("{}.get", resource.path),
            Self::List(resource) => format!("{}.list", resource.path),
            Self::Inner(resource, _, name) => format!("{}.{name}", resource.path),
            Self::SubscriptionItems => "subscription_items.list".to_owned(),
            Self::Events => "events.list".to_owned(),
            Self::Event(_) => "events.get".to_owned(),
            Self::ThinEvent(_) => "v2/core/events.get".to_owned(),
            Self::Write(resource, _) => format!("{}.update", resource.path),
        }
    }

    /// The object it is about.
    pub(super) fn about(&self) -> Option<&str> {
        match self {
            Self::One(_, id) | Self::Inner(_, id, _) | Self::Event(id) | Self::ThinEvent(id) | Self::Write(_, id) => {
                Some(id)
            }
            Self::List(_) | Self::SubscriptionItems | Self::Events => None,
        }
    }

    pub(super) fn writes(&self) -> bool {
        matches!(self, Self::Write(..))
    }
}

/// Whose objects the key and the headers mean.
pub(super) fn realm(headers: &HeaderMap, path: &str, settings: &Settings, world: &World) -> Result<Realm, Refusal> {
    let bearer = text(headers, "authorization").and_then(|value| value.strip_prefix("Bearer "));
    let Some(key) = bearer else {
        return Err(Refusal::new(401, None, "You did not provide an API key."));
    };
    let live = match key {
        key if key == settings.token => true,
        key if key == settings.token_test => false,
        _ => return Err(Refusal::new(401, None, "Invalid API Key provided.")),
    };
    let (account, context) = (text(headers, "stripe-account"), text(headers, "stripe-context"));
    let account = match (account, context) {
        (Some(_), Some(_)) => {
            return Err(Refusal::new(400, None, "Only one of Stripe-Account and Stripe-Context may be given."));
        }
        (Some(_), None) if path.starts_with("/v2/") => {
            return Err(Refusal::new(400, None, "Use Stripe-Context with /v2."));
        }
        (account, context) => account.or(context),
    };
    if let Some(account) = account
        && !world.knows(account)
    {
        let message = "The provided key does not have access to this account, or it does not exist.";
        return Err(Refusal::new(403, Some("account_invalid"), message));
    }
    Ok(Realm { account: account.map(str::to_owned), live })
}

/// The version that is asked for: `2024-06-20`, or `2026-07-29.dahlia`.
pub(super) fn version(headers: &HeaderMap, settings: &Settings) -> Result<String, Refusal> {
    let Some(version) = text(headers, "stripe-version") else {
        if settings.requires_version {
            return Err(Refusal::new(400, None, "This stand-in wants a Stripe-Version on every request."));
        }
        return Ok(settings.api_version.clone());
    };
    let (date, name) = version.split_once('.').map_or((version, None), |(date, name)| (date, Some(name)));
    let is_date = date.len() == 10
        && date.bytes().enumerate().all(|(at, b)| if at == 4 || at == 7 { b == b'-' } else { b.is_ascii_digit() });
    let is_named =
        name.is_none_or(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.'));
    // Versions have had names since acacia.
    if is_date && is_named && (name.is_some() || date < "2024-09-30") {
        return Ok(version.to_owned());
    }
    Err(Refusal::new(400, None, format!("Invalid Stripe API version: {version}")))
}

/// The idempotency key of a write.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    match text(headers, "idempotency-key") {
        Some(key) if key.is_empty() || key.chars().count() > IDEMPOTENCY_KEY_CHARS_MAX => {
            let message = format!("Idempotency keys have 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters.");
            Err(Refusal::new(400, None, message))
        }
        key => Ok(key.map(str::to_owned)),
    }
}

/// The parameters of a request: of the query, or of the form that a write brings.
pub(super) fn params(method: &Method, headers: &HeaderMap, query: &str, body: &[u8]) -> Result<Params, Refusal> {
    if method != Method::POST {
        if !body.is_empty() {
            return Err(Refusal::new(400, None, "A GET request takes no body."));
        }
        return Params::parse(query);
    }
    let kind = text(headers, "content-type").unwrap_or_default();
    if !query.is_empty() || kind.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
        let message = "Invalid request (check that your POST content type is application/x-www-form-urlencoded).";
        return Err(Refusal::new(400, None, message));
    }
    let text = std::str::from_utf8(body).map_err(|_| Refusal::new(400, None, "Invalid UTF-8 in the body"))?;
    Params::parse(text)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
