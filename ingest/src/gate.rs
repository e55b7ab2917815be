//! Whether events are taken at all: closed while the log lacks events that others have seen.
//!
//! Whoever looks after the log opens and closes it; this crate only asks.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::health::{NotReady, ReadinessCheck};

/// Why nothing is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It is not known yet whether the log holds everything.
    Unknown,
    /// The mirror holds events that the log does not.
    BehindMirror,
    /// The views have seen events that the log does not hold.
    BehindViews,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "it is not known yet whether the log is whole",
            Self::BehindMirror => "the log is behind its mirror",
            Self::BehindViews => "the log is behind its views",
        })
    }
}

/// Opens and closes intake. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<Option<Closed>>>);

impl Default for Gate {
    /// An open one.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Gate {
    /// Closes it for this reason, or opens it. Says whether that changed anything.
    pub fn set(&self, closed: Option<Closed>) -> bool {
        self.0.send_if_modified(|now| std::mem::replace(now, closed) != closed)
    }

    /// Why it is closed, if it is.
    pub fn closed(&self) -> Option<Closed> {
        *self.0.borrow()
    }

    /// Waits until it is open.
    pub async fn opened(&self) {
        // The sender is ours: it is not dropped meanwhile.
        let _ = self.0.subscribe().wait_for(Option::is_none).await;
    }

    /// Waits until it is closed.
    pub async fn shut(&self) {
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

#[async_trait]
impl ReadinessCheck for Gate {
    fn name(&self) -> &'static str {
        "intake"
    }

    async fn check(&self) -> Result<(), NotReady> {
        self.closed().map_or(Ok(()), |reason| Err(NotReady(reason.to_string())))
    }
}
