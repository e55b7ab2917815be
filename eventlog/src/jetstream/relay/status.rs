//! How a relay is: [`Status`], to be watched and measured.

use jiff::Timestamp;
use keyledger_schemas::envelope::Position;
use keyledger_schemas::event::MirrorFault;

/// What a relay is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not looked yet.
    Starting,
    /// Another relay holds the lease.
    Standby {
        /// Who.
        holder: String,
    },
    /// NATS, or the log, does not answer.
    Unreachable {
        /// What is known.
        reason: String,
    },
    /// The mirror is ahead: the log was restored from an old backup, and the rest is being put back.
    Importing,
    /// It writes what the log has, or waits for more.
    Following,
    /// The mirror is not what the log holds, and is not written.
    Diverged {
        /// What is wrong with it.
        fault: MirrorFault,
        /// The same in words, and what to do.
        reason: String,
    },
    /// It has ended.
    Stopped,
}

impl State {
    /// One word for a metric's label.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby { .. } => "standby",
            Self::Unreachable { .. } => "unreachable",
            Self::Importing => "importing",
            Self::Following => "following",
            Self::Diverged { .. } => "diverged",
            Self::Stopped => "stopped",
        }
    }

    /// Every word.
    pub const WORDS: [&'static str; 7] =
        ["starting", "standby", "unreachable", "importing", "following", "diverged", "stopped"];
}

/// How a relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Since when it is in this kind of state.
    pub since: Timestamp,
    /// The mirror's last position, as last seen; `None` before it was seen.
    pub position: Option<Position>,
    /// The log's last position, as last seen.
    pub log: Position,
}

impl Status {
    /// How many events the mirror lacks, as last seen.
    pub fn lag(&self) -> u64 {
        self.log.saturating_sub(self.position.unwrap_or(0))
    }

    /// Exposes what it is doing as metrics.
    pub(super) fn measure_state(&self) {
        for word in State::WORDS {
            let is = if word == self.state.word() { 1.0 } else { 0.0 };
            metrics::gauge!("keyledger_mirror_state", "state" => word).set(is);
        }
    }

    /// Exposes how far it is as metrics.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53 events")]
    pub(super) fn measure_position(&self) {
        if let Some(position) = self.position {
            metrics::gauge!("keyledger_mirror_position").set(position as f64);
            metrics::gauge!("keyledger_mirror_lag_events").set(self.lag() as f64);
        }
    }
}
