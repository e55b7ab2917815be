//! Every question and every repair as a plain function: [`Api`]. The HTTP handlers and the command line are thin
//! around it, so they never differ.
//!
//! It reads the projector's views and the log, and writes nothing but operators' events, through the log. It never
//! calls a license engine and never edits a view: the issuer and the projector read the events and act.

mod acts;
mod events;
mod keys;
mod licenses;
mod lists;
mod plan;
mod query;
mod record;
mod repair;
mod search;
mod settings;
mod status;
mod views;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_eventlog::log::EventLog;
use keyledger_projector::read::{AsOf, Views, Within};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::Position;

use crate::problem::Problem;

pub use acts::{Act, Extend};
pub use events::EventQuery;
pub(crate) use record::Entry;
pub use repair::{Attach, Retry, Waive};
pub use views::ViewsAt;

/// The consumer whose checkpoint says how far the issuer is.
const ISSUER: &str = "issuer";

/// Where the issuer keeps its purchases; their `due_at` says what wants its attention.
const ISSUER_PURCHASES: &str = "issuer.purchase";

/// How far the log's mirror on JetStream is, as last known. It answers at once; `None` where there is no mirror.
pub type MirrorAt = Arc<dyn Fn() -> Option<Position> + Send + Sync>;

/// Which rows, and as of when.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// One mode; one source or all.
    pub within: Within,
    /// The time to show states at; `None` for now.
    pub at: Option<Timestamp>,
}

/// Questions about the log and its views, and the repairs of cases. Clones share everything.
#[derive(Clone)]
pub struct Api {
    log: Arc<dyn EventLog>,
    views: Arc<ViewsAt>,
    keys: Arc<DeploymentKeys>,
    clock: Arc<dyn Clock>,
    mirror: Option<MirrorAt>,
}

impl Api {
    /// Over this log and these views; `keys` open sealed license keys and sign license files.
    pub fn new(log: Arc<dyn EventLog>, views: ViewsAt, keys: Arc<DeploymentKeys>, clock: Arc<dyn Clock>) -> Self {
        Self { log, views: Arc::new(views), keys, clock, mirror: None }
    }

    /// With a mirror of the log: the status shows the position that `mirror` gives.
    #[must_use]
    pub fn with_mirror(mut self, mirror: MirrorAt) -> Self {
        self.mirror = Some(mirror);
        self
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    async fn views(&self) -> Result<Views, Problem> {
        Ok(self.views.open().await?)
    }

    /// The time of a view and how far the issuer is. Refuses a view of a source that is not known.
    async fn as_of(&self, view: &View) -> Result<AsOf, Problem> {
        self.source_is_known(view).await?;
        let issuer = Cursor::load(&*self.log, ISSUER).await?.checkpoint().position;
        Ok(AsOf { at: view.at.unwrap_or_else(|| self.clock.now()), issuer: Some(issuer) })
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}
