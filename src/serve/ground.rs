//! What every role stands on: the data folder, the log and the clock of all who share it, the mirror, the gate.

use std::sync::Arc;

use keyledger_eventlog::jetstream::Mirror;
use keyledger_eventlog::log::EventLog;
use keyledger_ingest::gate::Gate;
use keyledger_schemas::clock::Clock;
use metrics_exporter_prometheus::PrometheusHandle;

use super::gate::{Gated, Keeper};
use super::{Lock, holder, log, mirror, restored};
use crate::settings::{Database, Settings};
use crate::{cli, telemetry};

/// Who works on the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One process with all roles, alone.
    Alone,
    /// A role of this name, with others beside it.
    Shared(&'static str),
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Alone => "up",
            Self::Shared(role) => role,
        }
    }
}

/// What every role stands on.
pub struct Ground {
    /// Held for as long as the process lives.
    pub lock: Lock,
    /// Counts, and renders what was counted.
    pub metrics: PrometheusHandle,
    /// The clock of all who share the log.
    pub clock: Arc<dyn Clock>,
    /// The log itself, for whoever puts back what it lost.
    pub bare: Arc<dyn EventLog>,
    /// The log behind the gate, for everybody else.
    pub log: Arc<dyn EventLog>,
    /// Closed while the log lacks events that others have seen.
    pub gate: Gate,
    /// Who opens and closes it.
    pub keeper: Keeper,
    /// The log's mirror, if there is to be one.
    pub mirror: Option<Mirror>,
    /// What this process is called on its leases.
    pub holder: String,
}

impl Ground {
    /// Takes the folder and opens the log. The gate is closed until its keeper has looked.
    ///
    /// # Errors
    ///
    /// When the folder is in use, the log is gone, unsafe, or not there in time, or `[nats]` cannot be used.
    pub async fn lay(settings: &Settings, place: Place, accept_loss: bool) -> anyhow::Result<Self> {
        let metrics = telemetry::count()?;
        cli::make_data_dir(&settings.data_dir)?;
        let mut lock = match place {
            Place::Alone => Lock::take(&settings.data_dir)?,
            Place::Shared(role) => Lock::share(&settings.data_dir, role)?,
        };
        let was_there = log::patiently(settings, || log::log_exists(&settings.log)).await?;
        if !was_there && !accept_loss {
            log::patiently(settings, || restored::require_no_log_before(settings, &lock)).await?;
        }
        let clock = log::patiently(settings, || log::clock(settings)).await?;
        let bare = log::patiently(settings, || log::open_log(settings, clock.clone())).await?;
        if !was_there {
            // Relative paths start at the current folder: started in a wrong one, a second deployment would be born
            // without a word.
            tracing::info!("made a new log in {}", cli::shown(&settings.log));
        }
        let rest = async {
            let making = lock.making().await?;
            lock.remember_log(&making, &settings.log.to_string())?;
            log::make_folder_of(&settings.views)?;
            let holder = match (place, &settings.log) {
                (Place::Alone, Database::File(_)) => holder::of_folder(&settings.data_dir)?,
                (Place::Alone | Place::Shared(_), _) => holder::unique(place.name())?,
            };
            let mirror = mirror::mirror(settings.nats.as_ref(), &*bare, place.name()).await?;
            anyhow::Ok((holder, mirror))
        };
        let (holder, mirror) = match rest.await {
            Ok(rest) => rest,
            Err(error) => {
                bare.close().await;
                return Err(error);
            }
        };
        let gate = Gate::default();
        let keeper = Keeper::new(gate.clone(), bare.clone(), mirror.clone(), settings.views.url(), accept_loss);
        let log: Arc<dyn EventLog> = Arc::new(Gated::new(bare.clone(), keeper.clone()));
        Ok(Self { lock, metrics, clock, bare, log, gate, keeper, mirror, holder })
    }

    /// Looks whether the log holds all that others have seen. If nobody can say now, the gate stays closed until its
    /// keeper can.
    pub async fn look(&self) {
        if let Err(error) = self.keeper.look().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot see yet whether the log is whole");
        }
    }
}
