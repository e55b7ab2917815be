//! Pages of events, as the SQL adapters read them from a stream of rows.

use futures::{Stream, TryStreamExt};
use keyledger_schemas::envelope::{Position, Recorded, Version};
use keyledger_schemas::ids::StreamId;

use crate::log::LogError;
use crate::sql::EventRow;

/// A page ends early once its events' data is this large, so that a page of large bodies cannot fill the memory.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events read so far, and the size of their data.
#[derive(Default)]
pub(crate) struct Page {
    pub events: Vec<Recorded>,
    bytes: usize,
}

impl Page {
    /// Reads the rows after a position; `unreadable` says what an error of the row at a position means.
    pub(crate) async fn after(
        mut rows: impl Stream<Item = Result<EventRow, sqlx::Error>> + Unpin,
        after: Position,
        unreadable: fn(sqlx::Error, Position) -> LogError,
    ) -> Result<Self, LogError> {
        let mut page = Self::default();
        while !page.is_full() {
            let position = after.saturating_add(1 + page.len());
            let row = match rows.try_next().await {
                Ok(Some(row)) => row,
                Err(error) if page.events.is_empty() => return Err(unreadable(error, position)),
                // The end; or trouble, and then the next page begins there and says so.
                Ok(None) | Err(_) => break,
            };
            match row.recorded() {
                Ok(event) if event.position == position => page.push(event),
                _ if !page.events.is_empty() => break,
                Ok(_) => return Err(LogError::Damaged { position, reason: "the row is missing".to_owned() }),
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    /// Reads the rows of one stream after a version.
    pub(crate) async fn of_stream(
        mut rows: impl Stream<Item = Result<EventRow, sqlx::Error>> + Unpin,
        stream: &StreamId,
        after: Version,
        failed: fn(sqlx::Error) -> LogError,
    ) -> Result<Self, LogError> {
        let mut page = Self::default();
        while !page.is_full() {
            let Some(row) = rows.try_next().await.map_err(failed)? else { break };
            let event = row.recorded()?;
            let version = after.saturating_add(1 + page.len());
            if event.version != version {
                let reason = format!("version {version} of stream `{stream}` is missing before it");
                return Err(LogError::Damaged { position: event.position, reason });
            }
            page.push(event);
        }
        Ok(page)
    }

    /// Whether it ended early because of its size, so that rows may be left unread.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= PAGE_BYTES_MAX
    }

    fn push(&mut self, event: Recorded) {
        self.bytes += event.data.len();
        self.events.push(event);
    }

    fn len(&self) -> u64 {
        self.events.len() as u64
    }
}
