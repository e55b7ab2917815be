//! The projector's role, and what becomes of views that are broken. They are derived, and may be made again; so nothing
//! that happens to them may stop what takes webhooks and issues licenses.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use async_trait::async_trait;
use futures::FutureExt;
use keyledger_eventlog::consumer::{Checkpoint, Consumer, HandleError, Handler, Step};
use keyledger_projector::{NAME, Projector, ViewsError, set_aside};
use keyledger_schemas::clock::Clock;
use keyledger_schemas::envelope::{Position, Recorded};
use keyledger_schemas::secret::Secret;
use tokio_util::sync::CancellationToken;

use super::Place;

/// The projector over views that are put aside, once, when they turn out to be broken, and made again from the log. What
/// breaks twice is not mended by that, and is left for people to look at.
pub struct MendedViews {
    url: Secret,
    /// Where they are, to be shown.
    place: String,
    clock: Arc<dyn Clock>,
    /// `None` until they could be opened.
    projector: Option<Projector>,
    was_mended: bool,
}

impl MendedViews {
    /// Opens the views at `url` for writing. Where that fails, it is tried again by whoever reads the log with them.
    pub async fn open(url: Secret, place: String, clock: Arc<dyn Clock>) -> Self {
        let mut views = Self { url, place, clock, projector: None, was_mended: false };
        if let Err(HandleError::Moved) = views.checkpoint().await {
            // They were put aside just now; what hinders the new ones is said when the role starts.
            let _ = views.checkpoint().await;
        }
        views
    }

    /// The projector, on views that are open.
    async fn projector(&mut self) -> Result<&mut Projector, HandleError> {
        let projector = match self.projector.take() {
            Some(projector) => projector,
            None => Projector::open(self.url.expose()).await.map_err(|error| refuse(error, 0))?,
        };
        Ok(self.projector.insert(projector))
    }

    /// Passes on what came of the work, unless it shows that the views are broken. Then others are put in their place,
    /// and the answer is that the checkpoint moved: back to the beginning of the log.
    async fn mending<T>(&mut self, done: Result<T, HandleError>) -> Result<T, HandleError> {
        let error = match done {
            Err(error @ (HandleError::Fatal(_) | HandleError::Retry { .. })) if is_broken(&error) => error,
            done => return done,
        };
        if self.was_mended {
            return Err(for_good(error));
        }
        self.was_mended = true;
        let (reason, now_s) = (anyhow!(error), self.clock.now().as_second());
        let done = match self.projector.take() {
            Some(projector) => projector.set_aside(now_s).await,
            None => set_aside(self.url.expose(), now_s).await,
        };
        match done {
            Ok(aside) => {
                tracing::error!(
                    "the views are broken and were put aside as {aside}; new ones are made from the log: {reason:#}"
                );
                Err(HandleError::Moved)
            }
            Err(error) => {
                let error = anyhow!(error);
                Err(HandleError::Fatal(
                    format!("the views are broken ({reason:#}), and {} cannot be put aside: {error:#}", self.place)
                        .into(),
                ))
            }
        }
    }
}

#[async_trait]
impl Handler for MendedViews {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn checkpoint(&mut self) -> Result<Checkpoint, HandleError> {
        let done = match self.projector().await {
            Ok(projector) => projector.checkpoint().await,
            Err(error) => Err(error),
        };
        self.mending(done).await
    }

    async fn handle(&mut self, batch: &[Recorded], from: Checkpoint) -> Result<(), HandleError> {
        let done = match self.projector().await {
            Ok(projector) => projector.handle(batch, from).await,
            Err(error) => Err(error),
        };
        self.mending(done).await
    }

    async fn park(&mut self, event: &Recorded, reason: &str, from: Checkpoint) -> Result<(), HandleError> {
        let done = match self.projector().await {
            Ok(projector) => projector.park(event, reason, from).await,
            Err(error) => Err(error),
        };
        self.mending(done).await
    }
}

/// A database that cannot be opened now may be opened later; one of something else is not ours to touch.
fn refuse(error: ViewsError, position: Position) -> HandleError {
    match error {
        ViewsError::Database(_) | ViewsError::Newer => HandleError::Retry { position, source: error.into() },
        ViewsError::Unusable { .. } | ViewsError::Damaged { .. } => HandleError::Fatal(error.into()),
    }
}

/// Whether the views are at fault, and not the disk, a lock, or what is somebody else's.
fn is_broken(error: &HandleError) -> bool {
    let (HandleError::Fatal(source) | HandleError::Retry { source, .. }) = error else { return false };
    source.downcast_ref::<ViewsError>().is_some_and(ViewsError::is_broken)
}

/// What is broken again is not tried again.
fn for_good(error: HandleError) -> HandleError {
    match error {
        HandleError::Retry { source, .. } => HandleError::Fatal(source),
        error => error,
    }
}

/// Folds the log into the views until told to stop, and then what the roles before it left, so that a system at rest has
/// nothing unread. It takes `last_within` at most: what is left after a long absence is read the next time.
///
/// Views that cannot be kept stay as they are. What else runs in this process goes on: webhooks are taken and licenses
/// issued without them, and the status says how far behind they are. A process that does nothing else leaves, to be
/// started again; but not where that would only put broken views aside once more.
///
/// # Errors
///
/// When the views have seen events that the log does not hold: see [`super::restored`]. When nothing else runs here: why
/// they cannot be kept.
pub async fn run(
    projecting: Consumer<MendedViews>,
    stop: CancellationToken,
    last_within: Duration,
    place: Place,
    is_down: &AtomicBool,
) -> anyhow::Result<()> {
    metrics::describe_gauge!("keyledger_views_down", "1 when the views are no longer kept, until the next start");
    metrics::gauge!("keyledger_views_down").set(0.0);
    let keeping = AssertUnwindSafe(keep(projecting, stop.clone(), last_within)).catch_unwind();
    let (reason, helps_to_restart) = match keeping.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error @ HandleError::Diverged { .. })) => return Err(error.into()),
        Ok(Err(error)) => {
            let helps_to_restart = !is_broken(&error);
            (anyhow!(error), helps_to_restart)
        }
        Err(_) => (anyhow!("it panicked"), true),
    };
    metrics::gauge!("keyledger_views_down").set(1.0);
    is_down.store(true, Ordering::Relaxed);
    if place != Place::Alone && helps_to_restart {
        return Err(reason);
    }
    tracing::error!(
        "projector failed, and the views stand still: {reason:#}. Webhooks are taken and licenses issued all the same; \
         see `keyledger doctor`, and start again"
    );
    stop.cancelled().await;
    Ok(())
}

async fn keep(
    mut projecting: Consumer<MendedViews>,
    stop: CancellationToken,
    last_within: Duration,
) -> Result<(), HandleError> {
    projecting.run(stop).await?;
    let last = async {
        while let Step::Delayed(delay) = projecting.run_until_idle().await? {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    };
    let Ok(ended) = tokio::time::timeout(last_within, last).await else {
        tracing::warn!("the views are behind the log; they go on from there at the next start");
        return Ok(());
    };
    ended
}
