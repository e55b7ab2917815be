//! The keys and the token of a deployment: there is one set of each, whichever roles start first and in whatever order.

use anyhow::{Context, bail};
use keyledger_engine::keys::DeploymentKeys;
use keyledger_eventlog::log::EventLog;
use keyledger_schemas::secret::Secret;

use super::Lock;
use crate::settings::{Settings, read_token};
use crate::{cli, keys};

/// The deployment's keys. They are made where none were ever used with this log; else they must be the old ones.
///
/// # Errors
///
/// When they are missing, or others than those that belong to the log, or cannot be read.
pub async fn deployment_keys(settings: &Settings, log: &dyn EventLog, lock: &Lock) -> anyhow::Result<DeploymentKeys> {
    // Of roles that start together one makes them; the others wait here, and load them.
    let _making = lock.making().await?;
    let folder = &settings.keys_dir;
    let was_there = holds_files(folder);
    if !was_there && keys::of_log(log).await? != keys::OfLog::Nothing {
        let events = log.head().await.context("reading the log")?.position;
        bail!(keys::missing(events, folder));
    }
    let loaded = DeploymentKeys::load_or_create(folder)?;
    if !was_there {
        tracing::info!("made new keys in {}", cli::absolute(folder).display());
    }
    keys::require_those_of(log, &loaded, folder).await?;
    keys::claim(log, &loaded, folder).await?;
    Ok(loaded)
}

fn holds_files(folder: &std::path::Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// The API's token and where it can be read. Made where there is none.
///
/// # Errors
///
/// When it cannot be made or read.
pub async fn api_token(settings: &Settings, lock: &Lock) -> anyhow::Result<(Option<Secret>, String)> {
    if let Some(token) = &settings.api.token {
        return Ok((Some(token.clone()), "the settings (`api.token`)".to_owned()));
    }
    let _making = lock.making().await?;
    let file = &settings.api.token_file;
    if settings.api.allow_loopback_without_token && !file.exists() {
        return Ok((None, "no file: callers on this machine need none".to_owned()));
    }
    if cli::make_token(file)? {
        tracing::info!("made a new API token in {}", cli::absolute(file).display());
    }
    match read_token(file) {
        Ok(token) => Ok((Some(token), file.display().to_string())),
        Err(reason) => bail!("`api.token_file`: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyledger_eventlog::memory::MemoryLog;
    use keyledger_schemas::clock::ManualClock;

    use super::*;

    fn log() -> Arc<dyn EventLog> {
        Arc::new(MemoryLog::new(Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH))))
    }

    fn deployment() -> (tempfile::TempDir, Settings) {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::in_dir(folder.path());
        (folder, settings)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn roles_that_start_together_end_with_one_set_of_keys_and_one_token() {
        let (folder, settings) = deployment();
        let log = log();
        let starting = (0..8).map(|_| {
            let (settings, log, folder) = (settings.clone(), log.clone(), folder.path().to_owned());
            tokio::spawn(async move {
                // It waits for whoever makes something, who may need this thread: a role does it before all else.
                let sharing = tokio::task::spawn_blocking(move || Lock::share(&folder, "console").unwrap());
                let lock = sharing.await.unwrap();
                let keys = deployment_keys(&settings, &*log, &lock).await.unwrap();
                let (token, _) = api_token(&settings, &lock).await.unwrap();
                (keys.sealing_key_id(), keys.signing_key_id(), token.unwrap().expose().to_owned())
            })
        });
        let started = futures::future::join_all(starting.collect::<Vec<_>>()).await;
        let first = started[0].as_ref().unwrap();
        assert!(started.iter().all(|other| other.as_ref().unwrap() == first));
    }

    #[tokio::test]
    async fn keys_that_were_used_with_a_log_are_not_made_again_and_others_are_refused() {
        let (folder, settings) = deployment();
        let log = log();
        let lock = Lock::take(folder.path()).unwrap();
        deployment_keys(&settings, &*log, &lock).await.unwrap();

        // Another machine, to which nobody copied them.
        let (other, theirs) = deployment();
        let other_lock = Lock::take(other.path()).unwrap();
        let said = format!("{:#}", deployment_keys(&theirs, &*log, &other_lock).await.unwrap_err());
        assert!(said.contains("restore them from the backup") && said.contains("copy"), "{said}");
        assert!(!theirs.keys_dir.exists(), "none were made");
        DeploymentKeys::create(&theirs.keys_dir).unwrap();
        let said = format!("{:#}", deployment_keys(&theirs, &*log, &other_lock).await.unwrap_err());
        assert!(said.contains("are sealed with the key"), "{said}");

        deployment_keys(&settings, &*log, &lock).await.unwrap();
    }

    #[tokio::test]
    async fn keys_are_made_beside_events_that_came_before_them() {
        let (folder, settings) = deployment();
        let log = log();
        super::super::recorded_settings::record(&*log, &settings.deciding(), jiff::Timestamp::UNIX_EPOCH)
            .await
            .unwrap();
        let lock = Lock::share(folder.path(), "issuer").unwrap();
        deployment_keys(&settings, &*log, &lock).await.unwrap();
        assert!(settings.keys_dir.exists());
    }
}
