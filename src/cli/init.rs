//! `keyledger init`: a commented settings file, the deployment's keys, the API token. Never overwrites anything.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use keyledger_engine::keys::{DeploymentKeys, KeysError};
use keyledger_schemas::secret::Secret;
use serde_json::json;

use super::args::Init;
use super::{Context, open};
use crate::keys;
use crate::output::Exit;
use crate::serve;
use crate::settings::{DEFAULT_FILE, EXAMPLE, Settings};

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// Makes what is not there yet.
///
/// # Errors
///
/// When a file cannot be written, what is there cannot be used, or new keys would belong to a log of others.
pub async fn run(context: &Context, _: &Init) -> anyhow::Result<Exit> {
    let file = context.shared.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let wrote = write_new(&file, EXAMPLE.as_bytes(), 0o600).with_context(|| format!("writing {}", file.display()))?;
    let settings = Settings::load(Some(&file), &context.environment)?;
    let shown = |path: &Path| open::absolute(path).display().to_string();
    let mut made = Vec::new();
    let mut kept = Vec::new();
    if wrote { &mut made } else { &mut kept }.push(shown(&file));

    refuse_beside_others_log(&settings).await?;
    make_data_dir(&settings.data_dir)?;
    match DeploymentKeys::create(&settings.keys_dir) {
        Ok(_) => made.push(shown(&settings.keys_dir)),
        Err(KeysError::Exists { .. }) => {
            DeploymentKeys::load(&settings.keys_dir)?;
            kept.push(shown(&settings.keys_dir));
        }
        Err(error) => return Err(error.into()),
    }
    if settings.api.token.is_none() {
        let token = make_token(&settings.api.token_file)?;
        if token { &mut made } else { &mut kept }.push(shown(&settings.api.token_file));
    }
    if context.output.json {
        context.output.value(&json!({"made": made, "kept": kept}))?;
        return Ok(Exit::Fine);
    }
    for name in made {
        context.output.line(format!("made {name}"))?;
    }
    for name in kept {
        context.output.line(format!("kept {name} as it is"))?;
    }
    context.output.words(format!(
        "\nNext: put the webhook secret and what you sell into {}, then `keyledger doctor` and `keyledger`.\n\
         Back up {} together with the log: without it license keys can be neither read nor made again.",
        file.display(),
        settings.keys_dir.display()
    ));
    Ok(Exit::Fine)
}

/// A log with events belongs to the keys it was begun with. Others beside it would look fine, and read nothing in it.
async fn refuse_beside_others_log(settings: &Settings) -> anyhow::Result<()> {
    // A server that cannot be asked now is asked at the first start; nothing is sealed before that.
    if !serve::log_exists(&settings.log).await.unwrap_or(false) {
        return Ok(());
    }
    let log = open::log_of(settings).await?;
    let events = log.head().await.context("reading the log")?.position;
    let judged = match DeploymentKeys::load(&settings.keys_dir) {
        _ if events == 0 => Ok(()),
        Err(KeysError::Missing { .. }) => Err(anyhow!(keys::missing(events, &settings.keys_dir))),
        Err(error) => Err(error.into()),
        Ok(loaded) => keys::require_those_of(&*log, &loaded, &settings.keys_dir).await,
    };
    log.close().await;
    judged
}

/// Makes the folder of everything, for its owner alone.
///
/// # Errors
///
/// When it cannot be made.
pub fn make_data_dir(path: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("making the folder {}", path.display()))
}

/// Makes a token for the API in a file for its owner alone. Says whether it did: one that is there is kept.
///
/// # Errors
///
/// When the file cannot be written, or the system has no randomness.
pub fn make_token(path: &Path) -> anyhow::Result<bool> {
    let token = random_token()?;
    write_new(path, format!("{}\n", token.expose()).as_bytes(), 0o600)
        .with_context(|| format!("writing {}", path.display()))
}

/// A token that nobody can guess.
///
/// # Errors
///
/// When the system has no randomness.
pub fn random_token() -> anyhow::Result<Secret> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    if let Err(error) = getrandom::fill(&mut bytes) {
        bail!("the system has no randomness to give: {error}");
    }
    Ok(Secret::new(format!("kl_{}", super::events::hex(&bytes))))
}

/// Writes a file that is not there yet, safe against a power cut. `false` if it is there.
fn write_new(path: &Path, content: &[u8], mode: u32) -> std::io::Result<bool> {
    // What is there needs no folder that can be written: a container's settings file is in one that cannot.
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    // Written beside and linked into place: a crash on the way never leaves half a token under the real name.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".new-{}", serve::nonce().map_err(std::io::Error::other)?));
    let beside = PathBuf::from(beside);
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let placed = written.and_then(|()| match fs::hard_link(&beside, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    });
    let _ = fs::remove_file(&beside);
    placed
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inner/api.token");
        assert!(make_token(&path).unwrap());
        let first = fs::read_to_string(&path).unwrap();
        assert!(!make_token(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(first.trim().len() >= 2 * TOKEN_BYTES);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_file_that_is_there_is_kept_where_nothing_can_be_written() {
        // Nobody, not even root, makes files there.
        assert!(!write_new(Path::new("/proc/version"), b"", 0o600).unwrap());
    }
}
