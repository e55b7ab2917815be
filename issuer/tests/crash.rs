//! Killed at any await: for every n, the issuer dies at its n-th append or call, and another one goes on.
//!
//! Each operation can die twice: before it is done, and after it is done but before anybody heard of it. The engine does not
//! notice that two creates carry one reference, so a second create is a second license.

#[cfg(test)]
#[path = "rules/engine.rs"]
#[expect(dead_code, reason = "shared with tests that need other parts of it")]
mod engine;
#[cfg(test)]
#[path = "rules/stripe.rs"]
#[expect(dead_code, reason = "shared with tests that need other parts of it")]
mod stripe;
#[cfg(test)]
#[path = "support/mod.rs"]
#[expect(dead_code, reason = "shared with tests that need other parts of it")]
mod support;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use async_trait::async_trait;
    use jiff::Timestamp;
    use keyledger_engine::keys::DeploymentKeys;
    use keyledger_eventlog::log::{Append, AppendError, EventLog, Head, LogError, Placed, RestoreError};
    use keyledger_eventlog::memory::MemoryLog;
    use keyledger_eventlog::state::{StateRow, StateStore};
    use keyledger_eventlog::tail::SqlTail;
    use keyledger_issuer::balance::open_obligations;
    use keyledger_issuer::customer::{CUSTOMERS, CustomerRow};
    use keyledger_issuer::provider::{
        Adopt, Capabilities, Change, Create, Customer, Held, Person, Provider, ProviderError, Sale, Target,
    };
    use keyledger_issuer::purchase::Purchase;
    use keyledger_issuer::{Engines, Issuer, Options, Parts, store};
    use keyledger_schemas::clock::{Clock, ManualClock};
    use keyledger_schemas::envelope::{Position, Recorded, Version};
    use keyledger_schemas::event::{AttachRequested, Event, SETTINGS_STREAM, SettingsChanged};
    use keyledger_schemas::ids::{EventId, ProviderName, StreamId, UnitId};
    use keyledger_schemas::settings::{CatalogEntry, Policy};
    use serde_json::json;
    use tokio::sync::{Notify, watch};
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    use crate::engine::{ABLE, Engine, Made};
    use crate::stripe::{And, NOV, OCT, at, dispute, invoice_paid, item, line, payment_of, refund, seen, session, sub};
    use crate::support::{own_event, settings, stripe_event};

    /// Where a process dies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Dies {
        /// The operation was about to begin.
        Before,
        /// The operation is done, and nobody has heard of it.
        After,
    }

    /// Counts operations, and lets one of them be the last.
    struct Doom {
        done: AtomicUsize,
        last: Option<(usize, Dies)>,
        died: Notify,
    }

    impl Doom {
        fn new(last: Option<(usize, Dies)>) -> Arc<Self> {
            Arc::new(Self { done: AtomicUsize::new(0), last, died: Notify::new() })
        }

        async fn around<T>(&self, operation: impl Future<Output = T>) -> T {
            let number = self.done.fetch_add(1, Ordering::SeqCst);
            match self.last {
                Some((last, Dies::Before)) if number >= last => {}
                Some((last, Dies::After)) if number >= last => {
                    operation.await;
                }
                _ => return operation.await,
            }
            self.died.notify_one();
            std::future::pending().await
        }
    }

    /// The log, as a process sees it that is about to die.
    struct DoomedLog {
        inner: MemoryLog,
        doom: Arc<Doom>,
    }

    #[async_trait]
    impl EventLog for DoomedLog {
        fn log_id(&self) -> Uuid {
            self.inner.log_id()
        }

        async fn append(&self, append: Append) -> Result<Vec<Placed>, AppendError> {
            self.doom.around(self.inner.append(append)).await
        }

        async fn restore(&self, events: &[Recorded]) -> Result<Head, RestoreError> {
            self.inner.restore(events).await
        }

        async fn read_after(&self, after: Position, limit: usize) -> Result<Vec<Recorded>, LogError> {
            self.inner.read_after(after, limit).await
        }

        async fn read_stream(
            &self,
            stream: &StreamId,
            after: Version,
            limit: usize,
        ) -> Result<Vec<Recorded>, LogError> {
            self.inner.read_stream(stream, after, limit).await
        }

        async fn find(&self, id: &EventId) -> Result<Option<Recorded>, LogError> {
            self.inner.find(id).await
        }

        async fn head(&self) -> Result<Head, LogError> {
            self.inner.head().await
        }

        fn wake(&self) -> watch::Receiver<Position> {
            self.inner.wake()
        }

        async fn close(&self) {
            self.inner.close().await;
        }
    }

    #[async_trait]
    impl StateStore for DoomedLog {
        async fn state(&self, namespace: &str, key: &str) -> Result<Option<StateRow>, LogError> {
            self.inner.state(namespace, key).await
        }

        async fn state_scan(
            &self,
            namespace: &str,
            prefix: &str,
            after: &str,
            limit: usize,
        ) -> Result<Vec<StateRow>, LogError> {
            self.inner.state_scan(namespace, prefix, after, limit).await
        }

        async fn state_due(&self, namespace: &str, now: Timestamp, limit: usize) -> Result<Vec<StateRow>, LogError> {
            self.inner.state_due(namespace, now, limit).await
        }

        async fn state_due_count(&self, namespace: &str, now: Timestamp) -> Result<u64, LogError> {
            self.inner.state_due_count(namespace, now).await
        }

        async fn state_next_due(&self, namespace: &str) -> Result<Option<Timestamp>, LogError> {
            self.inner.state_next_due(namespace).await
        }
    }

    /// The engine, as a process sees it that is about to die. The engine itself lives on.
    struct DoomedEngine {
        inner: Engine,
        doom: Arc<Doom>,
    }

    #[async_trait]
    impl Provider for DoomedEngine {
        fn name(&self) -> &ProviderName {
            self.inner.name()
        }

        fn capabilities(&self) -> Capabilities {
            self.inner.capabilities()
        }

        async fn find(&self, reference: &str, product: &str) -> Result<Vec<Held>, ProviderError> {
            self.doom.around(self.inner.find(reference, product)).await
        }

        async fn find_unclaimed(&self, sale: &Sale, product: &str) -> Result<Vec<Held>, ProviderError> {
            self.doom.around(self.inner.find_unclaimed(sale, product)).await
        }

        async fn customer(&self, person: &Person) -> Result<Customer, ProviderError> {
            self.doom.around(self.inner.customer(person)).await
        }

        async fn adopt(&self, request: &Adopt) -> Result<Held, ProviderError> {
            self.doom.around(self.inner.adopt(request)).await
        }

        async fn create(&self, request: &Create) -> Result<Held, ProviderError> {
            self.doom.around(self.inner.create(request)).await
        }

        async fn change(&self, target: &Target, change: &Change) -> Result<(), ProviderError> {
            self.doom.around(self.inner.change(target, change)).await
        }
    }

    /// A log and an engine that outlive every process.
    struct World {
        clock: Arc<ManualClock>,
        log: MemoryLog,
        engine: Engine,
    }

    /// One process of the issuer.
    struct Process {
        issuer: Issuer,
        doom: Arc<Doom>,
    }

    impl World {
        async fn new(settle: Duration) -> Self {
            let clock = Arc::new(ManualClock::at(at("2026-10-02")));
            let log = MemoryLog::new(clock.clone());
            let engine = Engine::new("stub", Capabilities { settle, keeps_customers: true, ..ABLE });
            engine.lags_on(&clock);
            engine.left("lic_of_another_integration", "pro", "sub_3");
            engine.left("lic_by_hand", "pro", "");
            let changed = Event::SettingsChanged(SettingsChanged { settings: settings(Policy::default(), catalog()) });
            log.append(Append::events(vec![own_event(&changed, SETTINGS_STREAM, at("2026-10-01"))])).await.unwrap();
            Self { clock, log, engine }
        }

        /// A process that dies where `last` says. It takes the lease without dying.
        async fn process(&self, last: Option<(usize, Dies)>) -> Process {
            let doom = Doom::new(last);
            let engines: Vec<Arc<dyn Provider>> =
                vec![Arc::new(DoomedEngine { inner: self.engine.clone(), doom: doom.clone() })];
            let log: Arc<dyn EventLog> = Arc::new(DoomedLog { inner: self.log.clone(), doom: doom.clone() });
            let parts = Parts {
                tail: Arc::new(SqlTail::new(log.clone())),
                log,
                clock: self.clock.clone(),
                engines: Engines::new(engines),
                keys: Arc::new(DeploymentKeys::from_bytes(&[1; 32], &[2; 32], &[3; 32])),
                holder: "the issuer".to_owned(),
                options: Options::default(),
            };
            let started = async { Issuer::start(parts, &CancellationToken::new()).await.unwrap().unwrap() };
            // Dying while it takes the lease is dying, too; the next process takes it.
            let issuer = tokio::select! {
                issuer = started => issuer,
                () = doom.died.notified() => return Box::pin(self.process(None)).await,
            };
            Process { issuer, doom }
        }

        async fn append(&self, bodies: &[Vec<u8>]) {
            let events = bodies.iter().map(|body| stripe_event(body)).collect();
            self.log.append(Append::events(events)).await.unwrap();
        }

        /// Every purchase, without what tells how it came about: how many events and calls that took.
        async fn purchases(&self) -> BTreeMap<String, Purchase> {
            let rows = self.log.state_scan(store::PURCHASES, "", "", 1000).await.unwrap();
            let purchases = rows.iter().map(|row| store::decode::<Purchase>(row).unwrap());
            let plain = |mut purchase: Purchase| {
                purchase.version = 0;
                purchase.consumed = 0;
                for unit in purchase.units.values_mut().flat_map(BTreeMap::values_mut) {
                    unit.attempts = 0;
                }
                purchase
            };
            purchases.map(plain).map(|purchase| (purchase.id.object.clone(), purchase)).collect()
        }

        /// A person attaches a license made by hand in place of the one that the unit has.
        async fn attach(&self) {
            let unit: UnitId = "default:-:live:sub_2/si_many/1".parse().unwrap();
            let stream = unit.purchase.stream();
            let (provider, provider_id, reason) = ("stub".into(), "lic_by_hand".to_owned(), "asked to".to_owned());
            let attach = Event::AttachRequested(AttachRequested { unit, provider, provider_id, reason });
            let event = own_event(&attach, stream.as_str(), self.clock.now());
            self.log.append(Append::events(vec![event])).await.unwrap();
        }

        /// Who is recorded to be known at the engine, by Stripe's id and the engine's.
        async fn linked(&self) -> BTreeSet<(String, String)> {
            let rows = self.log.state_scan(CUSTOMERS, "", "", 1000).await.unwrap();
            let of = |row: &StateRow| {
                let linked = store::decode::<CustomerRow>(row).unwrap().linked;
                let customer = row.key.rsplit(':').next().unwrap().to_owned();
                linked.into_values().map(move |linked| (customer.clone(), linked.id))
            };
            rows.iter().flat_map(of).collect()
        }

        async fn open(&self) -> usize {
            let log: Arc<dyn EventLog> = Arc::new(self.log.clone());
            let engines: Vec<Arc<dyn Provider>> = vec![Arc::new(self.engine.clone())];
            open_obligations(&log, &Engines::new(engines)).await.unwrap().len()
        }
    }

    fn catalog() -> Vec<CatalogEntry> {
        let entry = |fields| serde_json::from_value::<CatalogEntry>(fields).unwrap();
        vec![
            entry(json!({ "price": "price_max", "provider": "stub", "product": "max" })),
            entry(json!({ "price": "price_many", "provider": "stub", "product": "pro", "units": "quantity" })),
            entry(json!({ "provider": "stub", "product": "pro" })),
        ]
    }

    /// A life: sales, a renewal, a dispute, a refund, seats, another plan.
    fn chapters() -> Vec<Vec<Vec<u8>>> {
        let many = |quantity: u64| {
            let body =
                seen("customer.subscription.updated", "2026-10-04", sub("active", &[item("many", quantity, OCT)]));
            renamed(body, "sub_2")
        };
        let price = json!({ "id": "price_max", "product": "prod_max" });
        let moved = sub("active", &[item("pro", 1, NOV).and(json!({ "price": price }))]);
        vec![
            vec![
                invoice_paid("in_1", "2026-10-01", &[line("pro", 1, 4900, OCT)]),
                payment_of("in_1", "pi_1", "2026-10-01"),
                renamed(invoice_paid("in_2", "2026-10-01", &[line("many", 2, 900, OCT)]), "sub_2"),
                bought_by("cus_3", renamed(invoice_paid("in_9", "2026-10-01", &[line("pro", 1, 4900, OCT)]), "sub_3")),
            ],
            vec![
                many(1),
                seen(
                    "checkout.session.completed",
                    "2026-10-05",
                    session("payment", "paid", 4900).and(json!({ "payment_intent": "pi_3" })),
                ),
                dispute("dp_1", "pi_1", 4900, "needs_response", "2026-10-06"),
            ],
            vec![
                dispute("dp_1", "pi_1", 4900, "won", "2026-10-08"),
                refund("re_1", "pi_3", 4900, "succeeded", "2026-10-08"),
                many(3),
            ],
            vec![
                invoice_paid("in_3", "2026-11-01", &[line("pro", 1, 4900, NOV)]),
                seen("customer.subscription.updated", "2026-11-02", moved),
            ],
        ]
    }

    fn renamed(body: Vec<u8>, subscription: &str) -> Vec<u8> {
        String::from_utf8(body).unwrap().replace("sub_1", subscription).into_bytes()
    }

    fn bought_by(customer: &str, body: Vec<u8>) -> Vec<u8> {
        String::from_utf8(body).unwrap().replace("cus_1", customer).into_bytes()
    }

    /// Works until idle, and later until nothing is waited for any more. `false` if the process died first.
    async fn work(world: &World, process: &mut Process) -> bool {
        for _ in 0..60 {
            let done = tokio::select! {
                done = process.issuer.run_until_idle() => done,
                () = process.doom.died.notified() => return false,
            };
            done.unwrap();
            let due = world.log.state_next_due(store::PURCHASES).await.unwrap();
            let Some(due) = due.filter(|due| *due < at("2026-11-03")) else { return true };
            // A call whose outcome is waited for is due all the while.
            let later = world.clock.now().saturating_add(Duration::from_secs(5)).unwrap();
            world.clock.set(if due > world.clock.now() { due } else { later });
        }
        panic!("it is never idle");
    }

    /// What stands at the end: our state, and what the engine holds.
    type End = (BTreeMap<String, Purchase>, BTreeMap<String, Vec<Made>>);

    /// Lives through all chapters; the first process dies at `last`. `None` when it did not live to die.
    async fn live(bodies: &[Vec<Vec<u8>>], settle: Duration, last: Option<(usize, Dies)>) -> (End, bool) {
        let world = World::new(settle).await;
        let mut process = world.process(last).await;
        let mut died = false;
        for (number, chapter) in bodies.iter().enumerate() {
            world.append(chapter).await;
            if number == 1 {
                world.attach().await;
            }
            while !work(&world, &mut process).await {
                died = true;
                process = world.process(None).await;
            }
        }
        died |= process.doom.last.is_none() && last.is_some();
        assert_eq!(world.open().await, 0, "{last:?}");
        let customers = world.engine.customers();
        let known: BTreeSet<_> = customers.iter().map(|known| (known.stripe.clone(), known.id.clone())).collect();
        assert_eq!(known.len(), 2, "each customer is made once, dying {last:?}");
        assert_eq!(world.linked().await, known, "dying {last:?}");
        let mut held: BTreeMap<String, Vec<Made>> = BTreeMap::new();
        for made in world.engine.licenses() {
            let owner = customers.iter().find(|known| Some(&known.id) == made.owner.as_ref());
            let owner = owner.map(|known| known.stripe.clone());
            let plain = Made { provider_id: String::new(), visible_at: Timestamp::UNIX_EPOCH, owner, ..made };
            held.entry(plain.reference.clone()).or_default().push(plain);
        }
        ((world.purchases().await, held), died)
    }

    /// What may differ by how it came about: ids that the engine counts, and when something was read or recorded.
    fn alike(mut purchases: BTreeMap<String, Purchase>) -> BTreeMap<String, Purchase> {
        for unit in
            purchases.values_mut().flat_map(|purchase| purchase.units.values_mut()).flat_map(BTreeMap::values_mut)
        {
            for license in unit.licenses.values_mut() {
                license.provider_id = String::new();
                license.also = BTreeMap::new();
                // One that was adopted before its adopter died is found by our reference, like one that was made.
                license.adopted = false;
            }
            unit.surplus = BTreeSet::new();
        }
        purchases
    }

    async fn dies_everywhere(settle: Duration) {
        let bodies = chapters();
        let (whole, _) = live(&bodies, settle, None).await;
        assert!(whole.1.values().all(|made| made.len() == 1), "{:#?}", whole.1);
        assert!(whole.1.len() >= 6, "the story sells something");
        let deaths = Arc::new(Mutex::new(0));
        for dies in [Dies::Before, Dies::After] {
            for number in 0.. {
                assert!(number < 1000, "the story is not that long");
                let (end, died) = live(&bodies, settle, Some((number, dies))).await;
                for (reference, made) in &end.1 {
                    assert_eq!(made.len(), 1, "{reference} was made twice, dying {dies:?} operation {number}");
                }
                assert_eq!(end.1, whole.1, "dying {dies:?} operation {number}");
                assert_eq!(alike(end.0), alike(whole.0.clone()), "dying {dies:?} operation {number}");
                if !died {
                    break;
                }
                *deaths.lock().unwrap() += 1;
            }
        }
        let deaths = *deaths.lock().unwrap();
        assert!(deaths > 60, "only {deaths} deaths");
    }

    #[tokio::test]
    async fn whoever_dies_at_any_line_leaves_exactly_one_license_per_unit_and_the_same_end() {
        dies_everywhere(Duration::ZERO).await;
    }

    #[tokio::test]
    async fn so_it_is_at_an_engine_that_shows_new_licenses_late() {
        dies_everywhere(Duration::from_secs(40)).await;
    }
}
