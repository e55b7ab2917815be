//! The statements of one writing transaction, and the look-up after a commit of unknown outcome.
//!
//! A group costs a handful of round trips however many appends are in it: what must be known is asked for at once, and
//! what is planned is written at once.

use std::collections::HashMap;

use keyledger_schemas::envelope::{Hash, Position, Recorded};
use keyledger_schemas::ids::{AccountId, EventId, StreamId};
use sqlx::{Connection, PgConnection};

use super::session::{Server, within};
use crate::group::Witness;
use crate::log::{Head, LogError};
use crate::plan::{Known, Needs, StateKey};
use crate::sql::{self, PlaceRow, StoredState, integer};
use crate::state::StateRow;

/// Bodies sent with one statement, beyond which another follows: a message of PostgreSQL has at most a gigabyte.
const STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first statement of every append: whoever has the row is alone until its transaction ends. It also gives the
/// chain value of a position that was seen before.
const LOCK_HEAD: &str = "select position, chain, (select event.chain from event where event.position = $1) \
     from log_head where id = 1 for update";

const IDS: &str = "select id, position, content_hash from event where id = any($1)";

/// For each stream apart: the end of its index is read, not all of it.
const VERSIONS: &str = "select wanted.stream, \
     (select coalesce(max(version), 0) from event where event.stream = wanted.stream) \
     from unnest($1::text[]) as wanted (stream)";

const REVISIONS: &str = "select state.namespace, state.key, state.revision \
     from unnest($1::text[], $2::text[]) as wanted (namespace, key) \
     join state on state.namespace = wanted.namespace and state.key = wanted.key";

const INSERT_EVENTS: &str = "insert into event (position, id, stream, version, kind, source, account, mode, occurred_at, \
     recorded_at, causation_id, correlation_id, schema_version, actor, partition, delivery, data, content_hash, chain, \
     key_id) \
     select * from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], \
     $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::bigint[], $14::text[], $15::bigint[], \
     $16::text[], $17::bytea[], $18::bytea[], $19::bytea[], $20::text[])";

const PUT_ROWS: &str = "insert into state (namespace, key, value, due_at, revision) \
     select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::bigint[]) \
     on conflict (namespace, key) do update \
     set value = excluded.value, due_at = excluded.due_at, revision = excluded.revision";

const DELETE_ROWS: &str = "delete from state using unnest($1::text[], $2::text[]) as gone (namespace, key) \
     where state.namespace = gone.namespace and state.key = gone.key";

/// The last statement before the commit. The commit itself is not to be cut short: a server that waits for a standby
/// would then say that it is done.
const MOVE_HEAD: &str = "with moved as (update log_head set position = $1, chain = $2 where id = 1) \
     select pg_notify('keyledger_log', $1::text || ' ' || encode($2, 'hex')), \
         set_config('statement_timeout', '0', true)";

/// Locks the head, and gives it with the chain value at `seen`, if the log has that position.
pub(super) async fn lock_head(connection: &mut PgConnection, seen: Position) -> Result<(Head, Option<Hash>), LogError> {
    let query = sqlx::query_as(LOCK_HEAD).bind(integer(seen));
    let (position, chain, chain_seen): (i64, Vec<u8>, Option<Vec<u8>>) = query.fetch_one(connection).await?;
    let head = PlaceRow::head(Some(PlaceRow::new(position, chain)))?;
    Ok((head, chain_seen.map(|chain| sql::chain(seen, chain)).transpose()?))
}

async fn chain_at(connection: &mut PgConnection, position: Position) -> Result<Option<Hash>, LogError> {
    let query = sqlx::query_scalar(sql::CHAIN).bind(integer(position));
    let chain: Option<Vec<u8>> = query.fetch_optional(connection).await?;
    chain.map(|chain| sql::chain(position, chain)).transpose()
}

/// Looks up what must be known before anything is planned.
pub(super) async fn learn(connection: &mut PgConnection, known: &mut Known, needs: Needs) -> Result<(), LogError> {
    if !needs.ids.is_empty() {
        let ids: Vec<&str> = needs.ids.iter().map(EventId::as_str).collect();
        let found: Vec<(String, i64, Vec<u8>)> = sqlx::query_as(IDS).bind(ids).fetch_all(&mut *connection).await?;
        for (id, position, hash) in found {
            known.ids.insert(EventId::new(id), Some(PlaceRow::new(position, hash).place()?));
        }
    }
    if !needs.streams.is_empty() {
        let streams: Vec<&str> = needs.streams.iter().map(StreamId::as_str).collect();
        let found: Vec<(String, i64)> = sqlx::query_as(VERSIONS).bind(streams).fetch_all(&mut *connection).await?;
        known
            .versions
            .extend(found.into_iter().map(|(stream, version)| (StreamId::new(stream), version.unsigned_abs())));
    }
    if !needs.rows.is_empty() {
        let (namespaces, keys): (Vec<&str>, Vec<&str>) =
            needs.rows.iter().map(|(namespace, key)| (namespace.as_str(), key.as_str())).unzip();
        let query = sqlx::query_as(REVISIONS).bind(namespaces).bind(keys);
        let found: Vec<(String, String, i64)> = query.fetch_all(connection).await?;
        known
            .revisions
            .extend(found.into_iter().map(|(namespace, key, revision)| ((namespace, key), revision.unsigned_abs())));
    }
    Ok(())
}

