//! The statements of one writing transaction, and the look-up after a commit of unknown outcome.

use keyledger_schemas::envelope::Recorded;
use keyledger_schemas::ids::{AccountId, EventId};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Sqlite, SqliteConnection, Transaction};

use super::schema;
use crate::group::Witness;
use crate::log::{Head, LogError};
use crate::plan::{Known, Needs, Plan, RowChange};
use crate::sql::{self, PlaceRow, StoredState, integer};

const SETTLE: &str = "update log_meta set settled = settled + 1 where id = 1";

pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Head, LogError> {
    PlaceRow::head(sqlx::query_as(sql::HEAD).fetch_optional(connection).await?)
}

/// Looks up what must be known before anything is planned.
pub(super) async fn learn(connection: &mut SqliteConnection, known: &mut Known, needs: Needs) -> Result<(), LogError> {
    for id in needs.ids {
        let row: Option<PlaceRow> = sqlx::query_as(sql::ID).bind(id.as_str()).fetch_optional(&mut *connection).await?;
        known.ids.insert(id, row.map(PlaceRow::place).transpose()?);
    }
    for stream in needs.streams {
        let version: i64 = sqlx::query_scalar(sql::VERSION).bind(stream.as_str()).fetch_one(&mut *connection).await?;
        known.versions.insert(stream, version.unsigned_abs());
    }
    for (namespace, key) in needs.rows {
        let query = sqlx::query_scalar(sql::REVISION).bind(&namespace).bind(&key);
        let revision: Option<i64> = query.fetch_optional(&mut *connection).await?;
        known.revisions.insert((namespace, key), revision.unwrap_or(0).unsigned_abs());
    }
    Ok(())
}

/// Writes a plan as it is.
pub(super) async fn apply(connection: &mut SqliteConnection, plan: &Plan) -> Result<(), LogError> {
    for event in &plan.events {
        insert(connection, event).await?;
    }
    for change in &plan.state {
        let query = match change {
            RowChange::Put(row) => sqlx::query(sql::PUT_STATE)
                .bind(&row.namespace)
                .bind(&row.key)
                .bind(&row.value)
                .bind(row.due_at.map(sql::time))
                .bind(integer(row.revision)),
            RowChange::Delete((namespace, key)) => sqlx::query(sql::DELETE_STATE).bind(namespace).bind(key),
        };
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, event: &Recorded) -> Result<(), LogError> {
    let delivery = event.delivery.as_ref().map(serde_json::to_string).transpose();
    let delivery = delivery.map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(sql::INSERT_EVENT)
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
        .bind(event.key_id.as_deref())
        .execute(connection)
        .await?;
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
