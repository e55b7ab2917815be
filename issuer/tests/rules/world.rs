//! An issuer with one scripted engine, fed with Stripe bodies, and what came of it in short lines of text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use keyledger_eventlog::log::Append;
use keyledger_issuer::Engines;
use keyledger_issuer::provider::{Capabilities, Provider};
use keyledger_issuer::purchase::Purchase;
use keyledger_issuer::purchase::desired::{self, Context};
use keyledger_issuer::purchase::state::{License, Standing};
use keyledger_issuer::store::{self, WorkingSet};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::event::{
    Action, AttachRequested, Event, ExtendRequested, LicenseRequested, LicenseTerms, ObligationWaived,
    ReinstateRequested, ReissueRequested, RetryRequested, RevokeRequested, SETTINGS_STREAM, SettingsChanged,
    SuspendRequested,
};
use keyledger_schemas::ids::{ProviderName, PurchaseId, UnitId};
use keyledger_schemas::settings::{CatalogEntry, DecidingSettings, Policy};
use serde_json::{Value, json};

use crate::engine::{ABLE, Engine};
use crate::stripe::at;
use crate::support::{Bench, own_event, settings};

/// The world of one test.
pub struct World {
    pub bench: Bench,
    pub engine: Engine,
    settings: DecidingSettings,
}

/// A catalog entry, written like in the settings file.
pub fn entry(fields: Value) -> CatalogEntry {
    serde_json::from_value(fields).unwrap()
}

/// Everything is `pro` at the scripted engine.
pub fn everything() -> Vec<CatalogEntry> {
    vec![entry(json!({ "provider": "stub", "product": "pro" }))]
}

/// A policy that differs from the default where written.
pub fn policy(fields: Value) -> Policy {
    serde_json::from_value(fields).unwrap()
}

impl World {
    /// The default policy, a default entry, an engine that can do everything; 2026-10-02.
    pub async fn new() -> Self {
        Self::with(everything()).await
    }

    /// With this catalog.
    pub async fn with(catalog: Vec<CatalogEntry>) -> Self {
        Self::of(Policy::default(), catalog, ABLE).await
    }

    /// With this policy.
    pub async fn under(fields: Value) -> Self {
        Self::of(policy(fields), everything(), ABLE).await
    }

    /// With an engine that can do this.
    pub async fn at_engine(capabilities: Capabilities) -> Self {
        Self::of(Policy::default(), everything(), capabilities).await
    }

    pub async fn of(policy: Policy, catalog: Vec<CatalogEntry>, capabilities: Capabilities) -> Self {
        let engine = Engine::new("stub", capabilities);
        let settings = settings(policy, catalog);
        let engines: Vec<Arc<dyn Provider>> = vec![Arc::new(engine.clone())];
        let bench = Bench::on(engines, settings.clone()).await;
        engine.lags_on(&bench.clock);
        bench.clock.set(at("2026-10-02"));
        Self { bench, engine, settings }
    }

    /// Moves the clock there, and lets what falls due by then be done.
    pub async fn on(&mut self, day: &str) -> &mut Self {
        self.bench.clock.set(at(day));
        self.settle().await;
        self
    }

    /// Stripe delivers this, each by itself.
    pub async fn sees(&mut self, bodies: impl IntoIterator<Item = Vec<u8>>) -> &mut Self {
        for body in bodies {
            self.bench.feed(&[body]).await;
        }
        self
    }

    /// Stripe delivers all of this before anything is decided.
    pub async fn sees_at_once(&mut self, bodies: impl IntoIterator<Item = Vec<u8>>) -> &mut Self {
        self.bench.feed(&bodies.into_iter().collect::<Vec<_>>()).await;
        self
    }

    /// Works until there is nothing to do now.
    pub async fn settle(&mut self) {
        self.bench.issuer.run_until_idle().await.unwrap();
    }

    /// Time passes in steps of retries, until the last delay has run out.
    pub async fn patience(&mut self) {
        for minutes in [1, 5, 15, 45, 75] {
            self.bench.clock.advance(Duration::from_mins(minutes));
            self.settle().await;
        }
    }

