//! Builders for the tests: a purchase as a short list of what was seen.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use keyledger_schemas::event::{
    Action, Event, LicenseIssued, LicenseRequested, LicenseRevoked, LicenseSuspended, LicenseTerms, RevokeReason,
    SuspendReason,
};
use keyledger_schemas::ids::{LicenseId, Mode, PriceId, PurchaseId, Scope, SourceName, UnitId};
use keyledger_schemas::money::Currency;
use keyledger_schemas::settings::DecidingSettings;
use keyledger_schemas::stripe::fact::{
    Change, ChargeSeen, DisputeSeen, InvoiceLine, InvoiceSeen, LineKind, Metadata, PreviousSubscription, PriceRef,
    RefundSeen, Seen, SessionLine, SessionSeen, SubscriptionItem, SubscriptionSeen,
};
use keyledger_schemas::stripe::status::{InvoiceStatus, SessionMode, SessionStatus, SubscriptionStatus};

use super::{Derived, ItemNames, PurchaseRows, derive};
use crate::derive::Catalog;
use crate::facts::{Kind, Node, Object, ObjectFacts, UnitFacts};

/// Day `n` of 2026.
pub fn day(n: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(24 * n)
}

pub fn seen(n: i64) -> Seen {
    Seen { at: day(n), change: Change::Updated, event: format!("evt_{n}").as_str().into() }
}

pub fn eur() -> Currency {
    Currency::new("eur")
}

pub fn price(id: &str) -> PriceRef {
    PriceRef { id: id.into(), product: Some("prod_1".into()), metadata: Metadata::new() }
}

/// A line of item `si_1` at `price_1` for 49.00, from day to day.
pub fn line(from: i64, to: i64) -> InvoiceLine {
    InvoiceLine {
        id: format!("il_{from}").as_str().into(),
        item: Some("si_1".into()),
        price: Some(price("price_1")),
        amount_minor: 4900,
        quantity: Some(1),
        metered: false,
        period_start: Some(day(from)),
        period_end: Some(day(to)),
        proration: false,
        kind: LineKind::Subscription,
    }
}

/// A paid invoice of `sub_1` with these lines, of day `on`.
pub fn paid(id: &str, on: i64, lines: Vec<InvoiceLine>) -> InvoiceSeen {
    let total = lines.iter().map(|line| line.amount_minor).sum();
    InvoiceSeen {
        seen: seen(on),
        id: id.into(),
        subscription: Some("sub_1".into()),
        customer: Some("cus_1".into()),
        customer_email: None,
        customer_name: None,
        status: InvoiceStatus::Paid,
        paid: true,
        paid_at: Some(day(on)),
        created: Some(day(on)),
        total_minor: total,
        amount_paid_minor: total,
        currency: eur(),
        number: None,
        lines,
        lines_truncated: false,
        subscription_metadata: Metadata::new(),
    }
}

/// A snapshot of `sub_1` on day `on` with one `si_1` at `price_1`, in its period from day to day.
pub fn snapshot(on: i64, status: SubscriptionStatus, from: i64, to: i64) -> SubscriptionSeen {
    SubscriptionSeen {
        seen: seen(on),
        id: "sub_1".into(),
        customer: Some("cus_1".into()),
        status,
        items: vec![item("si_1", "price_1", 1, from, to)],
        items_truncated: false,
        metadata: Metadata::new(),
        cancel_at: None,
        cancel_at_period_end: false,
        ended_at: None,
        trial_end: None,
        previous: PreviousSubscription::default(),
    }
}

pub fn item(id: &str, of: &str, quantity: u64, from: i64, to: i64) -> SubscriptionItem {
    SubscriptionItem {
        id: id.into(),
        price: Some(price(of)),
        quantity: Some(quantity),
        metered: false,
        period_start: Some(day(from)),
        period_end: Some(day(to)),
    }
}

/// A session of 49.00, seen on day `on`.
pub fn session(id: &str, on: i64, mode: SessionMode, payment_status: &str) -> SessionSeen {
    SessionSeen {
        seen: seen(on),
        id: id.into(),
        mode,
        status: SessionStatus::Complete,
        payment_status: payment_status.to_owned().into(),
        customer: None,
        customer_email: None,
        customer_name: None,
        client_reference_id: None,
        subscription: None,
        invoice: None,
        payment_intent: None,
        total_minor: 4900,
        currency: Some(eur()),
        metadata: Metadata::new(),
        lines: None,
    }
}

pub fn session_line(of: &str, amount_minor: i64) -> SessionLine {
    SessionLine { id: format!("li_{of}").as_str().into(), price: Some(price(of)), amount_minor, quantity: Some(1) }
}

/// A purchase with what was seen of it.
pub struct Given {
    id: PurchaseId,
    objects: BTreeMap<Node, Object>,
    units: BTreeMap<(String, u32), UnitFacts>,
    names: ItemNames,
    pub catalog: Catalog,
    pub settings: DecidingSettings,
    pub customer_has_email: bool,
}

