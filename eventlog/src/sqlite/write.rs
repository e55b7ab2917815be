//! The statements of one writing transaction, and the look-up after a commit of unknown outcome.
//!
//! A group takes few of them, however many requests it has: what each costs beside its rows is the way to the thread that
//! SQLite works on, and back.

use std::collections::HashMap;
use std::sync::LazyLock;

use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::ids::{AccountId, EventId, StreamId};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Sqlite, SqliteConnection, Transaction};

use super::schema;
use crate::group::Witness;
use crate::log::{Head, LogError};
use crate::plan::{Known, Needs, StateKey};
use crate::sql::{self, PlaceRow, StoredState, integer};
use crate::state::StateRow;

/// How many rows a statement is about, most first. These few sizes make up any number, and the connection keeps a statement
/// of each prepared.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// Bodies bound to one statement, beyond which another follows.
const STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

static IDS: LazyLock<Texts> =
    LazyLock::new(|| Texts::new("select id, position, content_hash from event where id in (values ", 1, ")"));

/// For each stream apart: the end of its index is read, not all of it.
static VERSIONS: LazyLock<Texts> = LazyLock::new(|| {
    let after = "), known as (select stream, \
         (select max(version) from event where event.stream = wanted.stream) as version from wanted) \
         select stream, version from known where version is not null";
    Texts::new("with wanted (stream) as (values ", 1, after)
});

static REVISIONS: LazyLock<Texts> = LazyLock::new(|| {
    let after = ") select state.namespace, state.key, state.revision from wanted \
         cross join state on state.namespace = wanted.namespace and state.key = wanted.key";
    Texts::new("with wanted (namespace, key) as (values ", 2, after)
});

static INSERT_EVENTS: LazyLock<Texts> = LazyLock::new(|| {
    let before = "insert into event (position, id, stream, version, kind, source, account, mode, occurred_at, \
         recorded_at, causation_id, correlation_id, schema_version, actor, partition, delivery, data, content_hash, \
         chain, key_id) values ";
    Texts::new(before, 20, "")
});

static PUT_ROWS: LazyLock<Texts> = LazyLock::new(|| {
    let after = " on conflict (namespace, key) do update \
         set value = excluded.value, due_at = excluded.due_at, revision = excluded.revision";
    Texts::new("insert into state (namespace, key, value, due_at, revision) values ", 5, after)
});

static DELETE_ROWS: LazyLock<Texts> =
    LazyLock::new(|| Texts::new("delete from state where (namespace, key) in (values ", 2, ")"));

const SETTLE: &str = "update log_meta set settled = settled + 1 where id = 1";

/// A statement for each of the [`SIZES`].
struct Texts([String; SIZES.len()]);

impl Texts {
    /// With so many rows of so many columns between `before` and `after`.
    fn new(before: &str, columns: usize, after: &str) -> Self {
        let row = format!("({})", vec!["?"; columns].join(", "));
        Self(SIZES.map(|size| format!("{before}{}{after}", vec![row.as_str(); size].join(", "))))
    }

    /// The rows that the next statement is about, its text, and the rows that are left. None of either when there are no
    /// more.
    fn next<'r, R>(&'static self, rows: &'r [R]) -> Option<(&'static str, &'r [R], &'r [R])> {
        let (size, text) = SIZES.iter().zip(&self.0).find(|(size, _)| **size <= rows.len())?;
        let (these, rest) = rows.split_at(*size);
        Some((text, these, rest))
    }
}

pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Head, LogError> {
    PlaceRow::head(sqlx::query_as(sql::HEAD).fetch_optional(connection).await?)
}

/// Looks up what must be known before anything is planned.
pub(super) async fn learn(connection: &mut SqliteConnection, known: &mut Known, needs: Needs) -> Result<(), LogError> {
    let ids: Vec<EventId> = needs.ids.into_iter().collect();
    let mut rest = ids.as_slice();
    while let Some((text, ids, later)) = IDS.next(rest) {
        let mut query = sqlx::query_as(text);
        for id in ids {
            query = query.bind(id.as_str());
        }
        let found: Vec<(String, i64, Vec<u8>)> = query.fetch_all(&mut *connection).await?;
        for (id, position, hash) in found {
            known.ids.insert(EventId::new(id), Some(PlaceRow::new(position, hash).place()?));
        }
        rest = later;
    }
    let streams: Vec<StreamId> = needs.streams.into_iter().collect();
    let mut rest = streams.as_slice();
    while let Some((text, streams, later)) = VERSIONS.next(rest) {
        let mut query = sqlx::query_as(text);
        for stream in streams {
            query = query.bind(stream.as_str());
        }
        let found: Vec<(String, i64)> = query.fetch_all(&mut *connection).await?;
        known
            .versions
            .extend(found.into_iter().map(|(stream, version)| (StreamId::new(stream), version.unsigned_abs())));
        rest = later;
    }
    let rows: Vec<StateKey> = needs.rows.into_iter().collect();
    let mut rest = rows.as_slice();
    while let Some((text, rows, later)) = REVISIONS.next(rest) {
        let mut query = sqlx::query_as(text);
        for (namespace, key) in rows {
            query = query.bind(namespace.as_str()).bind(key.as_str());
        }
        let found: Vec<(String, String, i64)> = query.fetch_all(&mut *connection).await?;
        known
            .revisions
            .extend(found.into_iter().map(|(namespace, key, revision)| ((namespace, key), revision.unsigned_abs())));
        rest = later;
    }
    Ok(())
}

