//! How far each part has come.

use jiff::Timestamp;
use keyledger_eventlog::checkpoint::Cursor;
use keyledger_projector::ViewsError;
use keyledger_projector::read;

use super::{Api, ISSUER, ISSUER_PURCHASES, View};
use crate::model::{IssuerStatus, LogStatus, ProjectorStatus, Reconciled, Status};
use crate::problem::Problem;

impl Api {
    /// How far the log, the issuer and the projector are, and how many cases are open.
    ///
    /// Read in this order, so that all of it together never says "caught up" too early: an event that the issuer had
    /// read by its position is among what is due, or worked off and its outcome in the log; and what was appended
    /// meanwhile is in the head, which is read last, so that a part never seems to be ahead of it.
    ///
    /// # Errors
    ///
    /// [`Problem::NotReady`] when the log or the views cannot be reached.
    pub async fn status(&self, view: &View) -> Result<Status, Problem> {
        let as_of = self.as_of(view).await?;
        let views = self.views_status(view, as_of.at).await?;
        let issuer = Cursor::load(&*self.log, ISSUER).await?.checkpoint().position;
        let due_now = self.log.state_due_count(ISSUER_PURCHASES, self.clock.now()).await?;
        let mirror = self.mirror.as_ref().and_then(|position| position());
        let head = self.log.head().await?;
        Ok(Status {
            log: LogStatus { position: head.position },
            mirror: mirror.map(|position| LogStatus { position }),
            issuer: IssuerStatus { position: issuer, due_now },
            projector: ProjectorStatus {
                position: views.as_ref().map_or(0, |views| views.position),
                parked: views.as_ref().map_or(0, |views| views.parked),
            },
            cases_open: views.as_ref().map_or(0, read::Status::cases_open_total),
            reconciled: views
                .map(|views| views.reconciled.into_iter().map(Reconciled::from).collect())
                .unwrap_or_default(),
        })
    }

    /// The last position of the log.
    ///
    /// # Errors
    ///
    /// [`Problem::NotReady`] when the log cannot be reached.
    pub async fn log_position(&self) -> Result<u64, Problem> {
        Ok(self.log.head().await?.position)
    }

    /// Whether there are views of this build that can be read.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Unusable`] when there are none; otherwise when they cannot be read.
    pub async fn require_views(&self) -> Result<(), ViewsError> {
        self.views.open().await?.position().await.map(drop)
    }

    /// The last position that the views show.
    ///
    /// # Errors
    ///
    /// [`Problem::NotReady`] when the views cannot be reached.
    pub async fn position(&self) -> Result<u64, Problem> {
        match self.views.open().await {
            Ok(views) => Ok(views.position().await?),
            Err(ViewsError::Unusable { .. }) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// `None` while there are no views, or another build's: the projector has not come to make its own, so it stands
    /// at the start.
    async fn views_status(&self, view: &View, at: Timestamp) -> Result<Option<read::Status>, Problem> {
        match self.views.open().await {
            Ok(views) => Ok(Some(views.status(&view.within, at).await?)),
            Err(ViewsError::Unusable { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
