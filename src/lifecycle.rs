//! How roles start and stop together.
//!
//! The first SIGTERM or Ctrl-C asks the roles to stop in the order of the data: those that take something in, then those
//! that work on it, then those that show it, then those that carry it elsewhere, each asked when the one before has
//! left. So nothing that was taken in is left lying between two roles. A second signal, or the deadline, drops what is
//! left; that is safe at any line. A role that ends on its own, well or not, ends the process with a failure: half a
//! service is worse than none, because nobody notices.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Where a role stands in the flow of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Takes in what comes from outside, webhooks and people's requests, into the log.
    Intake,
    /// Works on what is in the log, and adds to it.
    Work,
    /// Shows what is in the log.
    Show,
    /// Carries what is in the log elsewhere, for those who stopped before it to the last.
    Carry,
}

/// The order in which stages stop.
const ORDER: [Stage; 4] = [Stage::Intake, Stage::Work, Stage::Show, Stage::Carry];

/// How a task of a role ended.
type Ended = Result<(Id, anyhow::Result<()>), JoinError>;

/// The roles of this process.
pub struct Lifecycle {
    stop: CancellationToken,
    signals: Signals,
    stages: [CancellationToken; ORDER.len()],
    roles: Roles,
}

impl Lifecycle {
    /// No roles yet. From here on a signal no longer ends the process by itself: it waits for [`Lifecycle::run`], so that
    /// one that comes while roles start is not lost.
    ///
    /// # Errors
    ///
    /// When the system does not let us listen for signals.
    pub fn new() -> anyhow::Result<Self> {
        let signals = Signals::new().context("listening for signals")?;
        let stages = ORDER.map(|_| CancellationToken::new());
        Ok(Self { stop: CancellationToken::new(), signals, stages, roles: Roles::default() })
    }

    /// Cancelling it has the same effect as the first signal. Roles do not watch it: they are handed their stage's.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a role. It must run until the token that it is handed is cancelled.
    pub fn spawn<R>(&mut self, stage: Stage, name: &'static str, role: impl FnOnce(CancellationToken) -> R)
    where
        R: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let token = self.stages[stage as usize].clone();
        self.roles.spawn(stage, name, role(token));
    }

    /// Waits for a signal alone, for work that goes on beside the roles.
    pub async fn interrupted(&mut self) {
        self.signals.next().await;
    }

    /// Waits for a signal, for the token, or for a role to end, and then for all roles to leave, stage by stage.
    ///
    /// # Errors
    ///
    /// When a role died, or did not leave within `deadline`.
    pub async fn run(mut self, deadline: Duration) -> anyhow::Result<()> {
        let died = tokio::select! {
            () = self.signals.next() => None,
            () = self.stop.cancelled() => None,
            ended = self.roles.next() => ended.map(died),
        };
        match &died {
            None => tracing::info!("stopping: finishing what is in hand"),
            Some(error) => tracing::error!("stopping: {error:#}"),
        }
        let left = tokio::select! {
            left = self.roles.leave(&self.stages) => left,
            () = self.signals.next() => Err(anyhow!("told a second time to stop: left at once")),
            () = tokio::time::sleep(deadline) => Err(anyhow!("did not finish within {} s: left at once", deadline.as_secs())),
        };
        match died {
            Some(error) => Err(error),
            None => left,
        }
    }
}

/// The tasks of roles that have not ended.
#[derive(Default)]
struct Roles {
    tasks: JoinSet<anyhow::Result<()>>,
    named: HashMap<Id, (Stage, &'static str)>,
}

impl Roles {
    fn spawn(
        &mut self,
        stage: Stage,
        name: &'static str,
        role: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let task = self.tasks.spawn(role);
        self.named.insert(task.id(), (stage, name));
    }

