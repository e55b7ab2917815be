//! The views' database: its tables, and how rows get into them and out again for the fold.

mod broken;
pub(crate) mod bulk;
mod load;
pub(crate) mod postgres;
mod save;
mod save_derived;
mod save_elsewhere;
pub(crate) mod sqlite;

use keyledger_eventlog::consumer::Checkpoint;

use crate::db::Db;
use crate::place::Place;
use crate::sql::ViewsError;
use crate::{PROJECTION_VERSION, SCHEMA_VERSION};

pub use broken::set_aside;
pub(crate) use broken::set_aside_seen;
pub(crate) use load::*;
pub(crate) use save::*;
pub(crate) use save_derived::*;
pub(crate) use save_elsewhere::*;

/// Which tables and which fold the rows are of.
pub(crate) const META: &str = "select schema_version, projection_version from view_meta where id = 1";

/// A build: which tables and which fold it makes.
pub(crate) type Build = (i64, i64);

/// This one.
pub(crate) const TODAYS: Build = (SCHEMA_VERSION, PROJECTION_VERSION);

const PUT_META: &str = "insert into view_meta (id, schema_version, projection_version) values (1, $1, $2)";
const FIRST_CHECKPOINT: &str = "insert into checkpoint (name, position, chain) values ('projector', 0, $1)";

/// Opens the views for writing, with today's tables. Those of another build are made anew.
pub(crate) async fn connect(place: &Place) -> Result<Db, ViewsError> {
    match place {
        Place::Sqlite(options) => sqlite::connect(options).await,
        Place::Postgres(options, schema) => postgres::connect(options, *schema).await,
    }
}

/// The checkpoint of views of any build. `None` where there are none.
pub(crate) async fn seen(place: &Place) -> Result<Option<Checkpoint>, ViewsError> {
    match place {
        Place::Sqlite(options) => sqlite::seen(options).await,
        Place::Postgres(options, schema) => postgres::seen(options, *schema).await,
    }
}

/// What is made at the end of filling a file.
#[derive(Debug, Default)]
pub(crate) struct Filling {
    /// The texts of indexes.
    indexes: Vec<String>,
}

/// Prepares a file that is filled as a whole. Nothing of it is kept if that fails, so SQLite need not be able to go back.
pub(crate) async fn begin_filling(db: &mut Db) -> Result<Filling, ViewsError> {
    match db {
        Db::Sqlite(_) => sqlite::begin_filling(db).await,
        Db::Postgres(_) => Ok(Filling::default()),
    }
}

/// Makes what was left out.
pub(crate) async fn end_filling(db: &mut Db, filling: Filling) -> Result<(), ViewsError> {
    match db {
        Db::Sqlite(_) => sqlite::end_filling(db, filling).await,
        Db::Postgres(_) => Ok(()),
    }
}

/// Empties the views, back to before the first event.
pub(crate) async fn reset(place: &Place, db: &mut Db) -> Result<(), ViewsError> {
    match place {
        Place::Sqlite(_) => sqlite::reset(db).await,
        Place::Postgres(_, schema) => postgres::reset(db, *schema).await,
    }
}
