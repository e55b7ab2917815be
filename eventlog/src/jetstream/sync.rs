//! What a relay does next, given what it sees of the log and of the mirror: [`decide`]. Pure.
//!
//! ```text
//!   mirror gone                                    make it
//!   mirror behind, or level, on one chain          publish after its last position
//!   mirror ahead, on the chain of our head         import what it has more: the log was restored from an old backup
//!   other bytes where both have something          stop writing; rescue what the log lacks; make the mirror anew
//!   holes                                          the same: they cannot be filled in place
//!   foreign, unsafe                                keep off, and say so
//! ```
//!
//! A chain value stands for everything before it, so one comparison, at the last position that both have, decides.

use keyledger_schemas::envelope::{Hash, Position};
use keyledger_schemas::event::MirrorFault;

use super::judgement::Judgement;
use super::mirror::Look;
use crate::log::Head;

/// What there is to compare once the stream is known to be this log's, and whole.
///
/// The mirror was looked at before the log: what a relay publishes meanwhile must not seem to be more than the log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The end of the log.
    pub log: Head,
    /// The last position of the mirror.
    pub last: Position,
    /// The chain value in the log at the last position that both have; `None` when the log went back meanwhile.
    pub log_chain: Option<Hash>,
    /// The chain value in the mirror there; `None` when what it has there is no event.
    pub mirror_chain: Option<Hash>,
}

impl Ends {
    /// The last position that both have.
    pub fn common(&self) -> Position {
        self.log.position.min(self.last)
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the stream.
    Make,
    /// Publish what comes after this, which is the mirror's end.
    Publish {
        /// The mirror's last position, and the chain value there.
        after: Head,
    },
    /// Put into the log what the mirror has after the log's head.
    Import {
        /// The log's head.
        after: Head,
        /// The mirror's last position.
        to: Position,
    },
    /// The mirror must be made anew: it holds other bytes than the log.
    Diverged(Differs),
    /// The mirror must be made anew. Messages are missing in it.
    Holes {
        /// The first that is missing.
        first: Position,
        /// The mirror's last position.
        last: Position,
    },
    /// Keep off this stream, and look again later.
    Refuse {
        /// What is wrong with it.
        fault: MirrorFault,
        /// The same in words, and what to do.
        reason: String,
        /// Where it holds other bytes than the log, if it does: what it alone has may soon be gone.
        differs: Option<Differs>,
    },
    /// Something moved meanwhile: look again at once.
    LookAgain,
}

/// Where a mirror holds other bytes than the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs {
    /// The last position that both have: somewhere up to it.
    pub common: Position,
    /// The mirror's last position.
    pub last: Position,
}

/// What to do next. `ends` is needed for a stream of this log's, [`Judgement::Ours`] or [`Judgement::Unsafe`].
///
/// A mirror with unsafe settings is not written, and is read all the same: what it has more may soon be gone.
pub fn decide(look: &Look, ends: Option<&Ends>) -> Step {
    let judgement = match look {
        Look::Gone => return Step::Make,
        Look::Here(judgement) => judgement,
    };
    match judgement {
        Judgement::Foreign { reason } => {
            Step::Refuse { fault: MirrorFault::Foreign, reason: reason.clone(), differs: None }
        }
        Judgement::Unsafe { reason, .. } => {
            let refuse = |differs| Step::Refuse { fault: MirrorFault::UnsafeSettings, reason: reason.clone(), differs };
            match ends.map(of_ends) {
                Some(Step::Diverged(differs)) => refuse(Some(differs)),
                Some(step @ Step::Import { .. }) => step,
                _ => refuse(None),
            }
        }
        Judgement::Holes { first, last } => Step::Holes { first: *first, last: *last },
        Judgement::Ours { .. } => ends.map_or(Step::LookAgain, of_ends),
    }
}

fn of_ends(ends: &Ends) -> Step {
    let common = ends.common();
    let Some(log_chain) = ends.log_chain else { return Step::LookAgain };
    if ends.mirror_chain != Some(log_chain) {
        return Step::Diverged(Differs { common, last: ends.last });
    }
    if ends.last <= ends.log.position {
        return Step::Publish { after: Head { position: ends.last, chain: log_chain } };
    }
    Step::Import { after: ends.log, to: ends.last }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 32] = [1; 32];
    const OTHER: [u8; 32] = [2; 32];

    fn of(log: Position, last: Position, log_chain: Option<Hash>, mirror_chain: Option<Hash>) -> Step {
        let ends = Ends { log: Head { position: log, chain: OURS }, last, log_chain, mirror_chain };
        decide(&Look::Here(Judgement::Ours { last }), Some(&ends))
    }

    #[test]
    fn a_mirror_that_is_gone_is_made() {
        assert_eq!(decide(&Look::Gone, None), Step::Make);
    }

    #[test]
    fn a_mirror_on_one_chain_is_filled_or_imported() {
        let publish = |position| Step::Publish { after: Head { position, chain: OURS } };
        assert_eq!(of(9, 4, Some(OURS), Some(OURS)), publish(4));
        assert_eq!(of(9, 9, Some(OURS), Some(OURS)), publish(9));
        let import = Step::Import { after: Head { position: 4, chain: OURS }, to: 9 };
        assert_eq!(of(4, 9, Some(OURS), Some(OURS)), import);
    }

    #[test]
    fn other_bytes_where_both_have_something_stop_the_relay() {
        for (log, last) in [(9, 4), (4, 4), (4, 9)] {
            for chain in [Some(OTHER), None] {
                assert_eq!(
                    of(log, last, Some(OURS), chain),
                    Step::Diverged(Differs { common: 4, last }),
                    "{log} {last}"
                );
            }
        }
    }

    #[test]
    fn a_log_that_went_back_meanwhile_is_looked_at_again() {
        assert_eq!(of(4, 4, None, Some(OURS)), Step::LookAgain);
        assert_eq!(decide(&Look::Here(Judgement::Ours { last: 0 }), None), Step::LookAgain);
    }

    #[test]
    fn a_stream_that_is_not_ours_or_not_safe_is_left_alone() {
        let reason = "because".to_owned();
        let foreign = Judgement::Foreign { reason: reason.clone() };
        let unsafe_ = Judgement::Unsafe { reason: reason.clone(), last: 4 };
        for (judgement, fault) in [(foreign, MirrorFault::Foreign), (unsafe_, MirrorFault::UnsafeSettings)] {
            let refuse = Step::Refuse { fault, reason: reason.clone(), differs: None };
            assert_eq!(decide(&Look::Here(judgement), None), refuse);
        }
        let holes = Judgement::Holes { first: 2, last: 9 };
        assert_eq!(decide(&Look::Here(holes), None), Step::Holes { first: 2, last: 9 });
    }

    #[test]
    fn what_an_unsafe_mirror_has_more_is_taken_from_it_while_it_is_there() {
        let of = |log, last, mirror_chain| {
            let ends = Ends { log: Head { position: log, chain: OURS }, last, log_chain: Some(OURS), mirror_chain };
            decide(&Look::Here(Judgement::Unsafe { reason: String::new(), last }), Some(&ends))
        };
        let refuse = |differs| Step::Refuse { fault: MirrorFault::UnsafeSettings, reason: String::new(), differs };
        assert_eq!(of(4, 9, Some(OURS)), Step::Import { after: Head { position: 4, chain: OURS }, to: 9 });
        assert_eq!(of(4, 9, Some(OTHER)), refuse(Some(Differs { common: 4, last: 9 })));
        assert_eq!(of(9, 4, Some(OURS)), refuse(None));
    }
}
