//! What stands in a log's database, read past keyledger.

use std::collections::BTreeMap;

use keyledger_test_servers::Postgres;
use serde_json::Value;
use sqlx::{Connection, Row, SqliteConnection};

use super::machine::{Machine, Service};
use crate::support::stub::Stub;

/// What the issuer keeps beside the log: by namespace and key, the value and when it wants attention.
pub type State = BTreeMap<(String, String), (Value, Option<String>)>;

/// State rows that a service makes for itself, and nobody misses. Everything else must come of the log.
const OF_A_PROCESS: [&str; 2] = ["lease", "checkpoint"];

const STATE: &str = "select namespace, key, value, due_at from state order by namespace, key";

/// The state rows of a log in a file.
pub async fn state_in_file(machine: &Machine, name: &str) -> State {
    let mut database = SqliteConnection::connect(&machine.sqlite(name)).await.unwrap();
    let rows = sqlx::query(STATE).fetch_all(&mut database).await.unwrap();
    database.close().await.unwrap();
    let rows = rows.iter().map(|row| (row.get(0), row.get(1), row.get::<Vec<u8>, _>(2), row.get(3)));
    of_the_log(rows)
}

/// The state rows of a log on a server.
pub async fn state_on_server(server: &Postgres) -> State {
    let url = format!("{}?options=-csearch_path%3Dkeyledger_log", server.url());
    let mut database = sqlx::PgConnection::connect(&url).await.unwrap();
    let rows = sqlx::query(STATE).fetch_all(&mut database).await.unwrap();
    database.close().await.unwrap();
    let rows = rows.iter().map(|row| (row.get(0), row.get(1), row.get::<Vec<u8>, _>(2), row.get(3)));
    of_the_log(rows)
}

fn of_the_log(rows: impl Iterator<Item = (String, String, Vec<u8>, Option<String>)>) -> State {
    let rows = rows.filter(|(namespace, ..)| !OF_A_PROCESS.contains(&namespace.as_str()));
    rows.map(|(namespace, key, value, due_at)| ((namespace, key), (read(&value), due_at))).collect()
}

/// A value is JSON, or plain text.
fn read(value: &[u8]) -> Value {
    serde_json::from_slice(value).unwrap_or_else(|_| String::from_utf8(value.to_vec()).unwrap().into())
}

/// Row by row the same.
#[track_caller]
pub fn assert_same_state(before: &State, after: &State) {
    for (key, row) in before {
        assert_eq!(after.get(key), Some(row), "{key:?} is not what it was");
    }
    for key in after.keys() {
        assert!(before.contains_key(key), "{key:?} was not there");
    }
}

/// Everything that a user of the API sees of what was sold.
pub async fn shown(service: &Service) -> Value {
    let mut shown = serde_json::Map::new();
    for list in ["licenses", "customers", "subscriptions", "cases"] {
        let mut rows = Vec::new();
        for row in service.list(&format!("/{list}?at=2026-08-02T00:00:00Z")).await {
            let id = row["id"].as_str().unwrap();
            rows.push(service.get(&format!("/{list}/{id}?at=2026-08-02T00:00:00Z")).await);
            rows.push(row);
        }
        assert!(list == "cases" || !rows.is_empty(), "there are no {list}");
        shown.insert(list.to_owned(), rows.into());
    }
    shown.insert("events".to_owned(), service.list("/events?type=*").await.into());
    shown.into()
}

/// What an engine was asked to make or change. Looking up is free.
pub async fn asked_for(stub: &Stub) -> Value {
    let mut stats = stub.stats().await;
    let calls = stats["calls"].as_object_mut().unwrap();
    calls.retain(|operation, _| operation == "create" || operation == "change");
    stats
}
