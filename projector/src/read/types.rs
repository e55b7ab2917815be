//! What readers get: plain structs, as the console and the command line show them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use jiff::Timestamp;
use keyledger_schemas::envelope::Position;
use keyledger_schemas::event::SealedKey;
use keyledger_schemas::ids::{
    AccountId, CaseId, CustomerId, LicenseId, Mode, ProviderName, PurchaseId, Scope, SourceName, SubscriptionId, UnitId,
};
use keyledger_schemas::money::Money;
use serde::Serialize;

/// Rows on a page when the reader does not say.
pub const PAGE_DEFAULT: u32 = 50;

/// Most rows on a page.
pub const PAGE_MAX: u32 = 200;

/// Which rows a reader wants: one mode, of one source or of all. Live and test are never mixed.
#[derive(Clone, Debug, Default)]
pub struct Within {
    /// Live or test. Default live.
    pub mode: Mode,
    /// One source; `None` for all.
    pub source: Option<SourceName>,
}

/// When and how far: what states that depend on the clock are computed with.
#[derive(Clone, Copy, Debug)]
pub struct AsOf {
    /// The time to show.
    pub at: Timestamp,
    /// How far the issuer has come, where known: before a case's last event its cause is `issuer_behind`.
    pub issuer: Option<Position>,
}

impl AsOf {
    /// At this time, with the issuer's position unknown.
    pub fn at(at: Timestamp) -> Self {
        Self { at, issuer: None }
    }
}

/// Which page.
#[derive(Clone, Debug, Default)]
pub struct PageRequest {
    /// Rows, 1 to [`PAGE_MAX`]; 0 means [`PAGE_DEFAULT`], more means [`PAGE_MAX`].
    pub limit: u32,
    /// `next` of the page before.
    pub after: Option<String>,
}

impl PageRequest {
    /// The number of rows, within its bounds.
    pub fn rows(&self) -> u32 {
        match self.limit {
            0 => PAGE_DEFAULT,
            limit => limit.min(PAGE_MAX),
        }
    }
}

/// A page, and where the next one begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// What to ask the next page with; `None` on the last.
    pub next: Option<String>,
}

/// How far the views are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The last position folded.
    pub position: Position,
    /// Open cases, by kind; kinds without one are left out.
    pub cases_open: BTreeMap<String, u64>,
    /// When the oldest open `no_key` case was opened.
    pub oldest_no_key: Option<Timestamp>,
    /// Events that were set aside.
    pub parked: u64,
    /// When each source was last compared with what Stripe holds.
    pub reconciled: Vec<Reconciled>,
}

impl Status {
    /// Open cases of every kind.
    pub fn cases_open_total(&self) -> u64 {
        self.cases_open.values().sum()
    }
}

/// An event that was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parked {
    /// Where it stands in the log.
    pub position: Position,
    /// Its id.
    pub event_id: String,
    /// Its kind.
    pub kind: String,
    /// Why.
    pub reason: String,
}

/// A customer in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Customer {
    /// `cus_…`.
    pub id: CustomerId,
    /// Which source delivered them.
    pub source: SourceName,
    /// The connected account.
    pub account: Option<AccountId>,
    /// Live or test.
    pub mode: Mode,
    /// Their name.
    pub name: Option<String>,
    /// Their address.
    pub email: Option<String>,
    /// When they were deleted at Stripe.
    pub deleted_at: Option<Timestamp>,
    /// The customer's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A customer with what hangs on them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CustomerDetail {
    /// Who.
    #[serde(flatten)]
    pub customer: Customer,
    /// Where else they are known.
    pub cross_links: Vec<CrossLink>,
    /// Who they are at license engines, by engine.
    pub provider_customers: Vec<ProviderCustomer>,
    /// What they bought.
    pub purchases: Vec<Purchase>,
    /// Their subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// Their licenses.
    pub licenses: Vec<License>,
    /// Money, newest first.
    pub payments: Vec<Payment>,
    /// Their cases, open ones first.
    pub cases: Vec<Case>,
}

