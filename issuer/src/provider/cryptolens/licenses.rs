//! Licenses: finding, reading and changing one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use keyledger_schemas::secret::Secret;
use tokio::time::Instant;
use tracing::warn;

use super::client::{Client, Form, Said};
use super::named::Named;
use super::notes;
use super::terms::{self, Never};
use super::wire::{License, Licenses, Nothing, OneLicense};
use crate::provider::{CallError, ProviderError, Terms};

/// So many pages of 99 licenses are read for one search.
const PAGES_MAX: u32 = 1000;

/// So many licenses are at most made while a search does not see them.
const UNSEEN_MAX: u64 = 1000;

/// So many keys are remembered.
const KEYS_MAX: usize = 10_000;

/// So often days are added until a license is long enough. A second time is for an engine whose days begin at midnight.
const EXTENSIONS_MAX: u32 = 3;

/// What is remembered of licenses. All of it may be forgotten: it only saves calls, and waits.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Keys by product and number, since every call names a license by its key.
    keys: Mutex<HashMap<(u64, u64), Secret>>,
    /// Until when no days are added to a license: those sent before may still arrive.
    unknown: Mutex<HashMap<(u64, u64), Instant>>,
}

impl Memory {
    fn key(&self, product: u64, id: u64) -> Option<Secret> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(&(product, id)).cloned()
    }

    pub(super) fn remember(&self, license: &License) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert((license.product_id, license.id), Secret::new(license.key.clone()));
    }

    fn forget(&self, product: u64, id: u64) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&(product, id));
    }

    /// Said before days are sent, since whoever sends them may be stopped before the answer.
    fn leave_alone(&self, license: &License, wait: Duration) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.retain(|_, until| *until > Instant::now());
        unknown.insert((license.product_id, license.id), Instant::now() + wait);
    }

    fn answered(&self, license: &License) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.remove(&(license.product_id, license.id));
    }

    fn left_alone(&self, license: &License) -> Option<Duration> {
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let until = unknown.get(&(license.product_id, license.id))?;
        until.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
    }
}

/// One page of the licenses of a product, by their numbers.
pub(super) async fn page(client: &Client, product: u64, page: u32, more: Form<'_>) -> Result<Licenses, ProviderError> {
    let mut form =
        vec![("ProductId", product.to_string()), ("Page", page.to_string()), ("OrderBy", "ID ascending".to_owned())];
    form.extend(more);
    let mut found: Licenses = client.look("product", "GetKeys", form).await.map_err(ProviderError::from)?;
    // Numbers are unique in a product alone: nothing of another is ever taken.
    found.licenses.retain(|license| license.product_id == product);
    Ok(found)
}

/// All licenses of the product that fit, as far as the search sees them.
async fn all(
    client: &Client,
    product: u64,
    search: Form<'_>,
    fits: impl Fn(&License) -> bool,
) -> Result<Vec<License>, ProviderError> {
    let mut licenses = Vec::new();
    for number in 1..=PAGES_MAX {
        let found = page(client, product, number, search.clone()).await?;
        licenses.extend(found.licenses.into_iter().filter(|license| fits(license)));
        if number >= found.page_count {
            break;
        }
    }
    licenses.sort_by_key(|license| license.id);
    licenses.dedup_by_key(|license| license.id);
    Ok(licenses)
}

/// Those that carry exactly this reference.
pub(super) async fn with_reference(
    client: &Client,
    product: u64,
    reference: &str,
    second_place: bool,
) -> Result<Vec<License>, ProviderError> {
    if !notes::is_plain(reference) || reference.contains(';') {
        return Err(ProviderError::Refused { reason: "a reference holds letters, digits and `-_.:` only".to_owned() });
    }
    let fits = |license: &License| notes::carried(license).any(|carried| carried == reference);
    let search = vec![("SearchQuery", format!("notes.contains(\"{}\")", notes::mark(reference)))];
    let found = all(client, product, search, fits).await?;
    if !found.is_empty() || !second_place {
        return Ok(found);
    }
    all(client, product, with_text(reference), fits).await
}

