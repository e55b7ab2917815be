//! A small shop in the views and the log: one healthy customer, one charged without a key.
//!
//! Ana pays for `sub_ana` and has a key; Li paid for `sub_li` and has none. Ana also has a license that Cryptolens made,
//! and Bo bought in test mode.

use jiff::Timestamp;
use keyledger_engine::{key::LicenseKey, seal};
use keyledger_eventlog::testing::event;
use keyledger_projector::facts::{CustomerFacts, ObjectFacts, SubscriptionFacts};
use keyledger_projector::{PROJECTION_VERSION, SCHEMA_VERSION};
use keyledger_schemas::envelope::NewEvent;
use keyledger_schemas::event::{
    Action, Event, LicenseIssued, LicenseNotDone, LicenseTerms, NotDone, SETTINGS_STREAM, SettingsChanged,
};
use keyledger_schemas::ids::{CaseId, LicenseId, Mode, PurchaseId, Scope, SourceName, UnitId};
use keyledger_schemas::stripe::fact::SubscriptionSeen;
use keyledger_test_servers::Postgres;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::app::{self, App, at, keys};

/// Runs each of these tests over the shop, with its views on both engines.
#[macro_export]
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::shop::open().await).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name($crate::shop::open_on_postgres().await).await;
            })*
        }
    };
}

const SQLITE: &str = include_str!("../../../projector/migrations/sqlite/0001_views.sql");
const POSTGRES: &str = include_str!("../../../projector/migrations/postgres/0001_views.sql");

pub fn scope() -> Scope {
    Scope::new(SourceName::default(), Mode::Live)
}

pub fn unit(subscription: &str) -> UnitId {
    PurchaseId::new(scope(), subscription).unit("si_1", 1)
}

/// Ana's license.
pub fn license() -> LicenseId {
    unit("sub_ana").license(1)
}

pub fn key() -> LicenseKey {
    LicenseKey::derive(&keys(), license())
}

/// Li's open case.
pub fn no_key() -> CaseId {
    CaseId::derive("no_key", &unit("sub_li").to_string())
}

/// An advisory case about an object of no known purchase.
pub fn unrouted() -> CaseId {
    CaseId::derive("unrouted", "default:-:live:re_1")
}

/// A case about a license of Cryptolens's that nobody paid for.
pub fn surplus() -> CaseId {
    CaseId::derive("surplus_key", &surplus_subject())
}

fn surplus_subject() -> String {
    format!("{}/cryptolens/777", unit("sub_ana"))
}

/// A case that closed by itself.
pub fn closed() -> CaseId {
    CaseId::derive("no_key", &unit("sub_ana").to_string())
}

/// Writes another cause into Li's case.
pub async fn cause(app: &App, cause: &str, awaits_issuer: bool) {
    let (awaits, id) = (i64::from(awaits_issuer), no_key());
    run(app, &format!("update casefile set cause = '{cause}', awaits_issuer = {awaits} where id = '{id}'")).await;
}

/// Gives a subscription other metadata.
pub async fn metadata(app: &App, subscription: &str, metadata: &Value) {
    let customer = subscription.replace("sub_", "cus_");
    let facts = subscription_facts(&SubscriptionSeen {
        metadata: serde_json::from_value(metadata.clone()).unwrap(),
        ..snapshot(subscription, &customer)
    });
    run(app, &format!("update object set facts = '{facts}' where kind = 'subscription' and id = '{subscription}'"))
        .await;
}

/// Runs statements on the views, behind everybody's back.
pub async fn run(app: &App, statements: &str) {
    // Its own lines would hold what the lines of the API must not.
    if app.server.is_some() {
        let options: PgConnectOptions = app.views_url.parse().unwrap();
        let mut db = options.disable_statement_logging().connect().await.unwrap();
        let statements = format!("set search_path = keyledger_views; {statements}");
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    } else {
        let options: SqliteConnectOptions = app.views_url.parse().unwrap();
        let options = options.create_if_missing(true).disable_statement_logging();
        let mut db = options.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    }
}

/// A running API over the shop.
pub async fn open() -> App {
    furnish(app::start().await).await
}

/// The same, with its views on a server of its own.
pub async fn open_on_postgres() -> App {
    furnish(app::start_on(Postgres::start_with(&["fsync=off"])).await).await
}