    /// The settings are changed and recorded.
    pub async fn configured(&mut self, change: impl FnOnce(&mut DecidingSettings)) {
        change(&mut self.settings);
        self.bench.clock.advance(Duration::from_secs(1));
        let changed = Event::SettingsChanged(SettingsChanged { settings: self.settings.clone() });
        self.record(&changed, SETTINGS_STREAM).await;
    }

    /// A person does something about a unit, written `sub_1/si_pro/1`.
    pub async fn retries(&mut self, unit: &str) {
        self.operator(Event::RetryRequested(RetryRequested { unit: unit_id(unit) }), unit).await;
    }

    pub async fn revokes(&mut self, unit: &str) {
        let reason = "asked to".to_owned();
        self.operator(Event::RevokeRequested(RevokeRequested { unit: unit_id(unit), reason }), unit).await;
    }

    pub async fn waives(&mut self, unit: &str, through: Option<&str>) {
        let (unit_id, through, reason) = (unit_id(unit), through.map(at), "asked to".to_owned());
        self.operator(Event::ObligationWaived(ObligationWaived { unit: unit_id, through, reason }), unit).await;
    }

    pub async fn suspends(&mut self, unit: &str) {
        let reason = "asked to".to_owned();
        self.operator(Event::SuspendRequested(SuspendRequested { unit: unit_id(unit), reason }), unit).await;
    }

    pub async fn reinstates(&mut self, unit: &str) {
        let reason = "asked to".to_owned();
        self.operator(Event::ReinstateRequested(ReinstateRequested { unit: unit_id(unit), reason }), unit).await;
    }

    pub async fn extends(&mut self, unit: &str, until: &str) {
        let (unit_id, until, reason) = (unit_id(unit), at(until), "asked to".to_owned());
        self.operator(Event::ExtendRequested(ExtendRequested { unit: unit_id, until, reason }), unit).await;
    }

    /// The unit's license of this generation is to be replaced.
    pub async fn reissues(&mut self, unit: &str, generation: u32) {
        let (unit_id, reason) = (unit_id(unit), "asked to".to_owned());
        let license = unit_id.license(generation);
        self.operator(Event::ReissueRequested(ReissueRequested { unit: unit_id, license, reason }), unit).await;
    }

    pub async fn attaches(&mut self, unit: &str, provider: &str, provider_id: &str) {
        let attached = AttachRequested {
            unit: unit_id(unit),
            provider: ProviderName::from(provider),
            provider_id: provider_id.to_owned(),
            reason: "asked to".to_owned(),
        };
        self.operator(Event::AttachRequested(attached), unit).await;
    }

    /// An issuer announces the adoption of a license for a price that is not mapped to its engine, and dies.
    pub async fn dies_adopting(&mut self, unit: &str, provider: &str, named: &str, attempt: u32) {
        let requested = LicenseRequested {
            unit: unit_id(unit),
            generation: 1,
            license: unit_id(unit).license(1),
            attempt,
            action: Action::Adopt,
            terms: LicenseTerms { paid_until: None, expires_at: None, seats: 1, features: [].into() },
            mapping: desired::fallback(&ProviderName::from(provider)),
            named: Some(named.to_owned()),
            wait_until: self.bench.clock.now() + Duration::from_secs(30),
        };
        self.operator(Event::LicenseRequested(requested), unit).await;
    }

    async fn operator(&mut self, event: Event, unit: &str) {
        self.bench.clock.advance(Duration::from_secs(1));
        let stream = unit_id(unit).purchase.stream();
        self.record(&event, stream.as_str()).await;
    }

    async fn record(&mut self, event: &Event, stream: &str) {
        let event = own_event(event, stream, self.bench.clock.now());
        self.bench.log.append(Append::events(vec![event])).await.unwrap();
        self.settle().await;
    }

    /// The licenses by our own state, e.g. `si_pro/1 active 1x until 2026-11-01, expires 2026-11-04`. Generations from
    /// the second are marked `#2`, engines and products only where they are not `stub` and `pro`.
    pub async fn licenses(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for purchase in self.bench.purchases().await.values() {
            for (item, units) in &purchase.units {
                for (number, unit) in units {
                    let licenses = unit.licenses.iter();
                    lines.extend(licenses.map(|(made, license)| license_line(item, *number, *made, license)));
                }
            }
        }
        lines
    }

