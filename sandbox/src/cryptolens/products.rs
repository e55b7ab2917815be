//! `product/…`, and what the other groups ask about products.

use serde_json::{Value, json};

use super::account::{DataObject, License, Whole};
use super::answer::{Done, No};
use super::call::Call;
use super::form::Form;
use super::query::{Fields, Query};
use super::settings::{Algorithm, Matching, Product};

/// So many licenses in one answer.
const PAGE: usize = 99;

impl Call<'_> {
    pub(super) fn get_products(&self, form: &Form) -> Done {
        form.only(&[])?;
        let shown: Vec<_> = self.settings.products.iter().map(shown_product).collect();
        Ok(json!({ "products": shown }))
    }

    pub(super) fn get_keys(&self, form: &Form) -> Done {
        form.only(&["ProductId", "Page", "OrderBy", "SearchQuery", "GlobalId"])?;
        let product = self.product(form)?;
        let page = usize::try_from(form.count("Page")?.unwrap_or(1)).unwrap_or(1);
        if page == 0 {
            return Err(No::incorrect("pages begin with 1"));
        }
        let query = form.text("SearchQuery").map(Query::read).transpose();
        let query = query.map_err(|reason| No::incorrect(&reason))?;
        let global_id = form.id("GlobalId")?;
        if let Some(query) = &query {
            // So that a search in an empty product is refused as one in a full product is.
            self.holds(query, &sample(self.now, self.instant))?;
        }
        let mut found = Vec::new();
        for license in self.account.licenses.iter().filter(|license| license.product_id == product) {
            let searched = query.is_some() || global_id.is_none();
            if global_id.is_some_and(|id| license.global_id != id) || searched && !self.is_visible(license.made) {
                continue;
            }
            if query.as_ref().map_or(Ok(true), |query| self.holds(query, license))? {
                found.push(license);
            }
        }
        order(&mut found, form.text("OrderBy").unwrap_or("id descending"))?;
        let mut shown = Vec::new();
        for license in found.iter().skip((page - 1) * PAGE).take(PAGE) {
            shown.push(self.shown(license, form)?);
        }
        Ok(json!({
            "returned": shown.len(),
            "licenseKeys": shown,
            "total": found.len(),
            "pageCount": found.len().div_ceil(PAGE),
        }))
    }

    fn holds(&self, query: &Query, license: &License) -> Result<bool, No> {
        let whole = self.account.whole(license);
        query
            .holds(&whole as &dyn Fields, self.settings.search == Matching::IgnoringCase)
            .map_err(|reason| No::incorrect(&reason))
    }

    /// A license as this caller is shown it.
    pub(super) fn shown(&self, license: &License, form: &Form) -> Result<Value, No> {
        let whole: Whole<'_> = self.account.whole(license);
        Ok(whole.json(form.int("ModelVersion")?.unwrap_or(1), self.settings.unknown_fields))
    }

    /// The product that `ProductId` names.
    pub(super) fn product(&self, form: &Form) -> Result<u64, No> {
        let id = form.needed_id("ProductId")?;
        let known = self.settings.products.iter().any(|product| product.id == id);
        if known { Ok(id) } else { Err(No::no_product()) }
    }

    /// What is set for a product; one that was taken out of the settings is a common one.
    pub(super) fn product_settings(&self, id: u64) -> Product {
        self.settings.products.iter().find(|product| product.id == id).cloned().unwrap_or_default()
    }
}

fn shown_product(product: &Product) -> Value {
    let algorithm = match product.algorithm {
        Algorithm::Skgl => 0,
        Algorithm::Skm15 => 1,
    };
    json!({
        "id": product.id,
        "name": product.name,
        "keyAlgorithm": algorithm,
        "featureDefinitions": {
            "allLicensesTimeLimited": product.all_licenses_time_limited,
            "blockExpiredLicenses": product.block_expired_licenses,
        },
    })
}

fn order(found: &mut [&License], by: &str) -> Result<(), No> {
    let by = by.to_ascii_lowercase();
    let (field, direction) = by.split_once(' ').unwrap_or((&by, "ascending"));
    match field {
        "id" => found.sort_by_key(|license| license.id),
        "created" => found.sort_by_key(|license| license.created),
        "expires" => found.sort_by_key(|license| license.expires),
        _ => return Err(No::incorrect("that is not a field to order by")),
    }
    match direction.trim() {
        "ascending" => Ok(()),
        "descending" => {
            found.reverse();
            Ok(())
        }
        _ => Err(No::incorrect("that is not a direction")),
    }
}

/// Of every kind of field one.
fn sample(now: jiff::Timestamp, instant: tokio::time::Instant) -> License {
    let object = DataObject { id: 0, name: String::new(), string_value: String::new(), int_value: 0 };
    License {
        product_id: 0,
        id: 0,
        global_id: 0,
        key: String::new(),
        created: now,
        expires: now,
        period: 0,
        features: [false; 8],
        notes: String::new(),
        notes_at_first: String::new(),
        block: false,
        trial_activation: false,
        max_no_of_machines: 0,
        allowed_machines: String::new(),
        customer_id: None,
        data_objects: vec![object],
        days_added: 0,
        extensions: 0,
        blocks: 0,
        by_hand: false,
        made: instant,
    }
}