/// Those that the engine's own integration with Stripe made for this subscription or its item.
pub(super) async fn made_by_theirs(client: &Client, product: u64, sale: &str) -> Result<Vec<License>, ProviderError> {
    if !notes::is_plain(sale) {
        return Ok(Vec::new());
    }
    let fits =
        |license: &License| license.texts(notes::THEIR_ITEM).any(|text| text == sale) && notes::ours(license).is_none();
    all(client, product, with_text(sale), fits).await
}

fn with_text(text: &str) -> Form<'static> {
    vec![("SearchQuery", format!("dataobjects.count(it.StringValue=\"{text}\")>0"))]
}

/// The license of that name. One that is not there is refused; `new` says that the search may only not see it yet.
pub(super) async fn of_name(
    client: &Client,
    memory: &Memory,
    product: u64,
    named: Named,
    new: bool,
) -> Result<License, ProviderError> {
    if let Named::Id(id) = named
        && let Some(license) = remembered(client, memory, product, id).await?
    {
        return Ok(license);
    }
    let search = match named {
        Named::Id(id) => ("SearchQuery", format!("id={id}")),
        Named::Global(id) => ("GlobalId", id.to_string()),
    };
    let fits = |license: &License| match named {
        Named::Id(id) => license.id == id,
        Named::Global(id) => license.global_id == Some(id),
    };
    let mut found = all(client, product, vec![search], fits).await?;
    match (found.pop(), found.is_empty()) {
        (Some(license), true) => {
            memory.remember(&license);
            // What a search shows may be older than the license is: days are counted from what it is now.
            again(client, &license).await
        }
        (Some(_), false) => {
            Err(ProviderError::Refused { reason: format!("product {product} has more than one license `{named}`") })
        }
        (None, _) if new => Err(missing(client, product, named).await),
        (None, _) => Err(not_there(product, named)),
    }
}

