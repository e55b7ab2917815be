//! Two views held against each other, row by row, of whichever engine they are. One row of each is in memory.

use std::cmp::Ordering;

use super::{DIFFERENCES_MAX, Difference, beside};
use crate::db::Db;
use crate::digest;
use crate::place::Place;
use crate::{ViewsError, sql};

/// Every table that differs.
pub(super) async fn all(live: &mut Db, side: &Place) -> Result<Vec<Difference>, ViewsError> {
    let mut side = beside::reading(side).await?;
    let compared = tables(live, &mut side).await;
    sql::closing(side, compared).await
}

async fn tables(live: &mut Db, side: &mut Db) -> Result<Vec<Difference>, ViewsError> {
    let mut differences = Vec::new();
    for table in digest::TABLES {
        differences.extend(compare(table, live, side).await?);
    }
    Ok(differences)
}

/// Walks both tables in the order of their keys, holding one row of each.
async fn compare(table: &digest::Table, live: &mut Db, side: &mut Db) -> Result<Option<Difference>, ViewsError> {
    let mut found =
        Difference { table: table.name.to_owned(), only_live: 0, only_rebuilt: 0, changed: 0, keys: Vec::new() };
    let (mut left, mut right) = (digest::Rows::of(table, live), digest::Rows::of(table, side));
    let (mut a, mut b) = (left.next().await?, right.next().await?);
    loop {
        let order = match (&a, &b) {
            (None, None) => break,
            (Some(x), Some(y)) => x.key.cmp(&y.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
        };
        let differing = match order {
            Ordering::Equal if a == b => None,
            Ordering::Equal => {
                found.changed += 1;
                a.as_ref()
            }
            Ordering::Less => {
                found.only_live += 1;
                a.as_ref()
            }
            Ordering::Greater => {
                found.only_rebuilt += 1;
                b.as_ref()
            }
        };
        found.keys.extend(differing.filter(|_| found.keys.len() < DIFFERENCES_MAX).map(ToString::to_string));
        if order.is_le() {
            a = left.next().await?;
        }
        if order.is_ge() {
            b = right.next().await?;
        }
    }
    let differs = found.only_live + found.only_rebuilt + found.changed > 0;
    Ok(differs.then_some(found))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use keyledger_eventlog::consumer::{Consumer, Options, Step};
    use keyledger_eventlog::log::{Append, EventLog};
    use keyledger_eventlog::memory::MemoryLog;
    use keyledger_eventlog::tail::SqlTail;
    use keyledger_eventlog::testing::event;
    use keyledger_schemas::clock::ManualClock;
    use keyledger_schemas::envelope::NewEvent;
    use keyledger_schemas::event::{Event, SettingsChanged};
    use keyledger_test_servers::Postgres;
    use serde_json::{Value, json};

    use super::*;
    use crate::{Projector, store};

    /// The settings, and every event of every story in both renderings.
    fn events() -> Vec<NewEvent> {
        let settings = json!({
            "catalog": [{ "product": "pro" }], "sources": { "default": { "mode": "live" } }, "providers": ["builtin"],
        });
        let changed = Event::SettingsChanged(SettingsChanged { settings: serde_json::from_value(settings).unwrap() });
        let settings = NewEvent { kind: changed.kind().to_owned(), ..event("settings", "own", changed.encode()) };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/testdata/stripe");
        let manifest: Value = serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        let stories = manifest["stories"].as_array().unwrap().iter();
        let files = stories.flat_map(|story| story["steps"].as_array().unwrap()).flat_map(|step| {
            let files = step["files"].as_object().unwrap().values();
            files.filter_map(Value::as_str)
        });
        let stripe = files.enumerate().map(|(number, file)| {
            let body = std::fs::read(folder.join(file)).unwrap();
            let read: Value = serde_json::from_slice(&body).unwrap();
            let id = format!("stripe:{number}");
            NewEvent { kind: format!("stripe.{}", read["type"].as_str().unwrap()), ..event(&id, &id, body) }
        });
        std::iter::once(settings).chain(stripe).collect()
    }

    async fn folded(log: &MemoryLog, place: &Place) -> Db {
        let projector = Projector::at(place.clone()).await.unwrap();
        let tail = Arc::new(SqlTail::new(Arc::new(log.clone())));
        let options = Options { batch: 50, ..Options::default() };
        assert_eq!(Consumer::new(projector, tail, options).run_until_idle().await.unwrap(), Step::Idle);
        beside::reading(place).await.unwrap()
    }

    #[tokio::test]
    async fn both_engines_hold_the_same_rows() {
        let log = MemoryLog::new(Arc::new(ManualClock::at("2026-12-01T12:00:00Z".parse().unwrap())));
        log.append(Append::events(events())).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = Postgres::start_with(&["fsync=off"]);
        let file = Place::file(&folder.path().join("views.db"));
        let schema = Place::of(&server.url()).unwrap();
        let (mut one, mut other) = (folded(&log, &file).await, folded(&log, &schema).await);
        assert!(digest::counts(&mut one).await.unwrap()["object"] > 50);
        assert_eq!(tables(&mut one, &mut other).await.unwrap(), []);
        assert_eq!(store::checkpoint(&mut one).await.unwrap(), store::checkpoint(&mut other).await.unwrap());

        // The comparison sees what differs, on either side.
        other.run("update keyledger_views.object set status = 'x' where id = (select min(id) from keyledger_views.object)").await.unwrap();
        other.run("delete from keyledger_views.link").await.unwrap();
        let found = tables(&mut one, &mut other).await.unwrap();
        let found: Vec<_> =
            found.iter().map(|found| (found.table.as_str(), found.changed, found.only_rebuilt)).collect();
        assert_eq!(found, [("object", 1, 0), ("link", 0, 0)]);
    }
}
