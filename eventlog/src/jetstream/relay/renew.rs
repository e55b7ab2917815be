//! A mirror that cannot be mended in place: it is refused, or made anew.

use std::time::Duration;

use keyledger_schemas::envelope::Position;
use keyledger_schemas::event::{MirrorDiverged, MirrorFault};
use tokio::time::Instant;

use super::{Next, RECONNECT_POLL, Relay, State, Trouble, report};
use crate::jetstream::compare::mirror_chain;
use crate::jetstream::mirror::Removed;
use crate::jetstream::sync::Step;
use crate::lease::Lease;
use crate::log::Append;

/// How long after a refused removal it is tried again: the server writes a line for each.
const REMOVE_AGAIN: Duration = Duration::from_mins(1);

impl Relay {
    /// Says that the stream cannot be the mirror, and keeps off it until it is looked at again.
    pub(super) async fn refuse(&mut self, fault: MirrorFault, reason: String, lease: &Lease) -> Result<Next, Trouble> {
        self.be(State::Diverged { fault, reason: reason.clone() });
        self.say(fault, None, reason, lease).await?;
        Ok(Next::After(self.options.look_every))
    }

    /// Makes a mirror anew that is wrong from `first` on, after whatever it alone holds was put into the log.
    pub(super) async fn renew(
        &mut self,
        fault: MirrorFault,
        first: Position,
        last: Position,
        lease: &Lease,
    ) -> Result<Next, Trouble> {
        let rescued = self.rescue(first, last, lease).await?;
        let fault = if rescued.is_complete() { fault } else { MirrorFault::CannotImport };
        let detail = rescued.describe(fault, self.mirror.stream());
        self.be(State::Diverged { fault, reason: detail.clone() });
        self.say(fault, Some(first), detail, lease).await?;
        let may_remove = self.remove_after.is_none_or(|after| after <= Instant::now());
        if !rescued.is_complete() || !may_remove {
            return Ok(Next::After(self.options.look_every));
        }
        if !self.is_still_wrong(first, last, lease).await? {
            return Ok(Next::After(RECONNECT_POLL));
        }
        match self.mirror.remove().await? {
            Removed::Yes => {
                tracing::warn!("the mirror `{}` was removed, to be made anew", self.mirror.stream());
                Ok(Next::Now)
            }
            Removed::NotAllowed => {
                self.remove_after = Some(Instant::now() + REMOVE_AGAIN);
                Ok(Next::After(self.options.look_every))
            }
        }
    }

    /// Whether the lease is still ours and the mirror still ends where it was rescued and is wrong from there on. What
    /// arrived since then was not rescued, and one odd answer of a server is no reason to remove a stream.
    async fn is_still_wrong(&self, first: Position, last: Position, lease: &Lease) -> Result<bool, Trouble> {
        self.log.append(Append { state: vec![lease.fence()], ..Append::default() }).await?;
        let look = self.look().await?;
        Ok(match self.step(&look).await? {
            Step::Diverged(differs) => differs.last == last && self.first_difference(differs.common).await? == first,
            Step::Holes { last: now, .. } => now == last,
            Step::Make | Step::Publish { .. } | Step::Import { .. } | Step::Refuse { .. } | Step::LookAgain => false,
        })
    }

    /// The first position up to `common` where the mirror has another chain value than the log.
    pub(super) async fn first_difference(&self, common: Position) -> Result<Position, Trouble> {
        let (mut same, mut other) = (0, common);
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            let log_chain = self.log.chain_at(middle).await?;
            if log_chain.is_some() && mirror_chain(&self.mirror, middle).await? == log_chain {
                same = middle;
            } else {
                other = middle;
            }
        }
        Ok(other)
    }

    async fn say(
        &self,
        fault: MirrorFault,
        position: Option<Position>,
        detail: String,
        lease: &Lease,
    ) -> Result<(), Trouble> {
        let found = MirrorDiverged { stream: self.mirror.stream().to_owned(), fault, position, detail };
        Ok(report::diverged(&*self.log, lease, found, self.clock.now()).await?)
    }
}