async fn furnish(app: App) -> App {
    let issued = issued();
    let sealed = match Event::decode(&issued.kind, &issued.data).unwrap() {
        Some(Event::LicenseIssued(issued)) => issued.key.unwrap(),
        other => panic!("{other:?}"),
    };
    let filler = (1..=9).map(|number| event(&format!("default:-:live:evt_{number}:2024-06-20"), "stripe:x", "{}"));
    app.append(filler.map(|event| NewEvent { kind: "stripe.invoice.paid".to_owned(), ..event }).collect()).await;
    app.append(vec![issued]).await;

    let on_server = app.server.is_some();
    let schema = if on_server { format!("create schema keyledger_views; {POSTGRES}") } else { SQLITE.to_owned() };
    let mut db = Rows { no_bytes: if on_server { "''" } else { "x''" }, statements: schema };
    let meta = json!({"id": 1, "schema_version": SCHEMA_VERSION, "projection_version": PROJECTION_VERSION});
    db.insert("view_meta", &meta);
    db.insert("checkpoint", &json!({"name": "projector", "position": 10, "chain": ""}));
    customers(&mut db);
    elsewhere(&mut db);
    subscriptions(&mut db);
    licenses(&mut db, &serde_json::to_value(sealed).unwrap());
    cases(&mut db);
    run(&app, &db.statements).await;
    app
}

/// The event that issued Ana's license, with its sealed key.
fn issued() -> NewEvent {
    let id = "issued-1".into();
    let terms = LicenseTerms {
        paid_until: Some(at("2026-04-01T00:00:00Z")),
        expires_at: Some(at("2026-04-04T00:00:00Z")),
        seats: 3,
        features: ["f3".to_owned()].into(),
    };
    let issued = Event::LicenseIssued(LicenseIssued {
        unit: unit("sub_ana"),
        generation: 1,
        license: license(),
        provider: "builtin".into(),
        provider_id: license().to_string(),
        product: "pro".to_owned(),
        key: Some(seal::seal(&keys(), &id, &key().to_secret())),
        terms,
        found: false,
        also: [].into(),
    });
    let stream = unit("sub_ana").purchase.stream();
    let plain = event(id.as_str(), stream.as_str(), issued.encode());
    NewEvent { kind: issued.kind().to_owned(), occurred_at: at("2026-03-01T00:00:05Z"), ..plain }
}

/// The event that another license for Ana was not made.
pub fn not_made(answer: NotDone) -> NewEvent {
    let not_done = Event::LicenseNotDone(LicenseNotDone {
        unit: unit("sub_ana"),
        license: unit("sub_ana").license(2),
        attempt: 2,
        action: Action::Create,
        answer,
        reason: "quota reached".to_owned(),
        next_attempt_at: None,
        nothing_found: true,
        unconfigured: false,
    });
    let stream = unit("sub_ana").purchase.stream();
    let plain = event(&format!("not-done-{answer:?}"), stream.as_str(), not_done.encode());
    NewEvent { kind: not_done.kind().to_owned(), ..plain }
}

/// Recorded settings with one source, `second`, and these fields beside it.
pub fn settings(fields: &Value) -> NewEvent {
    let mut settings = json!({"sources": {"second": {"mode": "live"}}});
    settings.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let changed = Event::SettingsChanged(SettingsChanged { settings: serde_json::from_value(settings).unwrap() });
    NewEvent { kind: changed.kind().to_owned(), ..event("settings-1", SETTINGS_STREAM, changed.encode()) }
}

fn customers(db: &mut Rows) {
    let people = [("ana", "Ana Ruiz", "live", "8812"), ("li", "Li Wei", "live", ""), ("bo", "Bo Berg", "test", "")];
    for (number, (id, name, mode, cryptolens)) in people.into_iter().enumerate() {
        let mut facts = CustomerFacts { name: Some(name.to_owned()), ..CustomerFacts::default() };
        if !cryptolens.is_empty() {
            facts.metadata.insert("skm_customer_id".to_owned(), cryptolens.to_owned());
        }
        let id = format!("cus_{id}");
        let email = format!("{}@example.com", &id[4..]);
        let row = json!({
            "scope": format!("default:-:{mode}"), "id": id, "source": "default", "mode": mode, "name": name,
            "name_folded": name.to_lowercase(), "email": email, "facts": serde_json::to_string(&facts).unwrap(),
            "first_position": number + 1, "last_position": number + 1,
            "sort_key": format!("{:020}/{id}", number + 1),
        });
        db.insert("customer", &row);
        let contact =
            json!({"email": email, "scope": format!("default:-:{mode}"), "object_kind": "customer", "object": id});
        db.insert("contact", &contact);
    }
    // Ana and somebody whom Stripe has not shown yet have one address.
    for (customer, shared) in [("cus_ana", 0), ("cus_twin", 1)] {
        let linked = json!({
            "scope": "default:-:live", "customer": customer, "provider": "cryptolens", "id": "9001", "source": "default",
            "mode": "live", "made": 1 - shared, "shared": shared, "linked_at": time("2026-03-01T00:00:00Z"),
            "last_position": 10,
        });
        db.insert("provider_customer", &linked);
    }
}

