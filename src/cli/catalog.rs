//! `keyledger catalog`: the prices that events named, what each means by today's settings, and which sell nothing yet.
//!
//! Read from the log itself, so that a price shows up even while nothing is mapped and no view knows it.

use std::collections::BTreeMap;

use keyledger_eventlog::log::EventLog;
use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::ids::{Mode, PriceId, ProductId, Scope, SourceName};
use keyledger_schemas::mapping::{self, Sale};
use keyledger_schemas::settings::{Count, DecidingSettings};
use keyledger_schemas::stripe::{self, fact::Fact, fact::Metadata, fact::PriceRef};
use serde_json::{Value, json};

use super::Context;
use super::open;
use super::read::{self, Column};
use crate::output::{Exit, Output};

/// Events read at once.
const PAGE: usize = 256;

const COLUMNS: &[Column] = &[
    ("PRICE", "/price"),
    ("PRODUCT", "/stripe_product"),
    ("NAME", "/name"),
    ("SOURCE", "/source"),
    ("MODE", "/mode"),
    ("LINES PAID", "/paid"),
    ("PROVIDER", "/mapping/provider"),
    ("SELLS", "/mapping/product"),
    ("SEATS", "/seats"),
    ("BY", "/by"),
];

/// Lists the prices. [`Exit::Found`] if one was paid for and sells nothing.
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
    let unmapped = rows.iter().filter(|row| is_unmapped(row)).count();
    if unmapped == 0 {
        return Ok(Exit::Fine);
    }
    let sell = if unmapped == 1 { "sells" } else { "sell" };
    context.output.words(format!(
        "\n{unmapped} of them {sell} nothing yet: say under [[catalog]] what each one means, and restart. What was paid \
         by then is issued by itself."
    ));
    Ok(Exit::Found)
}

/// Whether a row of [`Prices::rows`] sells nothing where something should be issued. A source issues in one mode alone.
pub fn is_unmapped(row: &Value) -> bool {
    row["mapping"].is_null() && row["issues"] == true
}

/// What is known of the prices of all sources and modes.
#[derive(Debug, Default)]
pub struct Prices {
    prices: BTreeMap<(SourceName, Mode, PriceId), Price>,
    products: BTreeMap<(SourceName, Mode, ProductId), Product>,
}

#[derive(Debug, Default)]
struct Price {
    product: Option<ProductId>,
    nickname: Option<String>,
    metadata: Metadata,
    /// Lines of paid invoices that named it.
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
                    for price in seen.items.iter().filter_map(|item| item.price.as_ref()) {
                        self.price(&event.scope, price);
                    }
                }
                Fact::InvoiceSeen(seen) => {
                    // An invoice is seen many times; `invoice.paid` once.
                    let counts = u64::from(seen.paid && event.kind == "stripe.invoice.paid");
                    for price in seen.lines.iter().filter_map(|line| line.price.as_ref()) {
                        self.price(&event.scope, price).paid += counts;
                    }
                }
                Fact::SessionSeen(seen) => {
                    for price in seen.lines.iter().flatten().filter_map(|line| line.price.as_ref()) {
                        self.price(&event.scope, price);
                    }
                }
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
        self.prices.entry((scope.source.clone(), scope.mode, id)).or_default()
    }

    /// One row for each price, with what it means by `settings`.
    pub fn rows(&self, settings: &DecidingSettings) -> Vec<Value> {
        self.prices.iter().map(|((source, mode, id), price)| self.row(settings, source, *mode, id, price)).collect()
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
        let mapping = mapped.ok().flatten();
        let seats = mapping.as_ref().map(|mapping| match mapping.seats {
            Count::Quantity => "quantity".to_owned(),
            Count::Fixed(number) => number.to_string(),
        });
        json!({
            "price": id,
            "stripe_product": price.product,
            "name": price.nickname.as_ref().or(product.and_then(|product| product.name.as_ref())),
            "source": source,
            "mode": mode,
            "paid": price.paid,
            "mapping": mapping,
            "seats": seats,
            "by": by,
            "issues": issues,
        })
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
            prices.prices.insert(key, Price { product, ..Price::default() });
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
    fn a_price_of_a_mode_that_issues_nothing_is_no_gap() {
        let rows = prices().rows(&settings(Vec::new()));
        assert_eq!(rows.iter().map(is_unmapped).collect::<Vec<_>>(), [true, true, false]);
    }
}
