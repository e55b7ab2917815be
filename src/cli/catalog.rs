//! `keyledger catalog`: the prices that events named, what each means by today's settings, and which sell nothing yet.
//!
//! Read from the log itself, so that a price shows up even while nothing is mapped and no view knows it.

use std::collections::{BTreeMap, BTreeSet};

use keyledger_eventlog::log::EventLog;
use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::ids::{Mode, PriceId, ProductId, ProviderName, Scope, SessionId, SourceName};
use keyledger_schemas::mapping::{self, Mapping, Meaning, Sale};
use keyledger_schemas::settings::{Count, DecidingSettings};
use keyledger_schemas::stripe;
use keyledger_schemas::stripe::fact::{Fact, Metadata, PriceRef, SessionSeen};
use keyledger_schemas::stripe::status::{PaymentStatus, SessionMode};
use serde_json::{Value, json};

use super::Context;
use super::open;
use super::read::{self, Column};
use crate::output::{Exit, Output, counted};

/// Events read at once.
const PAGE: usize = 256;

const COLUMNS: &[Column] = &[
    ("PRICE", "/price"),
    ("PRODUCT", "/stripe_product"),
    ("NAME", "/name"),
    ("SOURCE", "/source"),
    ("MODE", "/mode"),
    ("LINES PAID", "/paid"),
    ("PROVIDER", "/provider"),
    ("SELLS", "/sells"),
    ("SEATS", "/seats"),
    ("BY", "/by"),
];

/// What keyledger does about prices that bill measured usage.
const METERED: &str = "metered usage: keyledger reports no usage to Stripe and counts none; a license is made only where the \
                       entry has a fixed number of seats";

/// Lists the prices. [`Exit::Found`] if one was paid for and means nothing.
///
/// # Errors
///
/// When there is no log.
pub async fn run(context: &Context) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let log = open::log_of(&settings).await?;
    let prices = Prices::read(&*log, context.output).await?;
    let deciding = settings.deciding();
    let rows = prices.rows(&deciding);
    if context.output.json {
        for row in &rows {
            context.output.value(row)?;
        }
    } else {
        read::table(context.output, &rows, COLUMNS)?;
    }
    let metered = rows.iter().filter(|row| row["metered"] == true && row["seats"] == "quantity").count();
    if metered > 0 {
        context.output.words(format!("\n{} of {METERED}.", counted(metered, "price")));
    }
    let unmapped = rows.iter().filter(|row| is_unmapped(row)).count();
    let unpaid = rows.iter().filter(|row| is_unmapped(row) && !is_paid(row)).count();
    if unpaid > 0 {
        context.output.words(format!("\n{} nothing yet, and nobody paid for them.", prices_that_mean(unpaid)));
    }
    if unmapped == unpaid {
        return Ok(Exit::Fine);
    }
    context.output.words(format!(
        "\n{} nothing, though it was paid for: say under [[catalog]] what each one means (`skip = true` for what sells no \
         license), and restart. What was paid by then is issued by itself.",
        prices_that_mean(unmapped - unpaid)
    ));
    Ok(Exit::Found)
}

/// `1 price means`, `2 prices mean`
fn prices_that_mean(count: usize) -> String {
    format!("{} {}", counted(count, "price"), if count == 1 { "means" } else { "mean" })
}

/// Whether a row of [`Prices::rows`] means nothing where something should be issued. A source issues in one mode alone.
pub fn is_unmapped(row: &Value) -> bool {
    row["sells"].is_null() && row["issues"] == true
}

/// Whether somebody paid for the price of a row of [`Prices::rows`].
pub fn is_paid(row: &Value) -> bool {
    row["paid"].as_u64().is_some_and(|paid| paid > 0)
}

/// What is known of the prices of all sources and modes.
#[derive(Debug, Default)]
pub struct Prices {
    entries: BTreeMap<(SourceName, Mode, PriceId), Price>,
    products: BTreeMap<(SourceName, Mode, ProductId), Product>,
    /// Sessions whose lines were counted: they are seen many times.
    sessions: BTreeSet<(Scope, SessionId)>,
}

#[derive(Debug, Default)]
struct Price {
    product: Option<ProductId>,
    nickname: Option<String>,
    metadata: Metadata,
    /// It bills measured usage.
    metered: bool,
    /// Lines of paid invoices and sessions that named it.
    paid: u64,
}

#[derive(Debug, Default)]
struct Product {
    name: Option<String>,
    metadata: Metadata,
}

impl Prices {
    /// Reads the whole log.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn read(log: &dyn EventLog, output: Output) -> anyhow::Result<Self> {
        let mut prices = Self::default();
        let mut progress = output.progress("log", log.head().await?.position);
        let mut after = 0;
        loop {
            let page = log.read_after(after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.position;
            for event in page.iter().filter(|event| event.is_stripe()) {
                prices.learn(event);
            }
            progress.at(after);
        }
        progress.finish();
        Ok(prices)
    }

