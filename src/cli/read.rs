//! Reading verbs: what the API answers, as tables for people and JSON for programs.

use jiff::Timestamp;
use keyledger_console::api::View;
use keyledger_console::model::Page;
use keyledger_console::problem::Problem;
use keyledger_projector::read::{CustomerFilter, PAGE_MAX, PageRequest, SubscriptionFilter, Within};
use keyledger_schemas::money::Money;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::{self, CustomerVerb, Customers, Listing, Scope, Search, ShowVerb};
use super::{Context, customers, open};
use crate::output::{Exit, Output};

/// A column of a table: its head, and where its cell stands in a row's JSON. Of several places, separated by blanks, the
/// first that holds something; of places joined by `+` all that do.
pub type Column = (&'static str, &'static str);

const CUSTOMERS: &[Column] = &[("ID", "/id"), ("NAME", "/name"), ("EMAIL", "/email"), ("DELETED", "/deleted_at")];

const SUBSCRIPTIONS: &[Column] = &[
    ("ID", "/id"),
    ("STATUS", "/status"),
    ("CUSTOMER", "/customer"),
    ("PAID UNTIL", "/paid_until"),
    ("ENDED", "/ended_at"),
];

/// Licenses, as every verb shows them.
pub const LICENSES: &[Column] = &[
    ("ID", "/id"),
    ("STATE", "/state"),
    ("KEY", "/key"),
    ("SEATS", "/seats"),
    ("PAID UNTIL", "/paid_until"),
    ("EXPIRES", "/expires_at"),
    ("PROVIDER", "/provider"),
    ("PURCHASE", "/purchase/stripe_id"),
];

/// Cases, as every verb shows them.
pub const CASES: &[Column] = &[
    ("ID", "/id"),
    ("STATUS", "/status"),
    ("KIND", "/kind"),
    ("AMOUNT", "/amount"),
    ("CUSTOMER", "/customer"),
    ("ABOUT", "/purchase/stripe_id /subject"),
    ("SINCE", "/opened_at"),
    ("CAUSE", "/cause+/detail"),
    ("NEXT", "/next"),
];

/// Cases of one status.
pub fn cases_of_one_status() -> Vec<Column> {
    CASES.iter().copied().filter(|(head, _)| *head != "STATUS").collect()
}

const PAYMENTS: &[Column] =
    &[("PAYMENT", "/id"), ("KIND", "/kind"), ("STATUS", "/status"), ("AMOUNT", "/amount"), ("AT", "/at")];

const OBLIGATIONS: &[Column] = &[
    ("UNIT", "/unit"),
    ("STANDING", "/standing"),
    ("CHARGED", "/charged"),
    ("PAID UNTIL", "/paid_until"),
    ("OPEN", "/open"),
    ("CAUSE", "/cause"),
];

const PURCHASES: &[Column] = &[("PURCHASE", "/stripe_id"), ("CUSTOMER", "/customer"), ("SINCE", "/opened_at")];

const ITEMS: &[Column] = &[
    ("ITEM", "/id"),
    ("PRICE", "/price"),
    ("PRODUCT", "/product"),
    ("QUANTITY", "/quantity"),
    ("PERIOD END", "/period_end"),
];

const CROSS_LINKS: &[Column] = &[("KNOWN IN", "/system"), ("AS", "/id"), ("PAGE", "/url")];

const HITS: &[Column] = &[
    ("KIND", "/kind"),
    ("ID", "/id"),
    ("LABEL", "/label"),
    ("STATUS", "/status"),
    ("PURCHASE", "/purchase"),
    ("CUSTOMER", "/customer"),
];

/// The lists inside of one thing, and how each is shown.
const INNER: &[(&str, &[Column])] = &[
    ("cases", CASES),
    ("licenses", LICENSES),
    ("purchases", PURCHASES),
    ("items", ITEMS),
    ("obligations", OBLIGATIONS),
    ("payments", PAYMENTS),
    ("cross_links", CROSS_LINKS),
];

