//! Hearing of the appends of other processes. A hint and no more: whoever follows the log polls as well. What was heard
//! counts as seen, so that a process which neither reads nor writes notices too when the database is put back.

use std::time::Duration;

use data_encoding::HEXLOWER;
use keyledger_schemas::envelope::{Hash, Position};
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::memory::Seen;
use super::session::Server;
use crate::log::Head;

/// What the last statement of every append notifies.
const CHANNEL: &str = "keyledger_log";

/// How long to wait before listening again after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// After this long a silence, the server is asked whether it is still there.
const SILENCE_MAX: Duration = Duration::from_secs(30);

const STILL_THERE: &str = "select 1";

/// Passes on what is heard until the log is closed.
pub(super) async fn run(server: Server, seen: Seen, wake: watch::Sender<Position>, closing: CancellationToken) {
    loop {
        tokio::select! {
            Err(error) = listen(&server, &seen, &wake) => {
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

async fn listen(server: &Server, seen: &Seen, wake: &watch::Sender<Position>) -> Result<(), sqlx::Error> {
    let pool = server.for_listening().await.map_err(std::io::Error::other)?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let Ok(received) = tokio::time::timeout(SILENCE_MAX, listener.try_recv()).await else {
            let asked = sqlx::query(STILL_THERE).execute(&mut listener);
            tokio::time::timeout(server.timeout, asked).await.map_err(std::io::Error::other)??;
            continue;
        };
        // Nothing, when the connection was lost: what was said meanwhile is found by the next poll.
        let Some(head) = received?.and_then(|notification| parse(notification.payload())) else { continue };
        seen.note(head);
        wake.send_if_modified(|newest| {
            let grew = head.position > *newest;
            *newest = head.position.max(*newest);
            grew
        });
    }
}

/// Where the log ends, as an append says it: the position, and the chain value in hexadecimal.
fn parse(payload: &str) -> Option<Head> {
    let (position, chain) = payload.split_once(' ')?;
    let chain = HEXLOWER.decode(chain.as_bytes()).ok()?;
    Some(Head { position: position.parse().ok()?, chain: Hash::try_from(chain).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_head_is_not_heard() {
        let chain = "0f".repeat(32);
        assert_eq!(parse(&format!("7 {chain}")), Some(Head { position: 7, chain: [15; 32] }));
        for payload in ["", "7", "7 0f", "seven 00", &format!("-1 {chain}")] {
            assert_eq!(parse(payload), None, "{payload}");
        }
    }
}
