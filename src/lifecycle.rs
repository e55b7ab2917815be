//! How roles start and stop together.
//!
//! The first SIGTERM or Ctrl-C asks every role to take no more work, finish what is in hand, checkpoint and leave. A
//! second one, or the deadline, drops what is left; that is safe at any line. A role that ends on its own, well or
//! not, ends the process with a failure: half a service is worse than none, because nobody notices.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The roles of this process.
pub struct Lifecycle {
    stop: CancellationToken,
    signals: Signals,
    roles: JoinSet<(&'static str, anyhow::Result<()>)>,
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
        Ok(Self { stop: CancellationToken::new(), signals, roles: JoinSet::new() })
    }

    /// Cancelled when roles are to stop. Cancelling it stops them too.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a role. It must run until [`Lifecycle::stop`] is cancelled.
    pub fn spawn(&mut self, name: &'static str, role: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.roles.spawn(async move { (name, role.await) });
    }

    /// Waits for a signal alone, for work that goes on beside the roles.
    pub async fn interrupted(&mut self) {
        self.signals.next().await;
    }

    /// Waits for a signal, for the token, or for a role to end, and then for all roles to leave.
    ///
    /// # Errors
    ///
    /// When a role died, or did not leave within `deadline`.
    pub async fn run(mut self, deadline: Duration) -> anyhow::Result<()> {
        let died = tokio::select! {
            // In this order: a role that has left because it was told to has not died.
            biased;
            () = self.signals.next() => None,
            () = self.stop.cancelled() => None,
            ended = self.roles.join_next() => ended.map(died),
        };
        match &died {
            None => tracing::info!("stopping: finishing what is in hand"),
            Some(error) => tracing::error!("stopping: {error:#}"),
        }
        self.stop.cancel();
        let left = tokio::select! {
            left = leave(&mut self.roles) => left,
            () = self.signals.next() => Err(anyhow!("told a second time to stop: left at once")),
            () = tokio::time::sleep(deadline) => Err(anyhow!("did not finish within {} s: left at once", deadline.as_secs())),
        };
        match died {
            Some(error) => Err(error),
            None => left,
        }
    }
}

/// Waits for every role. The first failure is the answer.
async fn leave(roles: &mut JoinSet<(&'static str, anyhow::Result<()>)>) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some(ended) = roles.join_next().await {
        let ended = match ended {
            Ok((name, outcome)) => outcome.with_context(|| format!("{name} failed while stopping")),
            Err(error) => Err(anyhow!(error).context("a role failed while stopping")),
        };
        if let Err(error) = &ended {
            tracing::error!("{error:#}");
        }
        result = result.and(ended);
    }
    result
}

/// Why a role ended before it was told to.
fn died(ended: Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("{name} ended by itself"),
        Ok((name, Err(error))) => error.context(format!("{name} failed")),
        Err(error) => anyhow!(error).context("a role panicked"),
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
    use super::*;

    const DEADLINE: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn roles_that_are_told_to_stop_leave_in_peace() {
        let mut lifecycle = Lifecycle::new().unwrap();
        let stop = lifecycle.stop();
        lifecycle.spawn("role", {
            let stop = stop.clone();
            async move {
                stop.cancelled().await;
                Ok(())
            }
        });
        stop.cancel();
        lifecycle.run(DEADLINE).await.unwrap();
    }

    #[tokio::test]
    async fn a_role_that_dies_stops_the_others_and_is_named() {
        let mut lifecycle = Lifecycle::new().unwrap();
        let stop = lifecycle.stop();
        lifecycle.spawn("projector", async { Err(anyhow!("the disk is full")) });
        lifecycle.spawn("ingest", async move {
            stop.cancelled().await;
            Ok(())
        });
        let error = lifecycle.run(DEADLINE).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "projector failed: the disk is full");
    }

    #[tokio::test]
    async fn a_role_that_just_ends_is_a_failure_too() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn("issuer", async { Ok(()) });
        assert_eq!(lifecycle.run(DEADLINE).await.unwrap_err().to_string(), "issuer ended by itself");
    }

    #[tokio::test]
    async fn a_role_that_was_told_to_leave_before_anyone_waited_has_not_died() {
        for _ in 0..20 {
            let mut lifecycle = Lifecycle::new().unwrap();
            lifecycle.spawn("api", async { Ok(()) });
            lifecycle.stop().cancel();
            tokio::task::yield_now().await;
            lifecycle.run(DEADLINE).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_role_that_panics_is_a_failure_too() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn("issuer", async { panic!("planted") });
        assert!(lifecycle.run(DEADLINE).await.is_err());
    }

    #[tokio::test]
    async fn a_role_that_does_not_leave_is_dropped_at_the_deadline() {
        let mut lifecycle = Lifecycle::new().unwrap();
        lifecycle.spawn("issuer", std::future::pending());
        lifecycle.stop().cancel();
        let error = lifecycle.run(DEADLINE).await.unwrap_err();
        assert!(error.to_string().contains("left at once"), "{error}");
    }
}
