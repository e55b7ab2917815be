//! Hearing of the appends of other processes. A hint and no more: whoever follows the log polls as well.

use std::time::Duration;

use keyledger_schemas::envelope::Position;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::session::Server;

/// What the last statement of every append notifies.
const CHANNEL: &str = "keyledger_log";

/// How long to wait before listening again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// After this long a silence, the server is asked whether it is still there.
const SILENCE_MAX: Duration = Duration::from_secs(30);

const STILL_THERE: &str = "select 1";

/// Passes on what is heard until the log is closed.
pub(super) async fn run(server: Server, wake: watch::Sender<Position>, closing: CancellationToken) {
    loop {
        tokio::select! {
            Err(error) = listen(&server, &wake) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the log's listener starts again");
            }
            () = closing.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = closing.cancelled() => return,
        }
    }
}

async fn listen(server: &Server, wake: &watch::Sender<Position>) -> Result<(), sqlx::Error> {
    let pool = server.for_listening().await.map_err(std::io::Error::other)?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let Ok(heard) = tokio::time::timeout(SILENCE_MAX, listener.try_recv()).await else {
            let asked = sqlx::query(STILL_THERE).execute(&mut listener);
            tokio::time::timeout(server.timeout, asked).await.map_err(std::io::Error::other)??;
            continue;
        };
        // Nothing, when the connection was lost: what was said meanwhile is found by the next poll.
        let Some(position) = heard?.and_then(|heard| heard.payload().parse::<Position>().ok()) else { continue };
        wake.send_if_modified(|newest| {
            let grew = position > *newest;
            *newest = position.max(*newest);
            grew
        });
    }
}
