//! How far each part has come, and what a search found.

use jiff::Timestamp;
use keyledger_projector::read;
use keyledger_schemas::ids::Mode;
use serde::Serialize;
use utoipa::ToSchema;

/// How far each part has come. Caught up: all positions are equal and `due_now` is 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Status {
    /// The log.
    pub log: LogStatus,
    /// The log's mirror on JetStream; null without one.
    pub mirror: Option<LogStatus>,
    /// The issuer.
    pub issuer: IssuerStatus,
    /// The projector.
    pub projector: ProjectorStatus,
    /// How many cases are open in the mode and source asked about.
    pub cases_open: u64,
    /// When each source was last compared with what Stripe holds, in the mode and source asked about.
    pub reconciled: Vec<Reconciled>,
}

/// When the log was last compared with what Stripe holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Reconciled {
    /// The source.
    pub source: String,
    /// `live` or `test`.
    pub mode: String,
    /// When.
    pub at: Timestamp,
    /// From when on Stripe was asked.
    pub since: Timestamp,
    /// Stripe events looked at.
    pub events_seen: u64,
    /// Of these, so many were missing.
    pub events_appended: u64,
    /// Objects looked at beside.
    pub objects_seen: u64,
    /// Of these, so many said something new.
    pub objects_appended: u64,
}

impl From<read::Reconciled> for Reconciled {
    fn from(row: read::Reconciled) -> Self {
        Self {
            source: row.source.to_string(),
            mode: row.mode.to_string(),
            at: row.at,
            since: row.since,
            events_seen: row.events_seen,
            events_appended: row.events_appended,
            objects_seen: row.objects_seen,
            objects_appended: row.objects_appended,
        }
    }
}

/// The end of the log, or of its mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogStatus {
    /// The last position.
    pub position: u64,
}

/// How far the issuer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IssuerStatus {
    /// The last position it has read.
    pub position: u64,
    /// Purchases that want its attention now.
    pub due_now: u64,
}

/// How far the views are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProjectorStatus {
    /// The last position that the views show.
    pub position: u64,
    /// Events that could not be read and were set aside.
    pub parked: u64,
}

/// What a search found, grouped, with how it was understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SearchResults {
    /// What the text was taken for, the most exact first: `customer`, `license key`, `query`, …
    pub meaning: Vec<String>,
    /// The one thing that an exact id, key or invoice number named: go straight there.
    pub exact: Option<Found>,
    /// What was found, by kind.
    pub groups: Vec<FoundGroup>,
    /// More was found than is shown.
    pub more: bool,
}

/// Things of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FoundGroup {
    /// `license`, `customer`, `subscription`, `purchase`, `case`, `invoice`, `charge`, `event`, …
    pub kind: String,
    /// How many.
    pub count: usize,
    /// The things.
    pub hits: Vec<Found>,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Found {
    /// `license`, `customer`, `subscription`, `purchase`, `case`, `invoice`, `charge`, `event`, …
    pub kind: String,
    /// Its id as its route takes it.
    pub id: String,
    /// The route that shows it: its own, or that of what it belongs to.
    pub url: Option<String>,
    /// The source it came from.
    pub source: String,
    /// `live` or `test`.
    pub mode: String,
    /// The Stripe id of the purchase it belongs to.
    pub purchase: Option<String>,
    /// The Stripe customer.
    pub customer: Option<String>,
    /// What to show beside the id.
    pub label: Option<String>,
    /// Where a case stands: `open`, `closed` or `waived`. Null for everything else.
    pub status: Option<String>,
}

impl Found {
    /// The route that shows a thing, where it has one.
    pub fn url_of(kind: &str, id: &str, mode: Mode) -> Option<String> {
        let route = match kind {
            "customer" => "customers",
            "subscription" => "subscriptions",
            "license" => "licenses",
            "case" => "cases",
            "event" => "events",
            _ => return None,
        };
        let query = if mode == Mode::Test { "?mode=test" } else { "" };
        Some(format!("/api/v1/{route}/{id}{query}"))
    }
}

impl From<read::Hit> for Found {
    fn from(hit: read::Hit) -> Self {
        // Money has no page of its own; it is shown with what it paid for, or with whoever paid.
        let of = |kind: &str, id: Option<&String>| id.and_then(|id| Self::url_of(kind, id, hit.mode));
        let subscription = hit.purchase.as_ref().filter(|purchase| purchase.starts_with("sub_"));
        let url = of(&hit.kind, Some(&hit.id)).or_else(|| of("subscription", subscription));
        Self {
            url: url.or_else(|| of("customer", hit.customer.as_ref())),
            kind: hit.kind,
            id: hit.id,
            source: hit.source.to_string(),
            mode: hit.mode.to_string(),
            purchase: hit.purchase,
            customer: hit.customer,
            label: hit.label,
            status: None,
        }
    }
}

impl From<read::Customer> for Found {
    fn from(customer: read::Customer) -> Self {
        let id = customer.id.to_string();
        Self {
            kind: "customer".to_owned(),
            url: Self::url_of("customer", &id, customer.mode),
            source: customer.source.to_string(),
            mode: customer.mode.to_string(),
            purchase: None,
            customer: Some(id.clone()),
            label: customer.name,
            status: None,
            id,
        }
    }
}

impl From<read::Subscription> for Found {
    fn from(subscription: read::Subscription) -> Self {
        let id = subscription.id.to_string();
        Self {
            kind: "subscription".to_owned(),
            url: Self::url_of("subscription", &id, subscription.mode),
            source: subscription.source.to_string(),
            mode: subscription.mode.to_string(),
            purchase: Some(id.clone()),
            customer: subscription.customer.map(|customer| customer.to_string()),
            label: subscription.status,
            status: None,
            id,
        }
    }
}

impl From<read::License> for Found {
    fn from(license: read::License) -> Self {
        let id = license.id.to_string();
        let scope = license.purchase.scope;
        Self {
            kind: "license".to_owned(),
            url: Self::url_of("license", &id, scope.mode),
            id,
            source: scope.source.to_string(),
            mode: scope.mode.to_string(),
            purchase: Some(license.purchase.object),
            customer: license.customer.map(|customer| customer.to_string()),
            label: Some(license.state.as_str().to_owned()),
            status: None,
        }
    }
}

impl From<read::Case> for Found {
    fn from(case: read::Case) -> Self {
        let id = case.id.to_string();
        Self {
            kind: "case".to_owned(),
            url: Self::url_of("case", &id, case.scope.mode),
            id,
            source: case.scope.source.to_string(),
            mode: case.scope.mode.to_string(),
            purchase: case.stripe_id,
            customer: case.customer.map(|customer| customer.to_string()),
            label: Some(case.kind),
            status: Some(case.status.as_str().to_owned()),
        }
    }
}