/// The same thing elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrossLink {
    /// `stripe`, or a license engine.
    pub system: String,
    /// The other system's id.
    pub id: String,
    /// Its page there, where there is one.
    pub url: Option<String>,
}

/// Who a customer of Stripe's is at a license engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderCustomer {
    /// The engine.
    pub provider: ProviderName,
    /// The engine's own id for them.
    pub id: String,
    /// They were made there for this customer, not found.
    pub made: bool,
    /// Another customer of Stripe's is the same one there.
    pub shared: bool,
    /// Those, as far as they are known.
    pub shared_with: Vec<String>,
    /// Since when.
    pub linked_at: Timestamp,
    /// When the engine was last told of a name or an address.
    pub synced_at: Option<Timestamp>,
    /// What it said then, if it did not take them.
    pub refused: Option<String>,
}

/// A price that was paid for and means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnmappedPrice {
    /// Source, account and mode.
    pub scope: Scope,
    /// The price.
    pub price: String,
    /// Stripe's product, where known.
    pub product: Option<String>,
    /// How many lines of it were paid for.
    pub times: u64,
    /// What they came to, by currency.
    pub amounts: Vec<Money>,
    /// When the first was paid.
    pub since: Option<Timestamp>,
    /// Open cases that wait for a mapping of it.
    pub cases_open: u64,
}

/// When the log was last compared with what Stripe holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    /// Which source.
    pub source: SourceName,
    /// Live or test.
    pub mode: Mode,
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

/// What decisions are made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Purchase {
    /// The identity.
    pub id: PurchaseId,
    /// `sub_…`, `in_…` or `cs_…`.
    pub stripe_id: String,
    /// Whose.
    pub customer: Option<CustomerId>,
    /// When it was first heard of.
    pub opened_at: Timestamp,
    /// Its units.
    pub obligations: Vec<Obligation>,
}

/// What one unit is owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obligation {
    /// The unit.
    pub unit: UnitId,
    /// The latest end of its counting periods; `None` for ever, or when none counts.
    pub paid_until: Option<Timestamp>,
    /// Paid for good.
    pub for_ever: bool,
    /// Some counting period is charged.
    pub charged: bool,
    /// What its license should be: `active`, `suspended` or `revoked`.
    pub standing: String,
    /// The kind of its open case, when it is not met.
    pub open: Option<String>,
    /// Why it is open.
    pub cause: Option<String>,
    /// The price, where known.
    pub price: Option<String>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subscription {
    /// `sub_…`.
    pub id: SubscriptionId,
    /// Which source delivered it.
    pub source: SourceName,
    /// The connected account.
    pub account: Option<AccountId>,
    /// Live or test.
    pub mode: Mode,
    /// Stripe's status; `None` while no snapshot was seen.
    pub status: Option<String>,
    /// Whose.
    pub customer: Option<CustomerId>,
    /// What is subscribed to.
    pub items: Vec<SubscriptionItem>,
    /// The latest date that any of its units is paid until; `None` for ever, or when nothing counts.
    pub paid_until: Option<Timestamp>,
    /// Scheduled to be canceled then.
    pub cancel_at: Option<Timestamp>,
    /// Scheduled to be canceled when the period ends.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The end of the trial.
    pub trial_end: Option<Timestamp>,
    /// The subscription's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// One item of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionItem {
    /// `si_…`.
    pub id: String,
    /// The price.
    pub price: Option<String>,
    /// Stripe's product.
    pub product: Option<String>,
    /// How many.
    pub quantity: Option<u64>,
    /// The end of the current period. Not proof of payment.
    pub period_end: Option<Timestamp>,
}

/// A subscription with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionDetail {
    /// The subscription.
    #[serde(flatten)]
    pub subscription: Subscription,
    /// Its units.
    pub obligations: Vec<Obligation>,
    /// Its licenses.
    pub licenses: Vec<License>,
    /// Its money, newest first.
    pub payments: Vec<Payment>,
    /// Its cases, open ones first.
    pub cases: Vec<Case>,
}