/// Writes what a group planned: its events, the last change of each state row, and where the log now ends.
pub(super) async fn apply(
    connection: &mut PgConnection,
    events: &[Recorded],
    rows: &HashMap<StateKey, Option<StateRow>>,
    head: Head,
) -> Result<(), LogError> {
    let mut rest = events;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(one_statement(rest));
        insert(connection, now).await?;
        rest = later;
    }
    let put: Vec<&StateRow> = rows.values().flatten().collect();
    if !put.is_empty() {
        let due_at: Vec<Option<String>> = put.iter().map(|row| row.due_at.map(sql::time)).collect();
        sqlx::query(PUT_ROWS)
            .bind(column(&put, |row| row.namespace.as_str()))
            .bind(column(&put, |row| row.key.as_str()))
            .bind(column(&put, |row| row.value.as_slice()))
            .bind(due_at)
            .bind(column(&put, |row| integer(row.revision)))
            .execute(&mut *connection)
            .await?;
    }
    let gone = rows.iter().filter(|(_, row)| row.is_none());
    let (namespaces, keys): (Vec<&str>, Vec<&str>) = gone.map(|((namespace, key), _)| (&**namespace, &**key)).unzip();
    if !keys.is_empty() {
        sqlx::query(DELETE_ROWS).bind(namespaces).bind(keys).execute(&mut *connection).await?;
    }
    sqlx::query(MOVE_HEAD).bind(integer(head.position)).bind(&head.chain[..]).execute(connection).await?;
    Ok(())
}

/// How many of `events`, which are not none, go with one statement.
fn one_statement(events: &[Recorded]) -> usize {
    let mut bytes = 0;
    let within = events.iter().take_while(|event| {
        bytes += event.data.len();
        bytes <= STATEMENT_BYTES_MAX
    });
    within.count().max(1)
}

async fn insert(connection: &mut PgConnection, events: &[Recorded]) -> Result<(), LogError> {
    let events: Vec<&Recorded> = events.iter().collect();
    let mut deliveries = Vec::with_capacity(events.len());
    for event in &events {
        let delivery = event.delivery.as_ref().map(serde_json::to_string).transpose();
        deliveries.push(delivery.map_err(|error| sqlx::Error::Encode(error.into()))?);
    }
    sqlx::query(INSERT_EVENTS)
        .bind(column(&events, |event| integer(event.position)))
        .bind(column(&events, |event| event.id.as_str()))
        .bind(column(&events, |event| event.stream.as_str()))
        .bind(column(&events, |event| integer(event.version)))
        .bind(column(&events, |event| event.kind.as_str()))
        .bind(column(&events, |event| event.scope.source.as_str()))
        .bind(column(&events, |event| event.scope.account.as_ref().map(AccountId::as_str)))
        .bind(column(&events, |event| event.scope.mode.as_str()))
        .bind(column(&events, |event| sql::time(event.occurred_at)))
        .bind(column(&events, |event| sql::time(event.recorded_at)))
        .bind(column(&events, |event| event.causation_id.as_ref().map(EventId::as_str)))
        .bind(column(&events, |event| event.correlation_id.as_ref().map(EventId::as_str)))
        .bind(column(&events, |event| i64::from(event.schema_version)))
        .bind(column(&events, |event| event.actor.as_deref()))
        .bind(column(&events, |event| i64::from(event.partition)))
        .bind(deliveries)
        .bind(column(&events, |event| event.data.as_slice()))
        .bind(column(&events, |event| &event.content_hash[..]))
        .bind(column(&events, |event| &event.chain[..]))
        .bind(column(&events, |event| event.key_id.as_deref()))
        .execute(connection)
        .await?;
    Ok(())
}

/// One column of many rows.
fn column<'r, R, T>(rows: &[&'r R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// Whether a transaction whose commit failed is in the database after all.
///
/// It waits for the head row: the failed transaction held it, and if the server still works on that one, it has it
/// still. Once it is free the outcome is decided, and stays.
pub(super) async fn look(server: &Server, witness: &Witness) -> Result<bool, LogError> {
    let mut connection = server.for_writing().await?;
    within(server.timeout, async {
        let mut transaction = connection.begin().await?;
        lock_head(&mut transaction, 0).await?;
        let committed = seen(&mut transaction, witness).await?;
        transaction.rollback().await?;
        connection.close().await?;
        Ok(committed)
    })
    .await
}

async fn seen(connection: &mut PgConnection, witness: &Witness) -> Result<bool, LogError> {
    if let Some((position, chain)) = witness.event {
        return Ok(chain_at(connection, position).await? == Some(chain));
    }
    for ((namespace, key), expected) in &witness.rows {
        let query = sqlx::query_as(sql::STATE).bind(namespace).bind(key);
        let row: Option<StoredState> = query.fetch_optional(&mut *connection).await?;
        if row.map(StoredState::row).transpose()? != *expected {
            return Ok(false);
        }
    }
    Ok(true)
}
