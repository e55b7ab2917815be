//! [`Projector`]: the consumer that keeps the views. Rows and checkpoint move in one transaction.

use async_trait::async_trait;
use keyledger_eventlog::consumer::{Checkpoint, HandleError, Handler};
use keyledger_schemas::envelope::{Position, Recorded};

use crate::db::Db;
use crate::fold::{self, Content, Fold};
use crate::place::Place;
use crate::sql::{self, ViewsError};
use crate::store::{self, Filling, postgres};
use postgres::Standing;

/// The projector's name: of its checkpoint, its metrics and its log lines.
pub const NAME: &str = "projector";

/// Folds the log into the views. Handling a batch again is refused by the checkpoint, so it is safe.
#[derive(Debug)]
pub struct Projector {
    place: Place,
    /// `None` after a failure: the next batch begins on a new one.
    connection: Option<Db>,
    /// What stood under the schema's name when the connection was made; `None` for a file.
    seen: Option<Standing>,
}

impl Projector {
    /// Opens the views for writing, making them when they are not there. Views of another build are made anew.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Unusable`] when the file or schema is something else's; otherwise when the database cannot be opened.
    pub async fn open(url: &str) -> Result<Self, ViewsError> {
        Self::at(Place::of(url)?).await
    }

    /// As [`Self::open`].
    pub(crate) async fn at(place: Place) -> Result<Self, ViewsError> {
        let mut projector = Self { place, connection: None, seen: None };
        projector.connection = Some(projector.take().await?);
        Ok(projector)
    }

    /// How far the views at `url` are, whichever build made them. Nothing is changed or made; `None` when there are none.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn seen(url: &str) -> Result<Option<Checkpoint>, ViewsError> {
        store::seen(&Place::of(url)?).await
    }

    /// Takes everything out of the views, so that they are read from the log again: what to do when the checkpoint is
    /// not in the log ([`HandleError::Diverged`]).
    ///
    /// # Errors
    ///
    /// When the database fails; the views are as they were.
    pub async fn reset(&mut self) -> Result<(), ViewsError> {
        let mut connection = self.take().await?;
        let done = store::reset(&self.place, &mut connection).await;
        self.put_back(connection, done).await
    }

    /// Closes the connection cleanly.
    ///
    /// # Errors
    ///
    /// When the database fails; nothing is lost.
    pub async fn close(mut self) -> Result<(), ViewsError> {
        if let Some(connection) = self.connection.take() {
            connection.close().await?;
        }
        Ok(())
    }

    /// Folds what was read, as [`Handler::handle`] does.
    pub(crate) async fn take_in(&mut self, read: Read<'_>, from: Checkpoint) -> Result<(), HandleError> {
        let Read { readable, unreadable } = read;
        let position = readable.first().map_or(0, |(event, _)| event.position);
        let count = readable.len() as u64;
        match self.fold(&readable, from).await {
            Ok(true) => {}
            Ok(false) => return Err(HandleError::Moved),
            Err(error) if is_unfit(&error) => self.fold_one_by_one(&readable, from).await?,
            Err(error) => return Err(refuse(error, position)),
        }
        metrics::counter!("keyledger_projector_events").increment(count);
        unreadable.map_or(Ok(()), |(position, reason)| Err(HandleError::Park { position, reason }))
    }

    /// Makes a file ready to be filled as a whole: nobody else has it, and it is thrown away when that fails.
    pub(crate) async fn begin_filling(&mut self) -> Result<Filling, ViewsError> {
        let mut connection = self.take().await?;
        let begun = store::begin_filling(&mut connection).await;
        self.put_back(connection, begun).await
    }

    /// Makes the file what views are, when it was filled.
    pub(crate) async fn end_filling(&mut self, filling: Filling) -> Result<(), ViewsError> {
        let mut connection = self.take().await?;
        let ended = store::end_filling(&mut connection, filling).await;
        self.put_back(connection, ended).await
    }

    /// Folds a batch in one transaction. `false`: someone else moved the checkpoint.
    async fn fold(&mut self, batch: &[(&Recorded, Content)], from: Checkpoint) -> Result<bool, ViewsError> {
        let mut connection = self.take().await?;
        let done = fold(&mut connection, batch, from).await;
        match self.put_back(connection, done).await {
            Ok(true) => Ok(true),
            Ok(false) => self.look_again(None).await,
            Err(error) => self.look_again(Some(error)).await,
        }
    }

    /// Folds each event by itself, up to the one that the database cannot hold, which is to be set aside.
    async fn fold_one_by_one(
        &mut self,
        batch: &[(&Recorded, Content)],
        mut from: Checkpoint,
    ) -> Result<(), HandleError> {
        for one in batch.chunks(1) {
            let Some((event, _)) = one.first() else { continue };
            let position = event.position;
            match self.fold(one, from).await {
                Ok(true) => from = Checkpoint { position, chain: event.chain },
                Ok(false) => return Err(HandleError::Moved),
                Err(error) if is_unfit(&error) => {
                    let reason = format!("the views' database cannot hold what it says: {}", cause(&error));
                    return Err(HandleError::Park { position, reason });
                }
                Err(error) => return Err(refuse(error, position)),
            }
        }
        Ok(())
    }

    /// The connection, to be given to [`Self::put_back`] with what came of the work.
    async fn take(&mut self) -> Result<Db, ViewsError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let mut connection = store::connect(&self.place).await?;
        self.seen = match self.place {
            Place::Sqlite(_) => None,
            Place::Postgres(_, schema) => Some(postgres::standing(&mut connection, schema).await?),
        };
        Ok(connection)
    }

    /// What a failure, or a checkpoint that was moved, comes from: the views may have been made anew meanwhile, by a newer
    /// build or by another projector that saw the same damage. Then it is not for us to say that they are broken.
    async fn look_again(&mut self, error: Option<ViewsError>) -> Result<bool, ViewsError> {
        let (Place::Postgres(options, schema), Some(seen)) = (&self.place, self.seen) else {
            return error.map_or(Ok(false), Err);
        };
        if error.as_ref().is_some_and(|error| !error.is_broken()) {
            return error.map_or(Ok(false), Err);
        }
        let mut connection = postgres::open(options).await?;
        let now = postgres::standing(&mut connection, *schema).await;
        let now = sql::closing(connection, now).await?;
        match error {
            _ if now.is_newer() => Err(ViewsError::Newer),
            Some(error) if !seen.is_other(now) => Err(error),
            _ => Ok(false),
        }
    }

    /// Puts the views aside because they are broken, and says where; other projectors may have done so already.
    ///
    /// # Errors
    ///
    /// As [`crate::set_aside`].
    pub async fn set_aside(self, now_s: i64) -> Result<String, ViewsError> {
        let (place, seen) = (self.place.clone(), self.seen);
        if let Err(error) = self.close().await {
            tracing::debug!("the broken views do not close cleanly: {error}");
        }
        store::set_aside_seen(&place, seen, now_s).await
    }

    /// Keeps the connection when all went well. One that failed is not trusted again, and closed.
    async fn put_back<T>(&mut self, connection: Db, done: Result<T, ViewsError>) -> Result<T, ViewsError> {
        if done.is_err() {
            return sql::closing(connection, done).await;
        }
        self.connection = Some(connection);
        done
    }
}

