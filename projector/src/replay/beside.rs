//! Where a replay makes its views, and how they get into the place of those in use.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

use super::ReplayError;
use crate::db::{self, Db};
use crate::place::{Place, Schema};
use crate::store::{postgres, sqlite};
use crate::{ViewsError, sql};

/// One replay at a time in one database: "klreplay" in ASCII. Held by a session, and so gone with its process.
const LOCK: &str = "select cast(case when pg_try_advisory_lock(7740687639546454393) then 1 else 0 end as bigint)";

/// How often the switch is tried when somebody holds on to the views in use, and how long to wait in between.
const SWITCHES_MAX: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// The place beside the views in use.
pub(super) enum Beside {
    /// A file beside their file.
    File { live: SqliteConnectOptions, side: PathBuf },
    /// A schema beside their schema.
    Schema { options: PgConnectOptions, session: Db },
}

impl Beside {
    /// The place beside the views at `url`, empty: what a killed replay left there is removed.
    pub(super) async fn of(url: &str) -> Result<Self, ReplayError> {
        match Place::of(url)? {
            Place::Sqlite(live) => {
                let side = with_ending(live.get_filename(), ".rebuild");
                remove(&side)?;
                Ok(Self::File { live, side })
            }
            Place::Postgres(live, _) => {
                let options = PgConnectOptions::from_str(url).map_err(ViewsError::from)?;
                let mut session = postgres::open(&live).await?;
                match prepare(&mut session).await {
                    Ok(()) => Ok(Self::Schema { options, session }),
                    Err(error) => Ok(sql::closing(session, Err(error)).await?),
                }
            }
        }
    }

    /// Where it is.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::File { side, .. } => Place::file(side),
            Self::Schema { options, .. } => Place::postgres(options.clone(), Schema::Rebuild),
        }
    }

    /// Makes these views the ones in use, all at once, while others read on.
    pub(super) async fn put_in_place(&mut self) -> Result<(), ReplayError> {
        match self {
            Self::File { live, side } => replace_file(live, side).await,
            Self::Schema { session, .. } => Ok(switch(session).await?),
        }
    }

    /// Removes what is left here.
    pub(super) async fn remove(self) -> Result<(), ReplayError> {
        match self {
            Self::File { side, .. } => remove(&side),
            Self::Schema { mut session, .. } => {
                let dropped = postgres::drop_rebuild(&mut session).await;
                Ok(sql::closing(session, dropped).await?)
            }
        }
    }
}

/// Copies the rows in one transaction, so that whoever has the file open goes on with the new ones. A file that is no
/// database any more is replaced as a whole; nobody can be reading it.
async fn replace_file(live: &SqliteConnectOptions, side: &Path) -> Result<(), ReplayError> {
    // A file that was closed cleanly is whole by itself.
    if !live.get_filename().exists() && !with_ending(side, "-wal").exists() {
        let live = live.get_filename();
        // What a file that is gone has left beside it belongs to no other.
        remove(live)?;
        let on_disk = std::fs::File::open(side).and_then(|file| file.sync_all());
        on_disk.map_err(|source| ReplayError::File { path: side.to_owned(), source })?;
        return std::fs::rename(side, live).map_err(|source| ReplayError::File { path: live.to_owned(), source });
    }
    match sqlite::take_over(live, side).await {
        Err(error) if error.is_broken() => {
            let live = live.get_filename();
            remove(live)?;
            std::fs::rename(side, live).map_err(|source| ReplayError::File { path: live.to_owned(), source })
        }
        done => Ok(done?),
    }
}

/// Takes the lock of replays, and empties the place.
async fn prepare(session: &mut Db) -> Result<(), ViewsError> {
    // It waits while the log is read, and then for tables of any size.
    session.run("set statement_timeout = 0").await?;
    let (locked,): (i64,) = db::query(LOCK).fetch_one(&mut *session).await?;
    if locked == 0 {
        let reason = "another replay is at work in this database; wait until it is done".to_owned();
        return Err(ViewsError::Unusable { reason });
    }
    postgres::drop_rebuild(session).await
}

/// Renames the schemas. Who holds on to the views in use for longer than the bound on locks is waited for again.
async fn switch(session: &mut Db) -> Result<(), ViewsError> {
    let mut attempt = 1;
    loop {
        let error = match postgres::take_over(session).await {
            Err(ViewsError::Database(error)) if postgres::is_in_the_way(&error) && attempt < SWITCHES_MAX => error,
            done => return done,
        };
        tracing::debug!(attempt, "the views in use are held on to: {error}");
        session.rollback().await?;
        tokio::time::sleep(PAUSE).await;
        attempt += 1;
    }
}

/// A connection that reads the views at `place` for as long as it takes.
pub(super) async fn reading(place: &Place) -> Result<Db, ViewsError> {
    match place {
        Place::Sqlite(options) => Ok(Db::Sqlite(Place::reading(options).connect().await?)),
        Place::Postgres(options, _) => {
            let mut db = postgres::open(options).await?;
            db.run("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0").await?;
            Ok(db)
        }
    }
}

fn remove(path: &Path) -> Result<(), ReplayError> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        remove_file(&with_ending(path, suffix))?;
    }
    Ok(())
}

fn remove_file(path: &Path) -> Result<(), ReplayError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ReplayError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
