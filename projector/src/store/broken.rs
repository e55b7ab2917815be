//! Views that are broken: how they are known, and how they are put aside so that others are made in their place.

use std::io;
use std::path::{Path, PathBuf};

use sqlx::postgres::PgConnectOptions;

use super::postgres::{self, Standing};
use crate::db::Db;
use crate::place::{Place, Schema};
use crate::sql::{self, ViewsError};

/// What SQLite says of a page that makes no sense, and of a file that is no database.
const BROKEN_FILE: [u32; 2] = [11, 26];

/// What PostgreSQL says of data and indexes that are corrupted, and of tables and columns that somebody took away.
const BROKEN_SCHEMA: [&str; 4] = ["XX001", "XX002", "42P01", "42703"];

/// So many names are tried for what is put aside.
const NAMES_MAX: i64 = 1000;

impl ViewsError {
    /// Whether the views themselves are at fault, and not the disk, a lock, the network, or what is somebody else's.
    /// They are derived: put them aside, and others are made from the log.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Unusable { .. } | Self::Newer => false,
            Self::Database(error) => {
                let Some(code) = error.as_database_error().and_then(sqlx::error::DatabaseError::code) else {
                    return false;
                };
                // SQLite's are numbers, whose lowest byte is the error; PostgreSQL's are five characters.
                match code.parse::<u32>() {
                    Ok(number) if code.len() < 5 => BROKEN_FILE.contains(&(number & 0xff)),
                    _ => BROKEN_SCHEMA.contains(&&*code),
                }
            }
        }
    }
}

/// Gives the views at `url` another name, made of the time in seconds, and says which. Nothing is deleted.
///
/// # Errors
///
/// When the file or the schema cannot be renamed; it is as it was.
pub async fn set_aside(url: &str, now_s: i64) -> Result<String, ViewsError> {
    set_aside_seen(&Place::of(url)?, None, now_s).await
}

/// As [`set_aside`], unless others took their place since they were `seen`.
pub(crate) async fn set_aside_seen(place: &Place, seen: Option<Standing>, now_s: i64) -> Result<String, ViewsError> {
    match place {
        Place::Sqlite(options) => {
            let aside = rename_file(options.get_filename(), now_s).map_err(sqlx::Error::Io)?;
            Ok(aside.display().to_string())
        }
        Place::Postgres(options, schema) => rename_schema(options, *schema, seen, now_s).await,
    }
}

/// Renames the file and what SQLite keeps beside it. The file goes first: SQLite ignores what lies beside a new one.
fn rename_file(file: &Path, now_s: i64) -> io::Result<PathBuf> {
    let named = |ending: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    // What was put aside in the same second stays too.
    let mut endings = (now_s..now_s + NAMES_MAX).map(|time| format!(".broken-{time}"));
    let free = endings.find(|aside| !named(aside).exists());
    let aside = free.ok_or_else(|| io::Error::other("there is no free name for it"))?;
    for ending in ["", "-wal", "-shm"] {
        match std::fs::rename(named(ending), named(&format!("{aside}{ending}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(named(&aside))
}

async fn rename_schema(
    options: &PgConnectOptions,
    schema: Schema,
    seen: Option<Standing>,
    now_s: i64,
) -> Result<String, ViewsError> {
    let mut db = postgres::open(options).await?;
    let renamed = rename(&mut db, schema, seen, now_s).await;
    sql::closing(db, renamed).await
}

async fn rename(db: &mut Db, schema: Schema, seen: Option<Standing>, now_s: i64) -> Result<String, ViewsError> {
    let name = schema.name();
    if !postgres::has_schema(db, name).await? {
        return Ok(format!("nothing: there is no schema {name}"));
    }
    for time in now_s..now_s + NAMES_MAX {
        let aside = format!("{name}_broken_{time}");
        if !postgres::has_schema(db, &aside).await? {
            let renamed = postgres::rename_for_good(db, schema, &aside, seen).await?;
            return Ok(if renamed { aside } else { format!("nothing: others are under the name {name} already") });
        }
    }
    Err(sqlx::Error::Io(io::Error::other("there is no free name for it")).into())
}
