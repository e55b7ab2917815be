//! `keyledger reconcile provider`: lists what each engine holds, reads what the views say of it, and has the two compared.
//! Nothing is changed anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use jiff::{SignedDuration, Timestamp};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_issuer::provider::{Provider, ProviderError};
use keyledger_projector::read::{
    AsOf, Case, CaseFilter, CaseStatus, License, LicenseFilter, PAGE_MAX, PageRequest, Views, Within,
};
use keyledger_schemas::clock::{Clock, SystemClock};
use keyledger_schemas::ids::{Mode, ProviderName};
use serde_json::{Value, json};

use super::compare::{Books, Finding, Held, Known, Owed};
use crate::cli::Context;
use crate::cli::args::ReconcileProvider;
use crate::cli::catalog::Prices;
use crate::cli::open;
use crate::cli::read::{self, Column};
use crate::output::{Exit, NotReachable, WrongUse, counted};
use crate::serve;
use crate::settings::Settings;

/// Engines whose keys can be listed. `builtin` keeps them in the log, and `stub` shows them itself.
const LISTED: [&str; 3] = ["cryptlex", "cryptolens", "keygen"];

/// Cryptolens knows days alone: a key may end up to so much later than what was paid for.
const DAYS_ALONE: SignedDuration = SignedDuration::from_hours(48);

/// Causes of a unit that no engine was chosen for yet.
const BEFORE_ANY_ENGINE: [&str; 3] = ["unmapped_price", "lines_unknown", "waiting_for_link"];

const COLUMNS: &[Column] = &[
    ("KIND", "/kind"),
    ("AT", "/provider"),
    ("PRODUCT", "/product"),
    ("ID THERE", "/provider_id"),
    ("LICENSE", "/license"),
    ("PURCHASE", "/purchase"),
    ("CUSTOMER", "/customer"),
    ("FOUND", "/found"),
    ("NEXT", "/next"),
];

/// Compares each engine that is asked for.
///
/// # Errors
///
/// When an engine is none that lists, or does not answer, or log or views cannot be read.
pub async fn run(context: &Context, wanted: &ReconcileProvider) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let names = names(&settings, wanted.name.as_ref())?;
    let (log, views) = open::log_and_views(context, &settings).await?;
    let prices = Prices::read(&*log, context.output).await?;
    let prices = prices.rows(&settings.deciding());
    let engines = serve::engines(&settings, Arc::new(DeploymentKeys::load(&settings.keys_dir)?))?;
    let mut all: Vec<Finding> = Vec::new();
    for name in &names {
        // Listed first and read afterward: what is made meanwhile is in the books, and says when it was made.
        let since = SystemClock.now();
        let products = products(&settings, &views, &prices, name).await?;
        let swept = sweep(context, &*engines.get(name), products).await?;
        let (ours, open) = of_the_views(&views).await?;
        let ours: Vec<License> = ours.into_iter().filter(|license| license.provider.as_ref() == Some(name)).collect();
        let owed = owed(&views, open, &prices, name, names.len() == 1).await?;
        let later = if name.as_str() == "cryptolens" { DAYS_ALONE } else { SignedDuration::ZERO };
        let books =
            Books { provider: name, held: &swept.held, known: &swept.known, ours: &ours, owed: &owed, since, later };
        let findings = books.compare();
        let (held, known, count) = (swept.held.len(), swept.known.len(), findings.len());
        if context.output.json {
            for finding in &findings {
                context.output.value(finding)?;
            }
            context.output.value(&json!({
                "provider": name, "keys": held, "customers": known, "licenses": ours.len(), "findings": count
            }))?;
        } else {
            context.output.words(format!(
                "{name}: {} there, {} here, {}",
                counted(held, "key"),
                counted(ours.len(), "license"),
                counted(count, "difference")
            ));
        }
        all.extend(findings);
    }
    views.close().await;
    log.close().await;
    if !context.output.json && !all.is_empty() {
        let rows: Vec<Value> = all.iter().map(|finding| json!(finding)).collect();
        read::table(context.output, &rows, COLUMNS)?;
    }
    Ok(if all.is_empty() { Exit::Fine } else { Exit::Found })
}

/// The engine that is asked for, or all that are configured and can be listed.
fn names(settings: &Settings, wanted: Option<&ProviderName>) -> Result<Vec<ProviderName>, WrongUse> {
    let configured = settings.providers.names();
    let lists = |name: &ProviderName| LISTED.contains(&name.as_str());
    match wanted {
        Some(name) if name.as_str() == "builtin" => {
            Err(WrongUse("`builtin` keeps its licenses in the log itself: `keyledger check` compares those".to_owned()))
        }
        Some(name) if !lists(name) => {
            Err(WrongUse(format!("`{name}` cannot be listed; here are {}", LISTED.join(", "))))
        }
        Some(name) if !configured.contains(name) => {
            Err(WrongUse(format!("`{name}` is not configured: `[provider.{name}]` says how")))
        }
        Some(name) => Ok(vec![name.clone()]),
        None => {
            let names: Vec<ProviderName> = configured.into_iter().filter(lists).collect();
            if names.is_empty() {
                let text = "no license engine is configured that could be compared; `builtin` keeps its licenses in the \
                            log itself: `keyledger check` compares those";
                return Err(WrongUse(text.to_owned()));
            }
            Ok(names)
        }
    }
}