/// `keyledger customers`
///
/// # Errors
///
/// When the views cannot be read.
pub async fn customers(context: &Context, listing: Customers) -> anyhow::Result<Exit> {
    let api = open::api(context).await?;
    match &listing.verb {
        Some(CustomerVerb::Show(show)) => {
            let customer = api.customer(&view(&show.scope), &show.id).await.map_err(open::problem)?;
            detail(context.output, &json!(customer))?;
            return Ok(Exit::Fine);
        }
        Some(CustomerVerb::Link(link)) => return customers::link(context, &api, link).await,
        None => {}
    }
    let (view, filter) = (view(&listing.scope), CustomerFilter::default());
    let pages = async |request: PageRequest| api.customers(&view, &filter, &request).await;
    list(context, &listing.page, CUSTOMERS, pages).await?;
    Ok(Exit::Fine)
}

/// `keyledger subscriptions`
///
/// # Errors
///
/// When the views cannot be read.
pub async fn subscriptions(context: &Context, listing: Listing) -> anyhow::Result<Exit> {
    let api = open::api(context).await?;
    if let Some(ShowVerb::Show(show)) = &listing.verb {
        let subscription = api.subscription(&view(&show.scope), &show.id).await.map_err(open::problem)?;
        detail(context.output, &json!(subscription))?;
        return Ok(Exit::Fine);
    }
    let (view, filter) = (view(&listing.scope), SubscriptionFilter::default());
    let pages = async |request: PageRequest| api.subscriptions(&view, &filter, &request).await;
    list(context, &listing.page, SUBSCRIPTIONS, pages).await?;
    Ok(Exit::Fine)
}

/// `keyledger search`
///
/// # Errors
///
/// When the query cannot be read, or the views cannot.
pub async fn search(context: &Context, search: &Search) -> anyhow::Result<Exit> {
    let api = open::api(context).await?;
    let (view, query) = (view(&search.scope), search.query.join(" "));
    let found = api.search(&view, &query).await.map_err(|problem| open::bad_search(&query, problem))?;
    let mut hits: Vec<Value> = found.groups.iter().flat_map(|group| &group.hits).map(|hit| json!(hit)).collect();
    if context.output.json {
        context.output.value(&found)?;
    } else if hits.is_empty() {
        context.output.words("Nothing found.");
    } else {
        // A case that is closed must not look like one that waits for someone.
        for hit in hits.iter_mut().filter(|hit| hit["kind"] == "case") {
            let Some(id) = hit["id"].as_str() else { continue };
            hit["status"] = json!(api.case(&view, id).await.map_err(open::problem)?.status);
        }
        table(context.output, &hits, HITS)?;
    }
    if found.more {
        context.output.words("There is more: narrow the search.");
    }
    Ok(Exit::Fine)
}

/// What is read, in this scope.
pub fn view(scope: &Scope) -> View {
    View { within: Within { mode: scope.mode, source: scope.source.clone() }, at: scope.at }
}

/// Prints a list, asking for page after page.
///
/// # Errors
///
/// When the views cannot be read, or nobody reads the output any more.
pub async fn list<T: Serialize>(
    context: &Context,
    wanted: &args::Page,
    columns: &[Column],
    pages: impl AsyncFn(PageRequest) -> Result<Page<T>, Problem>,
) -> anyhow::Result<()> {
    let most = if wanted.all { usize::MAX } else { wanted.limit };
    let mut rows: Vec<Value> = Vec::new();
    let mut after = None;
    let more = loop {
        let limit = u32::try_from(most - rows.len()).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        if limit == 0 {
            break true;
        }
        let page = pages(PageRequest { limit, after }).await.map_err(open::problem)?;
        rows.extend(page.data.iter().map(|row| json!(row)));
        after = page.next;
        if after.is_none() {
            break false;
        }
    };
    if context.output.json {
        for row in &rows {
            context.output.value(row)?;
        }
    } else if rows.is_empty() {
        context.output.words("None.");
    } else {
        table(context.output, &rows, columns)?;
    }
    if more {
        context.output.words(format!("The first {} are shown; --limit or --all shows more.", rows.len()));
    }
    Ok(())
}

/// Prints rows as a table.
///
/// # Errors
///
/// When nobody reads the output any more.
pub fn table(output: Output, rows: &[Value], columns: &[Column]) -> std::io::Result<()> {
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    let cells = |row: &Value| columns.iter().map(|(_, places)| in_places(row, places)).collect();
    output.table(&heads, rows.iter().map(cells).collect())
}