/// What a reader sees of a license's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LicenseState {
    /// Paid, and working.
    Active,
    /// No longer paid, still working.
    Grace,
    /// Stopped for now.
    Suspended,
    /// Past its expiry.
    Expired,
    /// Stopped for good.
    Revoked,
}

impl LicenseState {
    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Grace => "grace",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// A license, or a unit whose money was gone before one was made (`revoked`, without key and provider).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct License {
    /// The license.
    pub id: LicenseId,
    /// What it meets.
    pub unit: UnitId,
    /// The unit's 1st, 2nd … license.
    pub generation: u32,
    /// Whose.
    pub customer: Option<CustomerId>,
    /// As of the time asked for.
    pub state: LicenseState,
    /// Why it is suspended or revoked.
    pub reason: Option<String>,
    /// Seats; `None` where no license was made.
    pub seats: Option<u32>,
    /// Feature names.
    pub features: BTreeSet<String>,
    /// Paid until; `None` for ever, or when nothing is paid any more.
    pub paid_until: Option<Timestamp>,
    /// When it stops working; `None` for never, or when nothing is paid any more.
    pub expires_at: Option<Timestamp>,
    /// Sold for good: it never expires.
    pub perpetual: bool,
    /// The engine that holds it.
    pub provider: Option<ProviderName>,
    /// The engine's own id.
    pub provider_id: Option<String>,
    /// Other ids that the engine has for it, by the engine's own words for them.
    pub also: BTreeMap<String, String>,
    /// The engine's product.
    pub product: Option<String>,
    /// `made`, `found`, `adopted`, or `none` where no license was made.
    pub origin: String,
    /// The purchase.
    pub purchase: PurchaseId,
    /// When it was made or adopted.
    pub issued_at: Option<Timestamp>,
    /// The key, sealed. Never serialized: the console masks or reveals it.
    #[serde(skip)]
    pub key: Option<SealedKey>,
}

/// Which licenses. Terms are joined by *and*; none means all.
#[derive(Clone, Debug, Default)]
pub struct LicenseFilter {
    /// Of this subscription.
    pub subscription: Option<String>,
    /// Of this customer.
    pub customer: Option<String>,
    /// Of the purchase that this Checkout session belongs to.
    pub session: Option<String>,
    /// Of the customers and guests that ever showed this address.
    pub email: Option<String>,
    /// With this id at its engine: its own, or another that the engine has for it.
    pub provider_id: Option<String>,
    /// This one.
    pub id: Option<LicenseId>,
    /// Of this unit.
    pub unit: Option<UnitId>,
    /// Of this purchase (`sub_…`, `in_…`, `cs_…`).
    pub purchase: Option<String>,
}

/// Money: an invoice, a session, a charge, a refund or a dispute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Payment {
    /// `invoice`, `session`, `intent`, `charge`, `refund` or `dispute`.
    pub kind: String,
    /// Stripe's id.
    pub id: String,
    /// The purchase it was routed to; `None` while it waits for a link.
    pub purchase: Option<PurchaseId>,
    /// Whose.
    pub customer: Option<CustomerId>,
    /// Stripe's word for where it stands.
    pub status: Option<String>,
    /// How much.
    pub amount: Option<Money>,
    /// The number on the paper.
    pub number: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
}

/// Whether a case needs someone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseStatus {
    /// Someone must look.
    Open,
    /// Its fact changed.
    Closed,
    /// A person closed it with a reason.
    Waived,
}

impl CaseStatus {
    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Waived => "waived",
        }
    }
}

/// Not a status of a case.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not open, closed or waived")]
pub struct BadCaseStatus(String);

impl FromStr for CaseStatus {
    type Err = BadCaseStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            "waived" => Ok(Self::Waived),
            other => Err(BadCaseStatus(other.to_owned())),
        }
    }
}