/// Writes what a group planned: its events, and the last change of each state row.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    events: &[Recorded],
    rows: &HashMap<StateKey, Option<StateRow>>,
) -> Result<(), LogError> {
    let mut rest = events;
    while let Some((text, events, _)) = INSERT_EVENTS.next(&rest[..one_statement(rest)]) {
        insert(connection, text, events).await?;
        rest = &rest[events.len()..];
    }
    let put: Vec<&StateRow> = rows.values().flatten().collect();
    let mut rest = put.as_slice();
    while let Some((text, rows, later)) = PUT_ROWS.next(rest) {
        let mut query = sqlx::query(text);
        for row in rows {
            query = query
                .bind(&row.namespace)
                .bind(&row.key)
                .bind(&row.value)
                .bind(row.due_at.map(sql::time))
                .bind(integer(row.revision));
        }
        query.execute(&mut *connection).await?;
        rest = later;
    }
    let gone: Vec<&StateKey> = rows.iter().filter(|(_, row)| row.is_none()).map(|(key, _)| key).collect();
    let mut rest = gone.as_slice();
    while let Some((text, keys, later)) = DELETE_ROWS.next(rest) {
        let mut query = sqlx::query(text);
        for (namespace, key) in keys {
            query = query.bind(namespace).bind(key);
        }
        query.execute(&mut *connection).await?;
        rest = later;
    }
    Ok(())
}

/// How many of `events` may go with one statement.
fn one_statement(events: &[Recorded]) -> usize {
    let mut bytes = 0;
    let within = events.iter().take_while(|event| {
        bytes += event.data.len();
        bytes <= STATEMENT_BYTES_MAX
    });
    within.count().max(1).min(events.len())
}

async fn insert(connection: &mut SqliteConnection, text: &'static str, events: &[Recorded]) -> Result<(), LogError> {
    let mut query = sqlx::query(text);
    for event in events {
        let delivery = event.delivery.as_ref().map(serde_json::to_string).transpose();
        let delivery = delivery.map_err(|error| sqlx::Error::Encode(error.into()))?;
        query = query
            .bind(integer(event.position))
            .bind(event.id.as_str())
            .bind(event.stream.as_str())
            .bind(integer(event.version))
            .bind(&event.kind)
            .bind(event.scope.source.as_str())
            .bind(event.scope.account.as_ref().map(AccountId::as_str))
            .bind(event.scope.mode.as_str())
            .bind(sql::time(event.occurred_at))
            .bind(sql::time(event.recorded_at))
            .bind(event.causation_id.as_ref().map(EventId::as_str))
            .bind(event.correlation_id.as_ref().map(EventId::as_str))
            .bind(i64::from(event.schema_version))
            .bind(event.actor.as_deref())
            .bind(i64::from(event.partition))
            .bind(delivery)
            .bind(&event.data)
            .bind(&event.content_hash[..])
            .bind(&event.chain[..])
            .bind(event.key_id.as_deref());
    }
    query.execute(connection).await?;
    Ok(())
}

/// Whether a transaction whose commit failed is in the file after all.
///
/// It looks in a writing transaction and commits that: a commit record that the failed one may have left at the end of
/// the WAL, and that a recovery could bring back, is then overwritten, and the answer stays true.
pub(super) async fn look(connect: &SqliteConnectOptions, witness: &Witness) -> Result<bool, LogError> {
    let mut connection = schema::connect(connect).await?;
    let mut transaction = connection.begin_with("begin immediate").await?;
    let committed = seen(&mut transaction, witness).await?;
    touch(&mut transaction).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(committed)
}

/// Writes something that means nothing, so that the commit writes, and syncs, to the file.
pub(super) async fn touch(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), LogError> {
    sqlx::query(SETTLE).execute(&mut **transaction).await?;
    Ok(())
}

async fn seen(transaction: &mut Transaction<'_, Sqlite>, witness: &Witness) -> Result<bool, LogError> {
    if let Some((position, chain)) = witness.event {
        let query = sqlx::query_scalar(sql::CHAIN).bind(integer(position));
        let found: Option<Vec<u8>> = query.fetch_optional(&mut **transaction).await?;
        return Ok(found.is_some_and(|found| found == chain));
    }
    for ((namespace, key), expected) in &witness.rows {
        let query = sqlx::query_as(sql::STATE).bind(namespace).bind(key);
        let row: Option<StoredState> = query.fetch_optional(&mut **transaction).await?;
        if row.map(StoredState::row).transpose()? != *expected {
            return Ok(false);
        }
    }
    Ok(true)
}
