//! How values are written into rows and read back.

use jiff::Timestamp;
use keyledger_schemas::envelope::Position;
use keyledger_schemas::ids::{PurchaseId, Scope};
use keyledger_schemas::money::{Currency, Money};

use crate::db::Db;

/// Why the views could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// The database refused, or cannot be reached. Try again.
    #[error("the views' database failed")]
    Database(#[from] sqlx::Error),
    /// The file or schema is not there, is not ours, or was made by another build: start the projector, or `keyledger replay`.
    #[error("the views cannot be used: {reason}")]
    Unusable {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A newer build made them, and writes them. This one waits until that one is gone, or until `keyledger replay` makes
    /// them this build's.
    #[error("the views are a newer build's: update keyledger here, or run `keyledger replay` to go back to this build")]
    Newer,
    /// A row does not say what it should: rebuild with `keyledger replay`.
    #[error("a row of the views is damaged: {reason}")]
    Damaged {
        /// Which, and what is wrong with it.
        reason: String,
    },
}

impl ViewsError {
    /// A row that cannot be read back.
    pub(crate) fn damaged(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Damaged { reason: format!("{what}: {error}") }
    }
}

/// Closes `connection`, whatever came of the work with it. One that is merely dropped is closed later by a thread of its
/// own, and holds its locks and files until then.
pub(crate) async fn closing<T>(connection: Db, done: Result<T, ViewsError>) -> Result<T, ViewsError> {
    let closed = connection.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

/// A time as text of one width, so that it reads back exactly and sorts by time.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// The time that [`time`] wrote.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, ViewsError> {
    text.parse().map_err(|error| ViewsError::damaged("a time", error))
}

/// As [`parse_time`], of a column that may be null.
pub(crate) fn parse_optional_time(text: Option<&str>) -> Result<Option<Timestamp>, ViewsError> {
    text.map(parse_time).transpose()
}

/// An integer as SQL has it. What does not fit is beyond every row.
pub(crate) fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A count or position read back.
pub(crate) fn unsigned<T: TryFrom<i64> + Default>(number: i64) -> T {
    T::try_from(number).unwrap_or_default()
}

/// The scope that a `scope` column names.
pub(crate) fn parse_scope(text: &str) -> Result<Scope, ViewsError> {
    let parsed: Result<PurchaseId, _> = format!("{text}:-").parse();
    parsed.map(|purchase| purchase.scope).map_err(|error| ViewsError::damaged("a scope", error))
}

/// Amount and currency columns together.
pub(crate) fn money(amount_minor: Option<i64>, currency: Option<&str>) -> Option<Money> {
    Some(Money::new(amount_minor?, Currency::new(currency?)))
}

/// Text that sorts by position and then by name.
pub(crate) fn sort_key(position: Position, name: &str) -> String {
    format!("{position:020}/{name}")
}

/// JSON of plain data.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| unreachable!("documents are plain data: {error}"))
}

/// The data of a JSON column.
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, ViewsError> {
    serde_json::from_str(text).map_err(|error| ViewsError::damaged(what, error))
}

/// Characters of an address or a name that are compared: PostgreSQL's indexes hold no long texts. Stripe's are shorter.
const EMAIL_MAX: usize = 512;
const NAME_MAX: usize = 256;

/// An address as it is compared: trimmed, in lower case. A `+tag` stays.
pub(crate) fn normalize_email(email: &str) -> String {
    first(&email.trim().to_lowercase(), EMAIL_MAX)
}

/// A name as it is compared: in lower case, with single spaces.
pub(crate) fn fold_name(name: &str) -> String {
    first(&name.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" "), NAME_MAX)
}

fn first(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}