    /// The next role to end, and how. `None` when none is left.
    async fn next(&mut self) -> Option<(&'static str, anyhow::Result<()>)> {
        let ended: Ended = self.tasks.join_next_with_id().await?;
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), Err(anyhow!(error).context("it panicked"))),
        };
        let name = self.named.remove(&id).map_or("a role", |(_, name)| name);
        Some((name, outcome))
    }

    /// Asks one stage after the other to stop, and waits for it. The first failure is the answer.
    async fn leave(&mut self, stages: &[CancellationToken; ORDER.len()]) -> anyhow::Result<()> {
        let mut result = Ok(());
        for (stage, token) in ORDER.iter().zip(stages) {
            token.cancel();
            while self.named.values().any(|(of, _)| of == stage) {
                let Some((name, outcome)) = self.next().await else { break };
                let ended = outcome.with_context(|| format!("{name} failed while stopping"));
                if let Err(error) = &ended {
                    tracing::error!("{error:#}");
                }
                result = result.and(ended);
            }
        }
        result
    }
}

/// Why a role ended before it was told to.
fn died((name, outcome): (&'static str, anyhow::Result<()>)) -> anyhow::Error {
    match outcome {
        Ok(()) => anyhow!("{name} ended by itself"),
        Err(error) => error.context(format!("{name} failed")),
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(200);

    async fn until_told(stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn roles_that_are_told_to_stop_leave_in_peace() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn(Stage::Work, "role", until_told);
        lifecycle.stop().cancel();
        lifecycle.run(DEADLINE).await.unwrap();
    }

    #[tokio::test]
    async fn roles_leave_in_the_order_of_the_data_each_after_the_one_before() {
        let mut lifecycle = Lifecycle::new().unwrap();
        let left = Arc::new(Mutex::new(Vec::new()));
        for (stage, name) in [(Stage::Show, "projector"), (Stage::Work, "issuer"), (Stage::Intake, "ingest")] {
            let left = left.clone();
            lifecycle.spawn(stage, name, |stop| async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_millis(10)).await;
                left.lock().unwrap().push(name);
                Ok(())
            });
        }
        lifecycle.stop().cancel();
        lifecycle.run(DEADLINE).await.unwrap();
        assert_eq!(*left.lock().unwrap(), ["ingest", "issuer", "projector"]);
    }

    #[tokio::test]
    async fn a_role_that_dies_stops_the_others_and_is_named() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn(Stage::Show, "projector", |_| async { Err(anyhow!("the disk is full")) });
        lifecycle.spawn(Stage::Intake, "ingest", until_told);
        let error = lifecycle.run(DEADLINE).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "projector failed: the disk is full");
    }

    #[tokio::test]
    async fn a_role_that_dies_while_others_stop_is_named_too() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn(Stage::Work, "issuer", |stop| async move {
            stop.cancelled().await;
            Err(anyhow!("the disk is full"))
        });
        lifecycle.spawn(Stage::Show, "projector", until_told);
        lifecycle.stop().cancel();
        let error = lifecycle.run(DEADLINE).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "issuer failed while stopping: the disk is full");
    }

    #[tokio::test]
    async fn a_role_that_just_ends_is_a_failure_too() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn(Stage::Work, "issuer", |_| async { Ok(()) });
        assert_eq!(lifecycle.run(DEADLINE).await.unwrap_err().to_string(), "issuer ended by itself");
    }

    #[tokio::test]
    async fn a_role_that_panics_is_a_failure_too() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn(Stage::Work, "issuer", |_| async { panic!("planted") });
        let error = lifecycle.run(DEADLINE).await.unwrap_err();
        assert!(format!("{error:#}").starts_with("issuer failed: it panicked"), "{error:#}");
    }

    #[tokio::test]
    async fn a_role_that_does_not_leave_is_dropped_at_the_deadline() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn(Stage::Work, "issuer", |_| std::future::pending());
        lifecycle.stop().cancel();
        let error = lifecycle.run(DEADLINE).await.unwrap_err();
        assert!(error.to_string().contains("left at once"), "{error}");
    }
}
