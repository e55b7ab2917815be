//! The one loop that reads the log: [`Consumer`]. Production runs it until told to stop, tests until it is idle.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keyledger_schemas::envelope::{Hash, Position, Recorded, content_hash};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::log::{Head, LogError};
use crate::tail::Tail;

/// Events handed to a handler at once, unless told otherwise.
pub const BATCH: usize = 256;

/// How long a consumer at the end waits for more before it lets time-driven work run, unless told otherwise.
pub const WAIT: Duration = Duration::from_millis(500);

/// How long to wait after the first, second, … failure in a row; the last repeats. The first few are short, because
/// most failures are a busy database. None is long: the database that fails is our own, waiting spares nobody, and
/// whoever has paid waits with us.
pub const DELAYS: &[Duration] = &[Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// How long to stand by after another process moved the checkpoint, before the next batch is tried for.
pub const STAND_BY: Duration = Duration::from_millis(500);

/// How far a consumer has come: the last position it fully handled, and the chain value there.
///
/// The pair must be in the log; a consumer whose pair is not was fed from another log, or the log was restored from
/// an older backup, and must rebuild.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last position fully handled; 0 for none.
    pub position: Position,
    /// The chain value at that position.
    pub chain: Hash,
}

/// Why a batch was not handled.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Nothing was written; the same batch is offered again after a delay from the table.
    #[error("cannot handle position {position} now")]
    Retry {
        /// The position that could not be handled.
        position: Position,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This one event can never be handled: set it aside with a reason a person sees, and go on.
    #[error("cannot ever handle position {position}: {reason}")]
    Park {
        /// The position to set aside. Everything before it in the batch has been handled and checkpointed.
        position: Position,
        /// The reason a person will read.
        reason: String,
    },
    /// The checkpoint was moved by someone else: load it and go on from there.
    #[error("the checkpoint was moved by another process")]
    Moved,
    /// The checkpoint is not in the log: the consumer was fed from another log, or the log was restored from an older
    /// backup. Nothing was handled. Rebuild from the start, or refuse to run.
    #[error("position {position} of the checkpoint is not in the log with its chain value")]
    Diverged {
        /// The position that is not in the log, or is another event there.
        position: Position,
    },
    /// A broken invariant: stop the role loudly.
    #[error("the consumer must stop")]
    Fatal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a consumer does with events. Delivery is at least once: every handler is safe to run again.
#[async_trait]
pub trait Handler: Send + 'static {
    /// A stable name: names the checkpoint, the metrics and the log lines.
    fn name(&self) -> &'static str;

    /// Where it stands, from its own database.
    ///
    /// # Errors
    ///
    /// [`HandleError::Retry`] when the database cannot be reached.
    async fn checkpoint(&mut self) -> Result<Checkpoint, HandleError>;

    /// Handles `batch` (never empty, in order, starting right after `from`) and moves the checkpoint from `from` to the
    /// end of the batch by compare-and-set, all in one transaction.
    ///
    /// # Errors
    ///
    /// See [`HandleError`].
    async fn handle(&mut self, batch: &[Recorded], from: Checkpoint) -> Result<(), HandleError>;

    /// Sets one event aside with a reason, and moves the checkpoint from `from` past it, in one transaction.
    ///
    /// # Errors
    ///
    /// See [`HandleError`]; `Park` is not expected here.
    async fn park(&mut self, event: &Recorded, reason: &str, from: Checkpoint) -> Result<(), HandleError>;

    /// Work that time has made due, apart from events. Called between batches and when idle.
    /// Says whether it did anything.
    ///
    /// # Errors
    ///
    /// See [`HandleError`].
    async fn tick(&mut self) -> Result<bool, HandleError> {
        Ok(false)
    }
}

/// How a consumer reads.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events handed to the handler at once. Default [`BATCH`].
    pub batch: usize,
    /// How long to wait at the end before time-driven work runs again. Default [`WAIT`].
    pub wait: Duration,
    /// The delay table. Default [`DELAYS`].
    pub delays: &'static [Duration],
}