/// Something that a person must look at, or had to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    /// The case.
    pub id: CaseId,
    /// `no_key`, `not_extended`, `free_without_key`, `surplus_key`, …
    pub kind: String,
    /// Open, closed or waived.
    pub status: CaseStatus,
    /// Source, account and mode.
    pub scope: Scope,
    /// What it is about: a unit, a purchase, or an object.
    pub subject: String,
    /// The purchase.
    pub purchase: Option<PurchaseId>,
    /// The purchase's Stripe id.
    pub stripe_id: Option<String>,
    /// The unit, where it is about one.
    pub unit: Option<UnitId>,
    /// Whose.
    pub customer: Option<CustomerId>,
    /// How much money.
    pub amount: Option<Money>,
    /// Since when.
    pub opened_at: Timestamp,
    /// The event that opened it.
    pub opened_position: Position,
    /// When its fact changed, or it was waived.
    pub closed_at: Option<Timestamp>,
    /// Why.
    pub cause: Option<String>,
    /// The issuer acts on it by itself, and nothing but its next step is missing.
    pub awaits_issuer: bool,
    /// More about why: what the provider said, which price, which status.
    pub detail: Option<String>,
    /// How often a provider was asked.
    pub attempts: u32,
    /// When it is tried again; `None` when it waits for a person.
    pub next_attempt_at: Option<Timestamp>,
    /// Who waived it.
    pub waived_by: Option<String>,
    /// Why it was waived.
    pub waived_reason: Option<String>,
    /// What to do, in plain words.
    pub next: String,
}

/// Every kind of case that these views hold.
pub const CASE_KINDS: [&str; 14] = [
    "no_key",
    "not_extended",
    "free_without_key",
    "surplus_key",
    "unrouted",
    "unknown_status",
    "disputed",
    "mapping_error",
    "no_email",
    "not_adopted",
    "metadata_refused",
    "fetch_refused",
    "body_refused",
    "mirror_diverged",
];

/// Which cases. Terms are joined by *and*; none means all.
#[derive(Clone, Debug, Default)]
pub struct CaseFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// With this status.
    pub status: Option<CaseStatus>,
    /// Of this customer.
    pub customer: Option<String>,
    /// Of this purchase (`sub_…`, `in_…`, `cs_…`).
    pub purchase: Option<String>,
}

/// Which customers. Terms are joined by *and*; none means all.
#[derive(Clone, Debug, Default)]
pub struct CustomerFilter {
    /// That ever showed this address.
    pub email: Option<String>,
    /// Whose name begins like this.
    pub name: Option<String>,
}

/// Which subscriptions. Terms are joined by *and*; none means all.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionFilter {
    /// Of this customer.
    pub customer: Option<String>,
    /// With this status of Stripe's.
    pub status: Option<String>,
}

/// One thing to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// Any id of Stripe's: customer, subscription, item, invoice, line, charge, intent, session, refund, dispute, price, product.
    StripeId(String),
    /// An address, current or former, of a customer or a guest.
    Email(String),
    /// The hash of a normalized key, lower-case hex.
    KeyHash(String),
    /// The last four characters of a key.
    KeyLast4(String),
    /// Any id that a license engine has for a license.
    ProviderId(String),
    /// A license engine's own id for a customer.
    ProviderCustomer(String),
    /// The number on an invoice.
    InvoiceNumber(String),
    /// A license or a case of ours, or an engine's own id.
    Uuid(uuid::Uuid),
    /// The beginning of a customer's name.
    NamePrefix(String),
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Hit {
    /// `customer`, `subscription`, `purchase`, `license`, `case`, `invoice`, `session`, `intent`, `charge`, `refund` or `dispute`.
    pub kind: String,
    /// Its id as the route that shows it takes it.
    pub id: String,
    /// Which source.
    pub source: SourceName,
    /// Live or test.
    pub mode: Mode,
    /// The purchase it belongs to, by its Stripe id.
    pub purchase: Option<String>,
    /// Whose.
    pub customer: Option<String>,
    /// What to show beside the id.
    pub label: Option<String>,
}
