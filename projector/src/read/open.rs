//! [`Views`]: the handle that readers hold.

use std::path::PathBuf;
use std::time::Duration;

use keyledger_schemas::ids::{SourceName, UnitId};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::SqlitePoolOptions;

use super::Within;
use crate::db::{self, Pool};
use crate::place::Place;
use crate::sql::{self, ViewsError};
use crate::store::{META, TODAYS};

/// Connections that read at the same time.
const READERS: u32 = 4;

/// How long a reader waits for a connection to a server.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

const OPEN_OBLIGATIONS: &str = "select scope, subject, purchase, item, number, kind, cause from casefile \
     where status = 'open' and kind in ('no_key', 'free_without_key', 'not_extended') and mode = $1 \
     and (cast($2 as text) is null or source = $2) order by subject, kind";

const SOURCE_SEEN: &str = "select cast(case when exists(select 1 from object where source = $1) \
     or exists(select 1 from customer where source = $1) or exists(select 1 from casefile where source = $1) \
     then 1 else 0 end as bigint)";

/// The file of the views at `url`; `None` where a server has them.
///
/// # Errors
///
/// [`ViewsError::Database`] when the URL is none.
pub fn file_of(url: &str) -> Result<Option<PathBuf>, ViewsError> {
    match Place::of(url)? {
        Place::Sqlite(options) => Ok(Some(options.get_filename().to_owned())),
        Place::Postgres(..) => Ok(None),
    }
}

/// The views, for reading. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Views {
    pub(super) pool: Pool,
    place: Place,
}

/// Something owed that is not met: what `keyledger check` compares with the issuer's books.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OpenObligation {
    /// The unit, or the purchase where its items are unknown: as text, `scope:purchase[/item/number]`.
    pub subject: String,
    /// The unit, where it is about one.
    pub unit: Option<UnitId>,
    /// `no_key`, `free_without_key` or `not_extended`.
    pub kind: String,
    /// Why, as stored (without `issuer_behind`).
    pub cause: Option<String>,
}

impl Views {
    /// Opens the views for reading.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Unusable`] when there are none, or another build made them: start the projector, or replay.
    pub async fn open_read(url: &str) -> Result<Self, ViewsError> {
        Self::open_at(Place::of(url)?).await
    }

    /// As [`Self::open_read`].
    pub(crate) async fn open_at(place: Place) -> Result<Self, ViewsError> {
        let views = match &place {
            Place::Sqlite(options) => {
                if !options.get_filename().exists() {
                    return Err(ViewsError::Unusable {
                        reason: format!("`{place}` does not exist; `keyledger up` or `keyledger replay` makes it"),
                    });
                }
                let pool = SqlitePoolOptions::new().max_connections(READERS);
                let pool = Pool::Sqlite(pool.connect_with(Place::reading(options)).await?);
                Self { pool, place }
            }
            Place::Postgres(options, _) => {
                let pool = Pool::Postgres(server_pool(options));
                Self { pool, place }
            }
        };
        match views.require_todays().await {
            Ok(()) => Ok(views),
            Err(error) => {
                views.close().await;
                Err(error)
            }
        }
    }

    /// The views on a server, whether or not they are there: ask [`Self::require_todays`].
    ///
    /// # Errors
    ///
    /// [`ViewsError::Unusable`] when the URL names a file.
    pub fn on_server(url: &str) -> Result<Self, ViewsError> {
        let place = Place::of(url)?;
        match &place {
            Place::Sqlite(_) => Err(ViewsError::Unusable { reason: format!("`{place}` is a file") }),
            Place::Postgres(options, _) => Ok(Self { pool: Pool::Postgres(server_pool(options)), place }),
        }
    }

    /// Asks whether these still are views that this build made.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Unusable`] when they are not.
    pub async fn require_todays(&self) -> Result<(), ViewsError> {
        let place = &self.place;
        let reason = match db::query(META).fetch_optional(&self.pool).await {
            Ok(Some(TODAYS)) => return Ok(()),
            Ok(_) => format!("`{place}` was made by another build; start `keyledger up`, or run `keyledger replay`"),
            Err(error) if is_absent(&error) => {
                format!("`{place}` holds no views; `keyledger up` or `keyledger replay` makes them")
            }
            // A server that cannot be asked now holds what it holds.
            Err(error) if matches!(place, Place::Postgres(..)) => return Err(error.into()),
            Err(error) => format!("`{place}` holds no views: {error}"),
        };
        Err(ViewsError::Unusable { reason })
    }

    /// Everything owed that is not met and not waived: units, and purchases whose items are unknown. By subject.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn open_obligations(&self, within: &Within) -> Result<Vec<OpenObligation>, ViewsError> {
        let rows: Vec<OpenRow> = db::query(OPEN_OBLIGATIONS)
            .bind(within.mode.as_str())
            .bind(within.source.as_ref().map(|source| source.as_str().to_owned()))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(OpenRow::read).collect()
    }

    /// Whether anything in the views came from this source.
    ///
    /// # Errors
    ///
    /// When the database fails; try again.
    pub async fn has_source(&self, source: &SourceName) -> Result<bool, ViewsError> {
        let (seen,): (i64,) = db::query(SOURCE_SEEN).bind(source.as_str()).fetch_one(&self.pool).await?;
        Ok(seen != 0)
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Connections are made when they are needed, and again when they were lost.
fn server_pool(options: &PgConnectOptions) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(READERS).acquire_timeout(CONNECTED_WITHIN);
    pool.connect_lazy_with(options.clone())
}

/// Whether a server says that there is no such table, or no such schema.
fn is_absent(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "42P01" | "3F000"))
}

#[derive(sqlx::FromRow)]
struct OpenRow {
    scope: String,
    subject: String,
    purchase: Option<String>,
    item: Option<String>,
    number: Option<i64>,
    kind: String,
    cause: Option<String>,
}

impl OpenRow {
    fn read(self) -> Result<OpenObligation, ViewsError> {
        let scope = sql::parse_scope(&self.scope)?;
        let unit = super::purchases::unit(&scope, self.purchase.as_deref(), self.item, self.number);
        Ok(OpenObligation { subject: self.subject, unit, kind: self.kind, cause: self.cause })
    }
}