/// What stands in these places of a row, see [`Column`].
fn in_places(row: &Value, places: &str) -> String {
    let held = |at: &str| row.pointer(at).filter(|value| !value.is_null()).map(cell);
    let joined = |places: &str| Some(places.split('+').filter_map(held).collect::<Vec<_>>().join(": "));
    let mut found = places.split(' ').filter_map(joined).filter(|text| !text.is_empty());
    found.next().unwrap_or_else(|| cell(&Value::Null))
}

/// Prints one thing: its plain values one on each line, then its lists as tables.
///
/// # Errors
///
/// When nobody reads the output any more.
pub fn detail(output: Output, one: &Value) -> std::io::Result<()> {
    if output.json {
        return output.value(one);
    }
    let Value::Object(fields) = one else { return output.line(cell(one)) };
    let mut fields = fields.clone();
    lift_obligations(&mut fields);
    let is_inner = |name: &str| INNER.iter().any(|(inner, _)| *inner == name);
    let is_empty = |value: &Value| {
        value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
    };
    let plain: Vec<Vec<String>> = fields
        .iter()
        .filter(|(name, value)| !is_inner(name) && !is_empty(value))
        .map(|(name, value)| vec![name.clone(), cell(value)])
        .collect();
    output.table(&["FIELD", "VALUE"], plain)?;
    for (name, columns) in INNER {
        let rows = fields.get(*name).and_then(Value::as_array).filter(|rows| !rows.is_empty());
        if let Some(rows) = rows {
            output.line("")?;
            table(output, rows, columns)?;
        }
    }
    Ok(())
}

/// What is owed for the purchases of a customer stands in them. As a table of its own it can be read.
fn lift_obligations(fields: &mut Map<String, Value>) {
    let Some(purchases) = fields.get("purchases").and_then(Value::as_array) else { return };
    let owed = purchases.iter().filter_map(|purchase| purchase["obligations"].as_array()).flatten().cloned();
    let owed: Vec<Value> = owed.collect();
    fields.insert("obligations".to_owned(), Value::Array(owed));
}

/// A value for a person. Times lose their fractions of a second; what is not there is a dash.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => readable_time(text).unwrap_or_else(|| text.clone()),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            if let Ok(money) = serde_json::from_value::<Money>(value.clone()) {
                return money.to_string();
            }
            let pair = |(name, value): (&String, &Value)| format!("{name}={}", cell(value));
            fields.iter().map(pair).collect::<Vec<_>>().join(" ")
        }
    }
}

/// `2026-03-01 09:14:03Z`, if the text is a time.
fn readable_time(text: &str) -> Option<String> {
    // Ids and names never begin like a date, and parsing each of them would be a waste.
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.ends_with('Z') || text.len() < 20 {
        return None;
    }
    let at: Timestamp = text.parse().ok()?;
    Some(at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cell_is_the_first_place_that_holds_something_or_all_that_are_joined() {
        let places = "/purchase/stripe_id /subject";
        assert_eq!(in_places(&json!({"purchase": {"stripe_id": "sub_1"}, "subject": "x"}), places), "sub_1");
        assert_eq!(in_places(&json!({"purchase": null, "subject": "re_1"}), places), "re_1");
        assert_eq!(in_places(&json!({}), places), "–");
        assert_eq!(in_places(&json!({"cause": "a", "detail": "b"}), "/cause+/detail"), "a: b");
        assert_eq!(in_places(&json!({"cause": "a", "detail": null}), "/cause+/detail"), "a");
        assert_eq!(in_places(&json!({}), "/cause+/detail"), "–");
    }

    #[test]
    fn what_is_owed_is_shown_beside_the_purchases() {
        let mut customer = json!({"purchases": [{"obligations": [{"unit": "a"}]}, {"obligations": [{"unit": "b"}]}]});
        lift_obligations(customer.as_object_mut().unwrap());
        assert_eq!(customer["obligations"], json!([{"unit": "a"}, {"unit": "b"}]));
    }

    #[test]
    fn cells_are_for_people() {
        for (value, text) in [
            (json!(null), "–"),
            (json!(true), "yes"),
            (json!("sub_1"), "sub_1"),
            (json!("2026-03-01T09:14:03.123Z"), "2026-03-01 09:14:03Z"),
            (json!({"amount_minor": 4900, "currency": "eur"}), "49.00 EUR"),
            (json!(["f1", "f2"]), "f1, f2"),
            (json!({"mode": "live"}), "mode=live"),
        ] {
            assert_eq!(cell(&value), text);
        }
    }
}