async fn remembered(client: &Client, memory: &Memory, product: u64, id: u64) -> Result<Option<License>, ProviderError> {
    let Some(key) = memory.key(product, id) else { return Ok(None) };
    match read(client, product, &key).await {
        Ok(license) => Ok(Some(license).filter(|license| license.id == id)),
        Err(failure) if failure.said() == Some(Said::NoKey) => {
            memory.forget(product, id);
            Ok(None)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// A license whose number is above all that the search sees is perhaps too new for it.
async fn missing(client: &Client, product: u64, named: Named) -> ProviderError {
    let newest =
        vec![("ProductId", product.to_string()), ("Page", "1".to_owned()), ("OrderBy", "ID descending".to_owned())];
    let newest: Licenses = match client.look("product", "GetKeys", newest).await {
        Ok(newest) => newest,
        Err(failure) => return failure.into(),
    };
    let newest = newest.licenses.iter();
    let is_newer = match named {
        Named::Id(id) => {
            let newest = newest.map(|license| license.id).max().unwrap_or_default();
            id > newest && id - newest <= UNSEEN_MAX
        }
        // Its number in the account says nothing about other products.
        Named::Global(_) => false,
    };
    if is_newer {
        let reason =
            format!("product {product} does not show a license `{named}` yet; if it was deleted, revoke it here");
        ProviderError::Unavailable { retry_after: None, source: CallError::Unreadable { reason } }
    } else {
        not_there(product, named)
    }
}

fn not_there(product: u64, named: Named) -> ProviderError {
    ProviderError::Refused { reason: format!("product {product} has no license `{named}`") }
}

/// Reads a license by its key, which no search has to have seen.
pub(super) async fn read(client: &Client, product: u64, key: &Secret) -> Result<License, super::client::Failure> {
    let form = vec![("ProductId", product.to_string()), ("Key", key.expose().to_owned())];
    Ok(client.look::<OneLicense>("key", "GetKey", form).await?.license)
}

/// Reads a license again.
pub(super) async fn again(client: &Client, license: &License) -> Result<License, ProviderError> {
    read(client, license.product_id, &Secret::new(license.key.clone())).await.map_err(ProviderError::from)
}

/// One of the calls that change a license.
pub(super) async fn change(
    client: &Client,
    license: &License,
    method: &str,
    more: Option<(&str, String)>,
) -> Result<(), ProviderError> {
    let mut form = vec![("ProductId", license.product_id.to_string()), ("Key", license.key.clone())];
    form.extend(more);
    client.change::<Nothing>("key", method, form).await?;
    Ok(())
}

/// How expiry is set, where the engine can only add days.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calendar {
    pub(super) now: Timestamp,
    pub(super) never: Never,
    /// How long days of unknown outcome may still arrive.
    pub(super) unknown: Duration,
}

/// Sends what is different, and no more.
pub(super) async fn set_terms(
    client: &Client,
    memory: &Memory,
    license: License,
    terms: &Terms,
    calendar: Calendar,
) -> Result<(), ProviderError> {
    let wanted = terms::switches(&terms.features)?;
    for (number, (present, wanted)) in (1..).zip(license.features().into_iter().zip(wanted)) {
        if present != wanted {
            let method = if wanted { "AddFeature" } else { "RemoveFeature" };
            change(client, &license, method, Some(("Feature", format!("{number}")))).await?;
        }
    }
    // A license without a limit was meant so: 0 is never what a number of seats becomes.
    if license.max_no_of_machines != 0 && license.max_no_of_machines != terms.seats {
        change(client, &license, "MachineLockLimit", Some(("NumberOfMachines", terms.seats.to_string()))).await?;
    }
    set_expiry(client, memory, license, terms.expires_at, calendar).await
}

/// Reads, adds what is missing, and reads again. Repeating it adds nothing: days are computed from what was read.
async fn set_expiry(
    client: &Client,
    memory: &Memory,
    mut license: License,
    until: Option<Timestamp>,
    calendar: Calendar,
) -> Result<(), ProviderError> {
    for _ in 0..EXTENSIONS_MAX {
        let days = terms::days_to_add(license.expires, until, calendar.now, calendar.never);
        let Some(days) = days else { return Ok(()) };
        if let Some(wait) = memory.left_alone(&license) {
            return Err(ProviderError::Unavailable { retry_after: Some(wait), source: CallError::Paused });
        }
        memory.leave_alone(&license, calendar.unknown);
        let sent = change(client, &license, "ExtendLicense", Some(("NoOfDays", days.to_string()))).await;
        if !matches!(sent, Err(ProviderError::Indeterminate { .. })) {
            memory.answered(&license);
        }
        sent?;
        license = again(client, &license).await?;
    }
    match terms::days_to_add(license.expires, until, calendar.now, calendar.never) {
        None => Ok(()),
        Some(_) => Err(ProviderError::Refused {
            reason: format!(
                "the expiry stays at {} though days were added; look at the license there",
                license.expires
            ),
        }),
    }
}

/// Writes the reference into the second place, where there is one. A license without it is as good, so a no is only told.
pub(super) async fn write_second_place(
    client: &Client,
    license: &License,
    reference: &str,
) -> Result<(), ProviderError> {
    if license.texts(notes::SECOND_PLACE).any(|text| text == reference) {
        return Ok(());
    }
    let form = vec![
        ("ProductId", license.product_id.to_string()),
        ("Key", license.key.clone()),
        ("Name", notes::SECOND_PLACE.to_owned()),
        ("StringValue", reference.to_owned()),
        ("CheckForDuplicates", "true".to_owned()),
    ];
    client.change::<Nothing>("data", "AddDataObjectToKey", form).await.map(|Nothing {}| ()).map_err(ProviderError::from)
}

/// The same, where the reference stands in the notes already.
pub(super) async fn try_second_place(client: &Client, license: &License, reference: &str) {
    if let Err(error) = write_second_place(client, license, reference).await {
        warn!(
            error = &error as &dyn std::error::Error,
            provider.license = license.id,
            provider.product = license.product_id,
            "cannot write the reference into a data object too; set `data_objects = false`, or give the token \
             AddDataObject with key lock -1"
        );
    }
}