/// The engine's products that we know of: of licenses, of the catalog, and of prices' metadata.
async fn products(
    settings: &Settings,
    views: &Views,
    prices: &[Value],
    name: &ProviderName,
) -> anyhow::Result<BTreeSet<String>> {
    let of_catalog = settings.catalog.iter().filter(|entry| entry.provider == *name && !entry.skip);
    let mut products: BTreeSet<String> =
        of_catalog.filter(|entry| entry.addon_of.is_none()).map(|entry| entry.provider_product().to_owned()).collect();
    let mapped = prices.iter().filter(|row| row["mapping"]["provider"] == name.as_str());
    products.extend(mapped.filter_map(|row| row["mapping"]["product"].as_str()).map(str::to_owned));
    let (licenses, _) = of_the_views(views).await?;
    let ours = licenses.into_iter().filter(|license| license.provider.as_ref() == Some(name));
    products.extend(ours.filter_map(|license| license.product));
    Ok(products)
}

/// What an engine holds.
struct Swept {
    held: Vec<Held>,
    known: Vec<Known>,
}

async fn sweep(context: &Context, engine: &dyn Provider, products: BTreeSet<String>) -> anyhow::Result<Swept> {
    let name = engine.name().clone();
    let mut progress = context.output.progress("products", products.len() as u64);
    let mut held = Vec::new();
    for product in products {
        let mut after = None;
        loop {
            let page = engine.list(&product, after.as_deref()).await.map_err(|error| not_listed(&name, error))?;
            held.extend(page.licenses.into_iter().map(|license| Held { product: product.clone(), license }));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        progress.step();
    }
    progress.finish();
    let mut known = Vec::new();
    let mut after = None;
    loop {
        let page = engine.customers(after.as_deref()).await.map_err(|error| not_listed(&name, error))?;
        known.extend(page.customers.into_iter().map(|one| Known { id: one.id, customer: one.customer }));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(Swept { held, known })
}

fn not_listed(name: &ProviderName, error: ProviderError) -> anyhow::Error {
    match error {
        ProviderError::Refused { .. } => anyhow!(error).context(format!("listing what {name} holds")),
        ProviderError::Unavailable { .. } | ProviderError::Indeterminate { .. } => {
            let error = anyhow!(error).context(format!("listing what {name} holds"));
            NotReachable(format!("{error:#}")).into()
        }
    }
}

/// All licenses, and all open cases of units without a key, in both modes.
async fn of_the_views(views: &Views) -> anyhow::Result<(Vec<License>, Vec<Case>)> {
    let now = SystemClock.now();
    let (mut licenses, mut cases) = (Vec::new(), Vec::new());
    for mode in [Mode::Live, Mode::Test] {
        let within = Within { mode, source: None };
        licenses.extend(licenses_of(views, &within, now).await?);
        let filter =
            CaseFilter { kind: Some("no_key".to_owned()), status: Some(CaseStatus::Open), ..CaseFilter::default() };
        let mut after = None;
        loop {
            let request = PageRequest { limit: PAGE_MAX, after };
            let page = views
                .cases(&within, &filter, AsOf { at: now, issuer: None }, &request)
                .await
                .context("reading the views")?;
            cases.extend(page.data);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok((licenses, cases))
}

async fn licenses_of(views: &Views, within: &Within, now: Timestamp) -> anyhow::Result<Vec<License>> {
    let (filter, mut licenses, mut after) = (LicenseFilter::default(), Vec::new(), None);
    loop {
        let request = PageRequest { limit: PAGE_MAX, after };
        let page = views.licenses(within, &filter, now, &request).await.context("reading the views")?;
        licenses.extend(page.data);
        after = page.next;
        if after.is_none() {
            return Ok(licenses);
        }
    }
}

/// The units without a key that this engine is to make: by their price, or, where a price says nothing, because it is the
/// only engine that is asked.
async fn owed(
    views: &Views,
    open: Vec<Case>,
    prices: &[Value],
    name: &ProviderName,
    is_only: bool,
) -> anyhow::Result<Vec<Owed>> {
    let engine_by_price: BTreeMap<&str, &str> =
        prices.iter().filter_map(|row| Some((row["price"].as_str()?, row["mapping"]["provider"].as_str()?))).collect();
    let mut owed = Vec::new();
    for case in open {
        let Some(unit) = case.unit else { continue };
        if case.cause.as_deref().is_some_and(|cause| BEFORE_ANY_ENGINE.contains(&cause)) {
            continue;
        }
        let obligations = views.obligations(&unit.purchase).await.context("reading the views")?;
        let price = obligations.iter().find(|it| it.unit == unit).and_then(|it| it.price.clone());
        let means = price.as_deref().and_then(|price| engine_by_price.get(price)).copied();
        if means == Some(name.as_str()) || (means.is_none() && is_only) {
            let customer = case.customer.as_ref().map(ToString::to_string);
            owed.push(Owed { unit, customer, cause: case.cause });
        }
    }
    Ok(owed)
}