    /// The licenses as the engine holds them, e.g. `active 1x, expires 2026-11-04`.
    pub fn held(&self) -> Vec<String> {
        let line = |made: crate::engine::Made| {
            format!("{} {}x, expires {}", made.state, made.terms.seats, day(made.terms.expires_at))
        };
        self.engine.licenses().into_iter().map(line).collect()
    }

    /// Open obligations, e.g. `no_key sub_1/si_pro/1`.
    pub async fn open(&self) -> Vec<String> {
        let open = self.bench.open().await;
        open.iter()
            .map(|open| format!("{} {}", open.kind.as_str(), open.subject.replace("default:-:live:", "")))
            .collect()
    }

    /// Every unit and whether its license should work, e.g. `si_pro/1 revoked`.
    pub async fn standings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for purchase in self.bench.purchases().await.values() {
            let context = self.context(purchase).await;
            for (desired, _) in desired::units(purchase, &context) {
                let standing = standing(desired.standing).split(' ').next().unwrap().to_owned();
                lines.push(format!("{}/{} {standing}", desired.unit.item, desired.unit.number));
            }
        }
        lines
    }

    async fn context(&self, purchase: &Purchase) -> Context {
        let engines = Engines::new(self.bench.engines.clone());
        WorkingSet::new(self.bench.log.clone()).context_of(purchase, self.settings.clone(), &engines).await.unwrap()
    }

    /// A second engine beside the scripted one, and the settings that say so.
    pub async fn joined_by(&mut self, engine: &Engine) {
        self.bench.engines.push(Arc::new(engine.clone()));
        self.bench.restart().await;
        let name = engine.name().clone();
        self.configured(|settings| settings.providers.extend([name])).await;
    }

    /// Our events of this kind, in order.
    pub async fn events(&self, kind: &str) -> Vec<Recorded> {
        let events = self.bench.log.read_after(0, 100_000).await.unwrap();
        events.into_iter().filter(|event| event.kind == kind).collect()
    }

    /// The same events' data.
    pub async fn data(&self, kind: &str) -> Vec<Value> {
        self.events(kind).await.iter().map(|event| serde_json::from_slice(&event.data).unwrap()).collect()
    }

    /// Of all our events so far, those of licenses and obligations, in order.
    pub async fn story(&self) -> Vec<String> {
        let mut kinds = self.bench.own_kinds().await;
        kinds.retain(|kind| kind.starts_with("license.") || kind.starts_with("obligation."));
        kinds
    }

    /// When each purchase wants attention next.
    pub async fn due(&self) -> BTreeMap<String, Option<Timestamp>> {
        let rows = self.bench.log.state_scan(store::PURCHASES, "", "", 1000).await.unwrap();
        rows.into_iter().map(|row| (row.key.replace("default:-:live:", ""), row.due_at)).collect()
    }
}

/// `sub_1/si_pro/1` in the default source, live.
pub fn unit_id(unit: &str) -> UnitId {
    format!("default:-:live:{unit}").parse().unwrap()
}

/// `sub_1` in the default source, live.
pub fn purchase_id(object: &str) -> PurchaseId {
    format!("default:-:live:{object}").parse().unwrap()
}

fn license_line(item: &str, number: u32, generation: u32, license: &License) -> String {
    let generation = if generation == 1 { String::new() } else { format!("#{generation}") };
    let place = match (license.provider.as_str(), license.product.as_str()) {
        ("stub", "pro") => String::new(),
        (provider, product) => format!(" at {provider}/{product}"),
    };
    let terms = &license.terms;
    let features = terms.features.iter().map(|feature| format!(" +{feature}")).collect::<Vec<_>>().concat();
    format!(
        "{item}/{number}{generation} {} {}x{features} until {}, expires {}{place}",
        standing(license.standing),
        terms.seats,
        day(terms.paid_until),
        day(terms.expires_at),
    )
}

fn standing(standing: Standing) -> String {
    match standing {
        Standing::Active => "active".to_owned(),
        Standing::Suspended(reason) => format!("suspended ({reason:?})"),
        Standing::Revoked(reason) => format!("revoked ({reason:?})"),
    }
}

fn day(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| at.strftime("%F").to_string())
}