impl Default for Options {
    fn default() -> Self {
        Self { batch: BATCH, wait: WAIT, delays: DELAYS }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many events were handled, and the checkpoint is past them.
    Handled(usize),
    /// No event, but time-driven work was done.
    Ticked,
    /// Nothing to do.
    Idle,
    /// It did not work out; try again after this long.
    Delayed(Duration),
    /// The event at this position was set aside with a reason, and the checkpoint is past it.
    Parked(Position),
}

/// A handler, and where it stands on a tail.
pub struct Consumer<H> {
    handler: H,
    tail: Arc<dyn Tail>,
    options: Options,
    /// `None` until loaded and found in the log, and again when someone else moved it.
    checkpoint: Option<Checkpoint>,
    /// Failures in a row.
    failures: usize,
}

/// The delay after so many failures in a row, from 1.
pub fn delay(table: &[Duration], failures: usize) -> Duration {
    let index = failures.min(table.len()).saturating_sub(1);
    table.get(index).copied().unwrap_or_default()
}

impl<H: Handler> Consumer<H> {
    /// A consumer that has not read its checkpoint yet.
    pub fn new(handler: H, tail: Arc<dyn Tail>, options: Options) -> Self {
        Self { handler, tail, options, checkpoint: None, failures: 0 }
    }

    /// The handler, for a test to look into.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Does the time-driven work that is due, then takes at most one batch, handles it and checkpoints.
    ///
    /// # Errors
    ///
    /// [`HandleError::Diverged`] when the checkpoint is not in the log, and [`HandleError::Fatal`]: the role must stop.
    /// Everything else is a [`Step`].
    pub async fn step(&mut self) -> Result<Step, HandleError> {
        self.step_within(self.options.wait, &CancellationToken::new()).await
    }