/// A price that nothing maps, and when Stripe was last asked what is missing.
fn elsewhere(db: &mut Rows) {
    for (purchase, currency, amount_minor) in [("sub_ana", "eur", 900), ("sub_li", "eur", 1100), ("sub_li", "usd", 500)]
    {
        let paid = json!({
            "scope": "default:-:live", "purchase": purchase, "price": "price_other", "currency": currency,
            "source": "default", "mode": "live", "product": "prod_9", "times": 1, "amount_minor": amount_minor,
            "first_paid_at": time("2026-03-01T00:00:00Z"), "means": "nothing",
        });
        db.insert("paid_price", &paid);
    }
    let reconciled = json!({
        "source": "default", "mode": "live", "at": time("2026-03-11T00:00:00Z"), "since": time("2026-02-11T00:00:00Z"),
        "events_seen": 9, "events_appended": 1, "objects_seen": 0, "objects_appended": 0, "last_position": 10,
    });
    db.insert("reconciled", &reconciled);
}

fn subscriptions(db: &mut Rows) {
    for (number, name) in ["ana", "li"].into_iter().enumerate() {
        let (id, customer, position) = (format!("sub_{name}"), format!("cus_{name}"), number + 4);
        let facts = subscription_facts(&snapshot(&id, &customer));
        let object = |kind: &str, id: &str, status: &str, facts: &str| {
            json!({
                "scope": "default:-:live", "kind": kind, "id": id, "source": "default", "mode": "live",
                "purchase": format!("sub_{name}"), "customer": customer, "status": status, "facts": facts,
                "first_position": position, "last_position": position, "sort_key": format!("{position:020}/{kind}/{id}"),
            })
        };
        db.insert("object", &object("subscription", &id, "active", &facts));
        let mut invoice = object("invoice", &format!("in_{name}"), "paid", "{}");
        invoice["amount_minor"] = json!(4900);
        invoice["currency"] = json!("eur");
        invoice["number"] = json!(format!("F4A1-000{position}"));
        invoice["happened_at"] = json!(time("2026-03-01T00:00:00Z"));
        db.insert("object", &invoice);
        let purchase = json!({
            "scope": "default:-:live", "id": id, "source": "default", "mode": "live", "customer": customer, "names": "{}",
            "opened_at": time("2026-03-01T00:00:00Z"), "first_position": position, "last_position": position,
        });
        db.insert("purchase", &purchase);
        let sold = json!({"scope": "default:-:live", "kind": "price", "id": "price_pro", "purchase": id});
        db.insert("sold", &sold);
        let owed = json!({
            "scope": "default:-:live", "purchase": id, "item": "si_1", "number": 1, "source": "default", "mode": "live",
            "paid_until": time("2026-04-01T00:00:00Z"), "has_counting": 1, "charged": 1, "standing": "active",
            "open": if name == "li" { json!("no_key") } else { Value::Null },
            "cause": if name == "li" { json!("provider_refused") } else { Value::Null }, "price": "price_pro",
        });
        db.insert("obligation", &owed);
    }
}

fn subscription_facts(sight: &SubscriptionSeen) -> String {
    let mut facts = SubscriptionFacts::default();
    facts.observe(sight);
    json!({"facts": ObjectFacts::Subscription(Box::new(facts)), "parents": []}).to_string()
}

fn snapshot(id: &str, customer: &str) -> SubscriptionSeen {
    serde_json::from_value(json!({
        "seen": {"at": "2026-03-01T00:00:00Z", "change": "created", "event": "evt_1"},
        "id": id, "customer": customer, "status": "active",
        "items": [{"id": "si_1", "price": {"id": "price_pro", "product": "prod_1"}, "quantity": 3, "metered": false,
            "period_start": "2026-03-01T00:00:00Z", "period_end": "2026-04-01T00:00:00Z"}],
        "items_truncated": false, "metadata": {"team": "Blue"}, "cancel_at": null, "cancel_at_period_end": false,
        "ended_at": null, "trial_end": null, "previous": {},
    }))
    .unwrap()
}