impl Given {
    fn of(object: &str) -> Self {
        let settings = serde_json::from_value(serde_json::json!({
            "catalog": [{ "product": "pro" }],
            "sources": { "default": { "mode": "live" } },
            "providers": ["builtin"],
        }));
        Self {
            id: PurchaseId::new(Scope::new(SourceName::default(), Mode::Live), object),
            objects: BTreeMap::new(),
            units: BTreeMap::new(),
            names: ItemNames::default(),
            catalog: Catalog::default(),
            settings: settings.unwrap(),
            customer_has_email: false,
        }
    }

    pub fn subscription() -> Self {
        let mut given = Self::of("sub_1");
        given.object(Kind::Subscription, "sub_1", &[]);
        given
    }

    pub fn one_off(object: &str) -> Self {
        Self::of(object)
    }

    fn object(&mut self, kind: Kind, id: &str, parents: &[(Kind, &str)]) -> &mut ObjectFacts {
        let node = Node::new(kind, id);
        let object = self.objects.entry(node.clone()).or_insert_with(|| Object::named(node, 1));
        object.parents.extend(parents.iter().map(|(kind, id)| Node::new(*kind, id)));
        &mut object.facts
    }

    pub fn snapshot(mut self, sight: &SubscriptionSeen) -> Self {
        if let ObjectFacts::Subscription(facts) = self.object(Kind::Subscription, "sub_1", &[]) {
            facts.observe(sight);
        }
        self.learn()
    }

    pub fn invoice(mut self, sight: &InvoiceSeen) -> Self {
        let id = sight.id.to_string();
        if let ObjectFacts::Invoice(facts) = self.object(Kind::Invoice, &id, &[]) {
            facts.observe(sight);
        }
        self.learn()
    }

    pub fn session(mut self, sight: &SessionSeen) -> Self {
        let (id, invoice) = (sight.id.to_string(), sight.invoice.clone());
        if let Some(invoice) = &invoice {
            self.object(Kind::Invoice, invoice.as_str(), &[]);
        }
        let invoice = invoice.as_ref().map(|invoice| (Kind::Invoice, invoice.as_str()));
        if let ObjectFacts::Session(facts) = self.object(Kind::Session, &id, invoice.as_slice()) {
            facts.observe(sight);
        }
        self.learn()
    }

    /// Learns names as the fold does, after everything that is seen.
    fn learn(mut self) -> Self {
        let mut names = self.names.clone();
        names.learn(&self.rows());
        self.names = names;
        self
    }

    /// An intent `pi_1` with a charge `ch_1` that paid an invoice (`in_…`) or session (`cs_…`).
    pub fn charge(mut self, of: &str, refunded_minor: i64) -> Self {
        let kind = if of.starts_with("in_") { Kind::Invoice } else { Kind::Session };
        let (intent, charge) = (format!("pi_{of}"), format!("ch_{of}"));
        self.object(Kind::Intent, &intent, &[(kind, of)]);
        if let ObjectFacts::Charge(facts) = self.object(Kind::Charge, &charge, &[(Kind::Intent, &intent)]) {
            facts.observe(&ChargeSeen {
                seen: seen(1),
                id: charge.as_str().into(),
                customer: None,
                paid: true,
                amount_minor: 4900,
                refunded_minor,
                currency: eur(),
            });
        }
        self
    }

    pub fn refund(mut self, id: &str, of: &str, amount_minor: i64, status: &str) -> Self {
        if let ObjectFacts::Refund(facts) = self.object(Kind::Refund, id, &[(Kind::Charge, &format!("ch_{of}"))]) {
            facts.observe(&RefundSeen {
                seen: seen(2),
                id: id.into(),
                payment: None,
                amount_minor,
                currency: eur(),
                status: status.to_owned().into(),
            });
        }
        self
    }

    pub fn dispute(mut self, id: &str, of: &str, status: &str) -> Self {
        if let ObjectFacts::Dispute(facts) = self.object(Kind::Dispute, id, &[(Kind::Charge, &format!("ch_{of}"))]) {
            facts.observe(&DisputeSeen {
                seen: seen(3),
                id: id.into(),
                payment: None,
                amount_minor: 4900,
                currency: eur(),
                status: status.to_owned().into(),
            });
        }
        self
    }