    /// Steps until `shutdown`; what is in hand by then is finished and checkpointed.
    ///
    /// # Errors
    ///
    /// As [`Consumer::step`].
    pub async fn run(&mut self, shutdown: CancellationToken) -> Result<(), HandleError> {
        while !shutdown.is_cancelled() {
            if let Step::Delayed(delay) = self.step_within(self.options.wait, &shutdown).await? {
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
        Ok(())
    }

    /// Steps until there is nothing left to do, and answers with the last step: [`Step::Idle`], or [`Step::Delayed`]
    /// when the handler could not go on. It waits for neither events nor delays.
    ///
    /// # Errors
    ///
    /// As [`Consumer::step`].
    pub async fn run_until_idle(&mut self) -> Result<Step, HandleError> {
        let never = CancellationToken::new();
        loop {
            let step = self.step_within(Duration::ZERO, &never).await?;
            if matches!(step, Step::Idle | Step::Delayed(_)) {
                return Ok(step);
            }
        }
    }

    async fn step_within(&mut self, wait: Duration, shutdown: &CancellationToken) -> Result<Step, HandleError> {
        let result = self.try_step(wait, shutdown).await;
        let name = self.handler.name();
        let error = match result {
            Ok(step) => {
                self.failures = 0;
                return Ok(step);
            }
            Err(error @ (HandleError::Fatal(_) | HandleError::Diverged { .. })) => return Err(error),
            Err(HandleError::Park { position, reason }) => {
                return Err(HandleError::Fatal(format!("cannot park position {position} here: {reason}").into()));
            }
            Err(HandleError::Moved) => {
                // Another process does the same work. It goes on without us, and we are here when it is not.
                self.checkpoint = None;
                self.failures = 0;
                tracing::debug!(consumer.name = name, "consumer {name} stands by");
                return Ok(Step::Delayed(STAND_BY));
            }
            Err(error) => error,
        };
        // It is not known whether our own move was kept: ask the handler's database.
        self.checkpoint = None;
        self.failures += 1;
        let delay = delay(self.options.delays, self.failures);
        tracing::warn!(
            consumer.name = name,
            attempt = self.failures,
            delay_ms = delay.as_millis(),
            error = &error as &dyn std::error::Error,
            "consumer {name} tries again later"
        );
        Ok(Step::Delayed(delay))
    }

    async fn try_step(&mut self, wait: Duration, shutdown: &CancellationToken) -> Result<Step, HandleError> {
        let from = match self.checkpoint {
            Some(checkpoint) => checkpoint,
            None => self.load().await?,
        };
        self.checkpoint = Some(from);
        let ticked = self.handler.tick().await?;
        let wait = if ticked { Duration::ZERO } else { wait };
        let page = tokio::select! {
            page = self.tail.next_after(from.position, self.options.batch.max(1), wait) => page,
            () = shutdown.cancelled() => return Ok(Step::Idle),
        };
        let batch = page.map_err(|error| of_log(error, from.position + 1))?;
        if batch.is_empty() {
            self.report(from.position, Some(from.position));
            return Ok(if ticked { Step::Ticked } else { Step::Idle });
        }
        if let Err(error) = follows(&batch, from) {
            return self.reconsider(from, error).await;
        }
        let span = tracing::info_span!(
            parent: None,
            "consumer.batch",
            consumer.name = self.handler.name(),
            position.from = from.position + 1,
            position.to = from.position + batch.len() as u64,
        );
        self.handle(&batch, from).instrument(span).await
    }

    /// A log that was put back under us may have taken the handler's checkpoint back with it, while we remember a later
    /// one. The checkpoint has diverged if it is still where we remember it, or is not in the log either.
    async fn reconsider(&mut self, from: Checkpoint, error: HandleError) -> Result<Step, HandleError> {
        if !matches!(error, HandleError::Diverged { .. }) {
            return Err(error);
        }
        self.checkpoint = None;
        match self.load().await {
            Ok(kept) if kept != from => {
                self.checkpoint = Some(kept);
                Ok(Step::Delayed(Duration::ZERO))
            }
            Ok(_) | Err(HandleError::Diverged { .. }) => Err(error),
            Err(other) => Err(other),
        }
    }

    /// Where the handler stands, if the log has that event.
    async fn load(&mut self) -> Result<Checkpoint, HandleError> {
        let checkpoint = self.handler.checkpoint().await?;
        let position = checkpoint.position;
        let found = if position == 0 {
            Checkpoint::default() == checkpoint
        } else {
            let page = self.tail.next_after(position - 1, 1, Duration::ZERO).await;
            let page = page.map_err(|error| of_log(error, position))?;
            page.first().is_some_and(|event| of_event(event) == checkpoint)
        };
        if found { Ok(checkpoint) } else { Err(HandleError::Diverged { position }) }
    }

    async fn handle(&mut self, batch: &[Recorded], from: Checkpoint) -> Result<Step, HandleError> {
        let (checkpoint, step) = match self.handler.handle(batch, from).await {
            Ok(()) => (batch.last().map_or(from, of_event), Step::Handled(batch.len())),
            Err(HandleError::Park { position, reason }) => {
                let outside = || HandleError::Fatal(format!("position {position} is not in the batch").into());
                let index = batch.iter().position(|event| event.position == position).ok_or_else(outside)?;
                let before = batch[..index].last().map_or(from, of_event);
                self.handler.park(&batch[index], &reason, before).await?;
                self.report_parked(&batch[index], &reason);
                (of_event(&batch[index]), Step::Parked(position))
            }
            Err(error) => return Err(error),
        };
        self.checkpoint = Some(checkpoint);
        // Only a number to look at: a head that cannot be read now is no reason to stop.
        let head = self.tail.head().await.ok().map(|head: Head| head.position);
        self.report(checkpoint.position, head);
        Ok(step)
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53 events")]
    fn report(&self, position: Position, head: Option<Position>) {
        let name = self.handler.name();
        metrics::gauge!("keyledger_consumer_position", "consumer" => name).set(position as f64);
        if let Some(head) = head {
            let lag = head.saturating_sub(position);
            metrics::gauge!("keyledger_consumer_lag_events", "consumer" => name).set(lag as f64);
        }
    }

    fn report_parked(&self, event: &Recorded, reason: &str) {
        let name = self.handler.name();
        metrics::counter!("keyledger_consumer_parked_total", "consumer" => name).increment(1);
        let position = event.position;
        tracing::error!(
            consumer.name = name,
            position,
            event.id = %event.id,
            event.r#type = event.kind,
            "consumer {name} set position {position} aside: {reason}"
        );
    }
}

fn of_event(event: &Recorded) -> Checkpoint {
    Checkpoint { position: event.position, chain: event.chain }
}

/// The batch must begin right after the checkpoint and hang on its chain value: a log that was exchanged under a
/// running consumer is noticed here. So is a byte that changed on the disk: the chain holds the hash of each event's
/// data, and SQLite has no checksums of its own.
fn follows(batch: &[Recorded], from: Checkpoint) -> Result<(), HandleError> {
    let mut before = from;
    for event in batch {
        let position = before.position + 1;
        if event.position != position || event.chain != event.chain_after(&before.chain) {
            return Err(HandleError::Diverged { position });
        }
        if content_hash(&event.data) != event.content_hash {
            let reason = "its data is not what was recorded".to_owned();
            return Err(HandleError::Fatal(LogError::Damaged { position, reason }.into()));
        }
        before = of_event(event);
    }
    Ok(())
}

/// A log that is damaged or closed stops the consumer. Anything else may pass: what makes a running log unsafe (a server
/// put back to an older state, or with other settings) is mended beside us, and warned of until then.
fn of_log(error: LogError, position: Position) -> HandleError {
    match error {
        LogError::Damaged { .. } | LogError::Closed => HandleError::Fatal(error.into()),
        LogError::Database(_) | LogError::Unsafe { .. } => HandleError::Retry { position, source: error.into() },
    }
}

#[cfg(test)]
mod tests;