    fn learn(&mut self, event: &Recorded) {
        for fact in stripe::facts(&event.data) {
            match fact {
                Fact::SubscriptionSeen(seen) => {
                    for item in &seen.items {
                        if let Some(price) = &item.price {
                            self.price(&event.scope, price).metered |= item.metered;
                        }
                    }
                }
                Fact::InvoiceSeen(seen) => {
                    // An invoice is seen many times; `invoice.paid` once.
                    let counts = u64::from(seen.paid && event.kind == "stripe.invoice.paid");
                    for line in &seen.lines {
                        if let Some(price) = &line.price {
                            let price = self.price(&event.scope, price);
                            price.paid += counts;
                            price.metered |= line.metered;
                        }
                    }
                }
                Fact::SessionSeen(seen) => self.learn_session(&event.scope, &seen),
                Fact::PriceSeen(seen) => {
                    let price = self.entry(&event.scope, seen.id);
                    price.product = seen.product.or(price.product.take());
                    price.nickname = seen.nickname;
                    price.metadata = seen.metadata;
                }
                Fact::ProductSeen(seen) => {
                    let key = (event.scope.source.clone(), event.scope.mode, seen.id);
                    self.products.insert(key, Product { name: seen.name, metadata: seen.metadata });
                }
                Fact::ChargeSeen(_)
                | Fact::RefundSeen(_)
                | Fact::DisputeSeen(_)
                | Fact::Linked(_)
                | Fact::CustomerSeen(_) => {}
            }
        }
    }

    /// What a session sold is paid for once, however often it is seen; what has an invoice is counted there.
    fn learn_session(&mut self, scope: &Scope, seen: &SessionSeen) {
        let settled = matches!(seen.payment_status, PaymentStatus::Paid | PaymentStatus::NoPaymentRequired);
        let sells = seen.mode == SessionMode::Payment && settled && seen.invoice.is_none();
        let lines = seen.lines.as_deref().unwrap_or_default();
        let is_new = sells && !lines.is_empty() && self.sessions.insert((scope.clone(), seen.id.clone()));
        for price in lines.iter().filter_map(|line| line.price.as_ref()) {
            self.price(scope, price).paid += u64::from(is_new);
        }
    }

    fn price(&mut self, scope: &Scope, seen: &PriceRef) -> &mut Price {
        let price = self.entry(scope, seen.id.clone());
        if seen.product.is_some() {
            price.product.clone_from(&seen.product);
        }
        if !seen.metadata.is_empty() {
            price.metadata.clone_from(&seen.metadata);
        }
        price
    }

    fn entry(&mut self, scope: &Scope, id: PriceId) -> &mut Price {
        self.entries.entry((scope.source.clone(), scope.mode, id)).or_default()
    }

    /// One row for each price, with what it means by `settings`.
    pub fn rows(&self, settings: &DecidingSettings) -> Vec<Value> {
        self.entries.iter().map(|((source, mode, id), price)| self.row(settings, source, *mode, id, price)).collect()
    }

    fn row(&self, settings: &DecidingSettings, source: &SourceName, mode: Mode, id: &PriceId, price: &Price) -> Value {
        let product = price.product.as_ref().and_then(|id| self.products.get(&(source.clone(), mode, id.clone())));
        let sale = Sale {
            metadata: [None, None, Some(&price.metadata), product.map(|product| &product.metadata)],
            price: Some(id),
            product: price.product.as_ref(),
            allow_default: true,
        };
        let mapped = mapping::resolve(settings, &sale);
        // The source is not configured any more, or it issues in this mode.
        let issues = settings.sources.get(source).is_none_or(|source| source.mode == mode);
        let by = match &mapped {
            Err(error) => error.to_string(),
            Ok(Some(_)) => matched_by(settings, &sale).to_owned(),
            Ok(None) if issues => "nothing: sells nothing yet".to_owned(),
            Ok(None) => "nothing: this mode issues nothing".to_owned(),
        };
        let shown = mapped.ok().flatten().map(|meaning| shown(&meaning)).unwrap_or_default();
        let metered = price.metered.then_some(METERED).filter(|_| shown.seats.as_deref() == Some("quantity"));
        json!({
            "price": id,
            "stripe_product": price.product,
            "name": price.nickname.as_ref().or(product.and_then(|product| product.name.as_ref())),
            "source": source,
            "mode": mode,
            "paid": price.paid,
            "mapping": shown.mapping,
            "provider": shown.provider,
            "sells": shown.sells,
            "seats": shown.seats,
            "by": metered.map_or(by, str::to_owned),
            "metered": price.metered,
            "issues": issues,
        })
    }
}

/// What a price means, as a row shows it.
#[derive(Default)]
struct Shown {
    mapping: Option<Box<Mapping>>,
    provider: Option<ProviderName>,
    sells: Option<String>,
    seats: Option<String>,
}

fn shown(meaning: &Meaning) -> Shown {
    let seats = |count: Count| match count {
        Count::Quantity => "quantity".to_owned(),
        Count::Fixed(number) => number.to_string(),
    };
    match meaning {
        Meaning::License(mapping) => Shown {
            provider: Some(mapping.provider.clone()),
            sells: Some(mapping.product.clone()),
            seats: Some(seats(mapping.seats)),
            mapping: Some(mapping.clone()),
        },
        Meaning::Addon(addon) => Shown {
            mapping: None,
            provider: Some(addon.provider.clone()),
            sells: Some(format!("more of {}", addon.of)),
            seats: addon.seats.map(|count| format!("+{}", seats(count))),
        },
        Meaning::Nothing => Shown { sells: Some("no license (skip)".to_owned()), ..Shown::default() },
    }
}