/// Events with what the fold takes of each, up to the first that can never be folded.
pub(crate) struct Read<'e> {
    readable: Vec<(&'e Recorded, Content)>,
    unreadable: Option<(Position, String)>,
}

impl<'e> Read<'e> {
    /// Reads the events.
    fn all(events: &'e [Recorded]) -> Self {
        Self::of(events, events.iter().map(fold::read))
    }

    /// Of events that were read before.
    pub(crate) fn of(events: &'e [Recorded], contents: impl IntoIterator<Item = Result<Content, String>>) -> Self {
        let mut read = Self { readable: Vec::with_capacity(events.len()), unreadable: None };
        for (event, content) in events.iter().zip(contents) {
            match content {
                Ok(content) => read.readable.push((event, content)),
                Err(reason) => {
                    read.unreadable = Some((event.position, reason));
                    break;
                }
            }
        }
        read
    }
}

/// Folds `batch` and moves the checkpoint. `false`: someone else moved it.
async fn fold(connection: &mut Db, batch: &[(&Recorded, Content)], from: Checkpoint) -> Result<bool, ViewsError> {
    let Some((last, _)) = batch.last() else { return Ok(true) };
    let to = Checkpoint { position: last.position, chain: last.chain };
    connection.begin().await?;
    if !store::move_checkpoint(connection, from, to).await? {
        connection.rollback().await?;
        return Ok(false);
    }
    let mut fold = Fold::begin(connection, batch).await?;
    for (event, content) in batch {
        fold.apply(event, content).await?;
    }
    fold.finish().await?;
    connection.commit().await?;
    Ok(true)
}

/// Sets an event aside and moves the checkpoint past it. `false`: someone else moved it.
async fn set_aside(connection: &mut Db, event: &Recorded, reason: &str, from: Checkpoint) -> Result<bool, ViewsError> {
    let to = Checkpoint { position: event.position, chain: event.chain };
    connection.begin().await?;
    if !store::move_checkpoint(connection, from, to).await? {
        connection.rollback().await?;
        return Ok(false);
    }
    store::park(connection, event, reason).await?;
    connection.commit().await?;
    Ok(true)
}

/// Whether PostgreSQL says that it can never hold a value: data exceptions, and limits of the program (such as the length
/// of what an index holds).
fn is_unfit(error: &ViewsError) -> bool {
    let ViewsError::Database(sqlx::Error::Database(error)) = error else { return false };
    error.code().is_some_and(|code| code.len() == 5 && (code.starts_with("22") || code.starts_with("54")))
}

fn cause(error: &ViewsError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// A database that fails may work again; a row that cannot be read will not.
fn refuse(error: ViewsError, position: Position) -> HandleError {
    match error {
        ViewsError::Database(_) | ViewsError::Newer => HandleError::Retry { position, source: error.into() },
        ViewsError::Unusable { .. } | ViewsError::Damaged { .. } => HandleError::Fatal(error.into()),
    }
}

#[async_trait]
impl Handler for Projector {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn checkpoint(&mut self) -> Result<Checkpoint, HandleError> {
        let read = async {
            let mut connection = self.take().await?;
            let done = store::checkpoint(&mut connection).await;
            self.put_back(connection, done).await
        };
        read.await.map_err(|error| refuse(error, 0))
    }

    async fn handle(&mut self, batch: &[Recorded], from: Checkpoint) -> Result<(), HandleError> {
        self.take_in(Read::all(batch), from).await
    }

    async fn park(&mut self, event: &Recorded, reason: &str, from: Checkpoint) -> Result<(), HandleError> {
        let parked = async {
            let mut connection = self.take().await?;
            let done = set_aside(&mut connection, event, reason, from).await;
            self.put_back(connection, done).await
        };
        match parked.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(HandleError::Moved),
            Err(error) => Err(refuse(error, event.position)),
        }
    }
}
