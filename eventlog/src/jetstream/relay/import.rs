//! A mirror that is ahead of the log: the log was restored from an old backup, and what the mirror has more is put
//! back, exactly as it was.

use futures::StreamExt;
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::event::MirrorFault;
use tokio_util::sync::CancellationToken;

use super::{Next, Relay, State, Trouble};
use crate::jetstream::message::{DecodeError, Decoded};
use crate::jetstream::mirror::{Mirror, MirrorError, Slot};
use crate::lease::Lease;
use crate::log::{Head, RestoreError};

/// Events put back at once, and their bytes, though one is always allowed.
const PAGE: usize = 256;
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// What the mirror has in a row, and what ends the row.
struct Run {
    events: Vec<Recorded>,
    end: End,
}

enum End {
    /// The page is full, or it is the end of the mirror.
    Page,
    /// The event at the position after the row stays in the log that lost it.
    Stub,
    /// There is no event of ours at the position after the row.
    Fault(MirrorFault),
}

impl Relay {
    /// Puts into the log what the mirror has after `after`, up to `to`.
    pub(super) async fn import(
        &mut self,
        after: Head,
        to: Position,
        lease: &Lease,
        shutdown: &CancellationToken,
    ) -> Result<Next, Trouble> {
        tracing::warn!("the mirror is ahead of the log: positions {} to {to} are put back", after.position + 1);
        self.be(State::Importing);
        let mut head = after;
        while head.position < to && !shutdown.is_cancelled() {
            let run = run(&self.mirror, head.position + 1, to).await?;
            if !run.events.is_empty() {
                head = match self.log.restore(&run.events).await {
                    Ok(head) => head,
                    // Someone appended or restored meanwhile.
                    Err(RestoreError::NotNext { .. }) => return Ok(Next::Now),
                    Err(RestoreError::Broken { position, reason }) => {
                        tracing::error!("position {position} of the mirror cannot be put back: {reason}");
                        return self.renew(MirrorFault::CannotImport, position, to, lease).await;
                    }
                    Err(RestoreError::Unavailable(error)) => return Err(error.into()),
                };
                self.see(to, head.position);
            }
            match run.end {
                End::Page => {}
                End::Stub => return self.renew(MirrorFault::CannotImport, head.position + 1, to, lease).await,
                End::Fault(fault) => return self.renew(fault, head.position + 1, to, lease).await,
            }
        }
        Ok(Next::Now)
    }
}

/// What the mirror has from `first` on, until a page is full.
async fn run(mirror: &Mirror, first: Position, to: Position) -> Result<Run, MirrorError> {
    let last = to.min(first.saturating_add(PAGE as u64 - 1));
    let mut slots = std::pin::pin!(mirror.read(first..=last));
    let mut run = Run { events: Vec::new(), end: End::Page };
    let mut bytes = 0;
    while bytes < PAGE_BYTES
        && let Some(slot) = slots.next().await
    {
        match slot?.1 {
            Slot::Event(Decoded::Whole(event)) => {
                bytes += event.data.len();
                run.events.push(*event);
                continue;
            }
            Slot::Event(Decoded::Elsewhere(_)) => run.end = End::Stub,
            Slot::Missing => run.end = End::Fault(MirrorFault::Holes),
            Slot::Broken(DecodeError::NotOurs) => run.end = End::Fault(MirrorFault::OtherBytes),
            Slot::Broken(DecodeError::Damaged { .. }) => run.end = End::Fault(MirrorFault::CannotImport),
        }
        break;
    }
    Ok(run)
}