/// By what a sale that means something was found: leaves out one thing after the other until nothing is found.
fn matched_by(settings: &DecidingSettings, sale: &Sale<'_>) -> &'static str {
    let says = |sale: &Sale<'_>| matches!(mapping::resolve(settings, sale), Ok(Some(_)));
    let metadata = Sale { price: None, product: None, allow_default: false, ..sale.clone() };
    let product = Sale { metadata: [None; 4], price: None, allow_default: false, ..sale.clone() };
    let price = Sale { metadata: [None; 4], product: None, allow_default: false, ..sale.clone() };
    if says(&metadata) {
        "metadata"
    } else if says(&price) {
        "price"
    } else if says(&product) {
        "product"
    } else {
        "default entry"
    }
}

#[cfg(test)]
mod tests {
    use keyledger_schemas::settings::{CatalogEntry, SourceSettings};

    use super::*;

    fn entry(toml: &str) -> CatalogEntry {
        serde_json::from_str(toml).unwrap()
    }

    fn prices() -> Prices {
        let mut prices = Prices::default();
        for (mode, id) in [(Mode::Live, "price_1"), (Mode::Live, "price_2"), (Mode::Test, "price_2")] {
            let product = Some(ProductId::from("prod_1")).filter(|_| id == "price_2");
            let key = (SourceName::default(), mode, PriceId::from(id));
            prices.entries.insert(key, Price { product, ..Price::default() });
        }
        prices
    }

    fn settings(catalog: Vec<CatalogEntry>) -> DecidingSettings {
        let sources = BTreeMap::from([(SourceName::default(), SourceSettings { mode: Mode::Live })]);
        DecidingSettings { catalog, sources, ..DecidingSettings::default() }
    }

    #[test]
    fn a_row_says_by_what_it_is_mapped() {
        let catalog = [r#"{"price": "price_1"}"#, r#"{"product": "prod_1"}"#].map(entry).to_vec();
        let by: Vec<Value> = prices().rows(&settings(catalog)).iter().map(|row| row["by"].clone()).collect();
        assert_eq!(by, ["price", "product", "product"]);
        let rows = prices().rows(&settings(vec![entry(r#"{"product": "pro"}"#)]));
        assert_eq!(rows[0]["by"], "default entry");
    }

    #[test]
    fn what_is_skipped_or_adds_to_something_is_no_gap() {
        let catalog =
            [r#"{"price": "price_1", "skip": true}"#, r#"{"price": "price_2", "addon_of": "pro", "seats": 5}"#];
        let rows = prices().rows(&settings(catalog.map(entry).to_vec()));
        assert!(rows.iter().all(|row| !is_unmapped(row)));
        assert_eq!((&rows[0]["sells"], &rows[1]["sells"]), (&json!("no license (skip)"), &json!("more of pro")));
        assert_eq!(rows[1]["seats"], "+5");
    }

    #[test]
    fn metered_usage_is_refused_in_words_unless_the_seats_are_fixed() {
        let mut prices = prices();
        prices.entries.values_mut().for_each(|price| price.metered = true);
        let catalog = [r#"{"price": "price_1"}"#, r#"{"price": "price_2", "seats": 3}"#].map(entry).to_vec();
        let rows = prices.rows(&settings(catalog));
        assert!(rows[0]["by"].as_str().unwrap().starts_with("metered usage: keyledger reports no usage"));
        assert_eq!(rows[1]["by"], "price");
    }

    #[test]
    fn a_session_that_was_paid_counts_its_lines_once() {
        let session = json!({"id": "evt_1", "object": "event", "type": "checkout.session.completed", "created": 1_700_000_000,
            "livemode": true, "data": {"object": {"id": "cs_1", "object": "checkout.session", "mode": "payment",
            "status": "complete", "payment_status": "paid", "amount_total": 100, "currency": "eur",
            "line_items": {"object": "list", "has_more": false, "data": [{"id": "li_1", "object": "item", "quantity": 1,
            "amount_total": 100, "price": {"id": "price_9", "object": "price"}}]}}}});
        let scope = Scope::new(SourceName::default(), Mode::Live);
        let mut prices = Prices::default();
        for _ in 0..2 {
            for fact in stripe::facts(session.to_string().as_bytes()) {
                if let Fact::SessionSeen(seen) = fact {
                    prices.learn_session(&scope, &seen);
                }
            }
        }
        let paid: Vec<u64> = prices.entries.values().map(|price| price.paid).collect();
        assert_eq!(paid, [1]);
    }

    #[test]
    fn a_price_of_a_mode_that_issues_nothing_is_no_gap() {
        let rows = prices().rows(&settings(Vec::new()));
        assert_eq!(rows.iter().map(is_unmapped).collect::<Vec<_>>(), [true, true, false]);
    }
}