    pub fn setting(mut self, change: impl FnOnce(&mut DecidingSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// The catalog as it is written in settings.
    pub fn catalog(self, entries: serde_json::Value) -> Self {
        self.setting(|settings| settings.catalog = serde_json::from_value(entries).unwrap())
    }

    pub fn unit_id(&self, item: &str, number: u32) -> UnitId {
        self.id.unit(item, number)
    }

    pub fn license_id(&self, item: &str, number: u32) -> LicenseId {
        self.unit_id(item, number).license(1)
    }

    /// An event of ours about a unit.
    pub fn own(mut self, item: &str, number: u32, event: &Event) -> Self {
        let facts = self.units.entry((item.to_owned(), number)).or_default();
        facts.observe(event, Some("ana"), day(100));
        self
    }

    /// A license made for a unit, paid until then.
    pub fn issued(self, item: &str, number: u32, paid_until: Option<Timestamp>) -> Self {
        let event = Event::LicenseIssued(LicenseIssued {
            unit: self.unit_id(item, number),
            generation: 1,
            license: self.license_id(item, number),
            provider: "builtin".into(),
            provider_id: format!("lic-{item}-{number}"),
            product: "pro".to_owned(),
            key: None,
            terms: LicenseTerms { paid_until, expires_at: paid_until, seats: 1, features: BTreeSet::new() },
            found: false,
            also: [].into(),
        });
        self.own(item, number, &event)
    }

    fn rows(&self) -> PurchaseRows<'_> {
        PurchaseRows {
            id: &self.id,
            objects: self.objects.iter().collect(),
            units: self.units.iter().map(|((item, number), facts)| ((item.as_str(), *number), facts)).collect(),
            names: &self.names,
            catalog: &self.catalog,
            customer_has_email: self.customer_has_email,
        }
    }

    pub fn derive(&self) -> Derived {
        derive(&self.rows(), &self.settings)
    }

    /// Each unit in short: `si_1/1 until day 31 charged active`.
    pub fn units(&self) -> Vec<String> {
        let derived = self.derive();
        let unit = |unit: &super::Unit| {
            let until = match unit.paid_until {
                super::units::PaidUntil::None => "none".to_owned(),
                super::units::PaidUntil::ForEver => "ever".to_owned(),
                super::units::PaidUntil::At(at) => (at.duration_since(day(0)).as_hours() / 24).to_string(),
            };
            let charged = if unit.charged { "charged" } else { "free" };
            format!("{}/{} {until} {charged} {}", unit.item, unit.number, unit.standing.as_str())
        };
        derived.units.iter().map(unit).collect()
    }

    /// Each case in short: `no_key issuing 4900`; `waived` behind it where a person closed it.
    pub fn cases(&self) -> Vec<String> {
        let case = |case: &super::DerivedCase| {
            let amount = case.amount.as_ref().map_or("-".to_owned(), |amount| amount.amount_minor.to_string());
            let waived = if case.waived.is_some() { " waived" } else { "" };
            format!("{} {} {amount}{waived}", case.kind, case.cause.unwrap_or("-"))
        };
        self.derive().cases.iter().map(case).collect()
    }

    /// Each license in short: `si_1/1 active`.
    pub fn licenses(&self) -> Vec<String> {
        let license = |row: &super::LicenseRow| format!("{}/{} {}", row.item, row.number, row.state);
        self.derive().licenses.iter().map(license).collect()
    }

    /// Each license as it is listed: `si_1/1 suspended paused 31 34 2 seats`.
    pub fn listed(&self) -> Vec<String> {
        let days = |at: Option<Timestamp>| {
            at.map_or("-".to_owned(), |at| (at.duration_since(day(0)).as_hours() / 24).to_string())
        };
        let license = |row: &super::LicenseRow| {
            let (terms, reason) = (&row.terms, row.reason.unwrap_or("-"));
            let seats = terms.seats.map_or("no".to_owned(), |seats| seats.to_string());
            let ever = if terms.perpetual { " for ever" } else { "" };
            let (paid_until, expires_at) = (days(terms.paid_until), days(terms.expires_at));
            format!("{}/{} {} {reason} {paid_until} {expires_at} {seats} seats{ever}", row.item, row.number, row.state)
        };
        self.derive().licenses.iter().map(license).collect()
    }

    /// A request for a unit with the mapping that it has now, as the issuer records it before it calls.
    pub fn requested(self, item: &str, number: u32, action: Action) -> Self {
        let derived = self.derive();
        let unit = derived.units.iter().find(|unit| unit.item == item && unit.number == number).unwrap();
        let request = Event::LicenseRequested(LicenseRequested {
            unit: self.unit_id(item, number),
            generation: 1,
            license: self.license_id(item, number),
            attempt: 1,
            action,
            terms: LicenseTerms { paid_until: None, expires_at: None, seats: 1, features: BTreeSet::new() },
            mapping: unit.mapping.clone().unwrap(),
            named: None,
            wait_until: day(0),
        });
        self.own(item, number, &request)
    }

    pub fn suspended(self, item: &str, number: u32, reason: SuspendReason) -> Self {
        let (unit, license) = (self.unit_id(item, number), self.license_id(item, number));
        self.own(item, number, &Event::LicenseSuspended(LicenseSuspended { unit, license, reason }))
    }

    pub fn revoked(self, item: &str, number: u32, reason: RevokeReason) -> Self {
        let (unit, license) = (self.unit_id(item, number), self.license_id(item, number));
        self.own(item, number, &Event::LicenseRevoked(LicenseRevoked { unit, license, reason }))
    }

    /// Details of the cases of a kind.
    pub fn details(&self, kind: &str) -> Vec<String> {
        let derived = self.derive();
        let of_kind = derived.cases.iter().filter(|case| case.kind == kind);
        of_kind.map(|case| case.detail.clone().unwrap_or_default()).collect()
    }

    /// The price of a unit's mapping.
    pub fn mapped_price(&self, item: &str) -> Option<PriceId> {
        let derived = self.derive();
        derived.units.iter().find(|unit| unit.item == item)?.mapping.clone()?.price
    }
}