fn licenses(db: &mut Rows, sealed: &Value) {
    let row = |id: String, position: usize| {
        json!({
            "id": id, "scope": "default:-:live", "source": "default", "mode": "live", "purchase": "sub_ana", "item": "si_1",
            "number": position - 6, "generation": 1, "customer": "cus_ana", "state": "active", "seats": 3,
            "features": "[\"f3\"]", "also": "{}", "paid_until": time("2026-04-01T00:00:00Z"), "perpetual": 0,
            "expires_at": time("2026-04-04T00:00:00Z"), "issued_at": time("2026-03-01T00:00:05Z"),
            "sort_key": format!("{position:020}/{id}"),
        })
    };
    let mut ours = row(license().to_string(), 7);
    for (column, value) in [
        ("origin", json!("made")),
        ("provider", json!("builtin")),
        ("provider_id", json!(license().to_string())),
        ("product", json!("pro")),
        ("key_sealed", sealed["sealed"].clone()),
        ("key_id", sealed["key_id"].clone()),
        ("key_hash", sealed["hash"].clone()),
        ("key_last4", sealed["last4"].clone()),
    ] {
        ours[column] = value;
    }
    db.insert("license", &ours);
    let mut adopted = row(unit("sub_adopted").license(1).to_string(), 8);
    adopted["origin"] = json!("adopted");
    adopted["provider"] = json!("cryptolens");
    adopted["provider_id"] = json!("88121");
    adopted["product"] = json!("3349");
    adopted["also"] = json!("{\"globalId\":\"812345\"}");
    db.insert("license", &adopted);
    let ours = ("id", license().to_string(), license());
    let names = [("id", "88121".to_owned()), ("globalId", "812345".to_owned())];
    let adopted = names.map(|(kind, id)| (kind, id, unit("sub_adopted").license(1)));
    for (kind, id, license) in [ours].into_iter().chain(adopted) {
        let license = license.to_string();
        let name =
            json!({"scope": "default:-:live", "purchase": "sub_ana", "license": license, "kind": kind, "id": id});
        db.insert("license_name", &name);
    }
}

fn cases(db: &mut Rows) {
    let case = |id: CaseId, kind: &str, status: &str, subject: String, position: usize| {
        json!({
            "id": id.to_string(), "kind": kind, "status": status, "scope": "default:-:live", "source": "default",
            "mode": "live", "subject": subject, "opened_at": time("2026-03-01T00:00:00Z"), "opened_position": position,
            "visible_from": time("2026-03-01T00:00:00Z"), "last_position": position, "attempts": 0, "awaits_issuer": 0,
            "sort_key": format!("{}/{id}", time(&format!("2026-03-0{position}T00:00:00Z"))),
        })
    };
    let mut open = case(no_key(), "no_key", "open", unit("sub_li").to_string(), 5);
    for (column, value) in [
        ("purchase", json!("sub_li")),
        ("item", json!("si_1")),
        ("number", json!(1)),
        ("customer", json!("cus_li")),
        ("amount_minor", json!(4900)),
        ("currency", json!("eur")),
        ("cause", json!("provider_refused")),
        ("detail", json!("quota reached")),
        ("attempts", json!(4)),
    ] {
        open[column] = value;
    }
    db.insert("casefile", &open);
    db.insert("casefile", &case(unrouted(), "unrouted", "open", "default:-:live:re_1".to_owned(), 6));
    let mut surplus = case(surplus(), "surplus_key", "open", surplus_subject(), 7);
    for (column, value) in [("purchase", json!("sub_ana")), ("item", json!("si_1")), ("number", json!(1))] {
        surplus[column] = value;
    }
    db.insert("casefile", &surplus);
    let mut done = case(closed(), "no_key", "closed", unit("sub_ana").to_string(), 4);
    for (column, value) in [("purchase", json!("sub_ana")), ("item", json!("si_1")), ("number", json!(1))] {
        done[column] = value;
    }
    db.insert("casefile", &done);
}

/// A time as the views write it.
fn time(text: &str) -> String {
    let at: Timestamp = text.parse().unwrap();
    format!("{at:.9}")
}

/// Rows as the statements that write them.
struct Rows {
    /// No bytes at all, as the engine writes them.
    no_bytes: &'static str,
    statements: String,
}

impl Rows {
    fn insert(&mut self, table: &str, row: &Value) {
        let row = row.as_object().unwrap();
        let columns: Vec<&str> = row.keys().map(String::as_str).collect();
        let value = |(column, value): (&String, &Value)| match value {
            Value::String(_) if column == "chain" => self.no_bytes.to_owned(),
            Value::String(text) => format!("'{}'", text.replace('\'', "''")),
            Value::Number(number) => number.to_string(),
            _ => "null".to_owned(),
        };
        let values: Vec<String> = row.iter().map(value).collect();
        let statement = format!("\ninsert into {table} ({}) values ({});", columns.join(", "), values.join(", "));
        self.statements.push_str(&statement);
    }
}
