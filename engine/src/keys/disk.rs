//! How the deployment's keys lie on disk.
//!
//! The four files of a fresh set appear together or not at all: they are written and synced in a directory beside the
//! final one, which is then renamed into place. Renaming a directory onto one that holds files fails, so an existing
//! set is never overwritten, whoever else is creating one at the same moment.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey};
use zeroize::Zeroizing;

use super::DeploymentKeys;

/// No key file is longer than this; a longer one is not ours.
const FILE_BYTES_MAX: usize = 4096;

/// Where the secret files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// 64 hex digits: what license keys are derived from.
    pub license_key: PathBuf,
    /// 64 hex digits: what seals license keys in events.
    pub sealing: PathBuf,
    /// The Ed25519 private key that signs license files, PKCS#8 PEM.
    pub signing: PathBuf,
}

impl KeyFiles {
    /// The files of the set in `dir`, under the names that [`DeploymentKeys::create`] gives them.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            license_key: dir.join("license-key.secret"),
            sealing: dir.join("sealing.secret"),
            signing: dir.join("license-signing.pem"),
        }
    }
}

/// The public key's file, for those who build license verification into their software. Not a secret, never read here.
const PUBLIC_KEY_FILE: &str = "license-signing.pub.pem";

/// Why there are no keys. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There already is a set; it was left as it is.
    #[error("`{}` already holds files and is never overwritten: load it, or name another directory", dir.display())]
    Exists {
        /// The directory of the set.
        dir: PathBuf,
    },
    /// A file is not there.
    #[error("key file `{}` is missing: restore it from the backup, or run `keyledger init` for a new deployment", path.display())]
    Missing {
        /// The missing file.
        path: PathBuf,
    },
    /// Others could have read a secret.
    #[error("key file `{}` is open to other users (mode {mode:04o}): run `chmod 600 {}`, and make new keys if someone may have read it", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("key file `{}` is not {expected}: restore it from the backup", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The disk, or permissions.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system gave no randomness.
    #[error("the system has no randomness to give; nothing was made")]
    Random(#[source] getrandom::Error),
}

impl DeploymentKeys {
    /// Makes new keys and writes them into the directory `dir` (by convention `<data_dir>/keys`), which must not exist
    /// or be empty: `license-key.secret`, `sealing.secret` and `license-signing.pem` with mode 0600, and the public
    /// `license-signing.pub.pem`. The directory gets mode 0700. When this returns, the files survive a power cut.
    ///
    /// A crash on the way may leave a directory `.keys-new-…` beside `dir`; it was never in use and may be deleted.
    ///
    /// # Errors
    ///
    /// [`KeysError::Exists`] if the directory holds anything, [`KeysError::Io`] and [`KeysError::Random`]; the
    /// directory is then as it was before.
    pub fn create(dir: &Path) -> Result<Self, KeysError> {
        if holds_files(dir)? {
            return Err(KeysError::Exists { dir: dir.to_owned() });
        }
        let keys = Self::generate()?;
        let parent = parent_of(dir);
        let absent: Vec<&Path> = parent.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io("create", parent))?;
        let fresh = parent.join(format!(".keys-new-{}", HEXLOWER.encode(&random_32()?[..8])));
        let placed = write_set(&fresh, &keys).and_then(|()| place(&fresh, dir));
        if let Err(error) = placed {
            // Best effort: what stays behind was never in use.
            let _ = fs::remove_dir_all(&fresh);
            return Err(error);
        }
        sync_dir(parent)?;
        // A directory made on the way is safe only when the one above it is synced too.
        for made in absent {
            sync_dir(parent_of(made))?;
        }
        Ok(keys)
    }

    /// Reads the set in the directory `dir`.
    ///
    /// # Errors
    ///
    /// [`KeysError::Missing`], [`KeysError::Exposed`], [`KeysError::Malformed`] or [`KeysError::Io`].
    pub fn load(dir: &Path) -> Result<Self, KeysError> {
        Self::load_files(&KeyFiles::in_dir(dir))
    }

    /// Reads the set from files that lie wherever settings say.
    ///
    /// # Errors
    ///
    /// As [`DeploymentKeys::load`].
    pub fn load_files(files: &KeyFiles) -> Result<Self, KeysError> {
        let derivation = read_secret(&files.license_key)?;
        let sealing = read_secret(&files.sealing)?;
        let pem = read_private(&files.signing)?;
        let expected = "an Ed25519 private key in PKCS#8 PEM";
        let signing = SigningKey::from_pkcs8_pem(&pem)
            .map_err(|_| KeysError::Malformed { path: files.signing.clone(), expected })?;
        Ok(Self { derivation, sealing, signing })
    }

    /// Reads the set in `dir`, or makes it if there is none. Of several processes that do this at once, one creates
    /// and all load the same keys.
    ///
    /// # Errors
    ///
    /// As [`DeploymentKeys::load`] and [`DeploymentKeys::create`]. A set with a file missing is an error, never
    /// completed: a new secret beside old ones would make other keys for licenses that were already issued.
    pub fn load_or_create(dir: &Path) -> Result<Self, KeysError> {
        if holds_files(dir)? {
            return Self::load(dir);
        }
        match Self::create(dir) {
            Err(KeysError::Exists { .. }) => Self::load(dir),
            made => made,
        }
    }

    /// The public half of the signing key, as SPKI PEM.
    #[expect(clippy::missing_panics_doc, reason = "it does not panic")]
    pub fn public_key_pem(&self) -> String {
        #[expect(clippy::expect_used, reason = "encoding 32 bytes as PEM does not fail")]
        self.verifying_key().to_public_key_pem(LineEnding::LF).expect("32 bytes encode as PEM")
    }
}

pub(super) fn random_32() -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(KeysError::Random)?;
    Ok(bytes)
}

fn holds_files(dir: &Path) -> Result<bool, KeysError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io("read", dir)(error)),
    }
}

/// The directory that holds `dir`; `.` for a bare name.
fn parent_of(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write_set(fresh: &Path, keys: &DeploymentKeys) -> Result<(), KeysError> {
    DirBuilder::new().mode(0o700).create(fresh).map_err(io("create", fresh))?;
    let files = KeyFiles::in_dir(fresh);
    write_file(&files.license_key, 0o600, secret_text(&keys.derivation).as_bytes())?;
    write_file(&files.sealing, 0o600, secret_text(&keys.sealing).as_bytes())?;
    #[expect(clippy::expect_used, reason = "encoding 32 bytes as PEM does not fail")]
    let pem = keys.signing.to_pkcs8_pem(LineEnding::LF).expect("32 bytes encode as PEM");
    write_file(&files.signing, 0o600, pem.as_bytes())?;
    write_file(&fresh.join(PUBLIC_KEY_FILE), 0o644, keys.public_key_pem().as_bytes())?;
    sync_dir(fresh)
}

fn write_file(path: &Path, mode: u32, content: &[u8]) -> Result<(), KeysError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io("create", path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io("write", path))
}

/// Puts the finished set in its place. The system refuses if the place holds files by now.
fn place(fresh: &Path, dir: &Path) -> Result<(), KeysError> {
    fs::rename(fresh, dir).map_err(|error| match error.kind() {
        ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => KeysError::Exists { dir: dir.to_owned() },
        _ => io("create", dir)(error),
    })
}

fn sync_dir(dir: &Path) -> Result<(), KeysError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir))
}

fn secret_text(secret: &[u8; 32]) -> Zeroizing<String> {
    let mut text = HEXLOWER.encode(secret);
    text.push('\n');
    Zeroizing::new(text)
}

fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let malformed = || KeysError::Malformed { path: path.to_owned(), expected: "64 hex digits" };
    let text = read_private(path)?;
    let bytes = Zeroizing::new(HEXLOWER.decode(text.trim().as_bytes()).map_err(|_| malformed())?);
    let secret: [u8; 32] = bytes.as_slice().try_into().map_err(|_| malformed())?;
    Ok(Zeroizing::new(secret))
}

/// Reads a file that nobody but its owner may touch. The mode is that of the opened file, not of the name, so that
/// swapping the file after the check gains nothing.
fn read_private(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => KeysError::Missing { path: path.to_owned() },
        _ => io("open", path)(error),
    })?;
    let metadata = file.metadata().map_err(io("inspect", path))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeysError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.size() > FILE_BYTES_MAX as u64 {
        return Err(KeysError::Malformed { path: path.to_owned(), expected: "a key" });
    }
    // Large enough from the start, so that growing leaves no copy behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX + 1));
    file.take(FILE_BYTES_MAX as u64).read_to_string(&mut text).map_err(io("read", path))?;
    Ok(text)
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    move |source| KeysError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn same(a: &DeploymentKeys, b: &DeploymentKeys) -> bool {
        a.derivation == b.derivation && a.sealing == b.sealing && a.signing == b.signing
    }

    #[test]
    fn created_keys_are_loaded_again_as_they_were() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data/keys");
        let made = DeploymentKeys::create(&dir).unwrap();
        assert!(same(&made, &DeploymentKeys::load(&dir).unwrap()));
        let public = fs::read_to_string(dir.join(PUBLIC_KEY_FILE)).unwrap();
        assert_eq!(public, made.public_key_pem());
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public}");
    }

    #[test]
    fn only_the_owner_can_read_what_is_created() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        DeploymentKeys::create(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        let files = KeyFiles::in_dir(&dir);
        for file in [&files.license_key, &files.sealing, &files.signing] {
            assert_eq!(mode(file), 0o600, "{}", file.display());
        }
    }

    #[test]
    fn nothing_is_left_beside_the_keys() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        DeploymentKeys::create(&dir).unwrap();
        DeploymentKeys::create(&dir).unwrap_err();
        let names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["keys"]);
    }

    #[test]
    fn an_existing_set_is_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        let made = DeploymentKeys::create(&dir).unwrap();
        assert!(matches!(DeploymentKeys::create(&dir), Err(KeysError::Exists { .. })));
        assert!(same(&made, &DeploymentKeys::load(&dir).unwrap()));
    }

    #[test]
    fn a_set_that_appears_while_another_is_written_stays() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        let late = home.path().join("late");
        write_set(&late, &DeploymentKeys::generate().unwrap()).unwrap();
        let made = DeploymentKeys::create(&dir).unwrap();
        assert!(matches!(place(&late, &dir), Err(KeysError::Exists { .. })));
        assert!(same(&made, &DeploymentKeys::load(&dir).unwrap()));
    }

    #[test]
    fn an_empty_directory_is_filled_and_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        fs::create_dir(&dir).unwrap();
        DeploymentKeys::load_or_create(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        DeploymentKeys::create(&dir).unwrap();
        let files = KeyFiles::in_dir(&dir);
        for file in [&files.license_key, &files.sealing, &files.signing] {
            for bad in [0o640, 0o604, 0o620, 0o601] {
                fs::set_permissions(file, fs::Permissions::from_mode(bad)).unwrap();
                let error = DeploymentKeys::load_or_create(&dir).unwrap_err();
                assert!(matches!(error, KeysError::Exposed { mode, .. } if mode == bad), "{error}");
                assert!(error.to_string().contains(&format!("chmod 600 {}", file.display())), "{error}");
            }
            fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        DeploymentKeys::load(&dir).unwrap();
    }

    #[test]
    fn a_set_with_a_file_missing_is_not_completed() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        DeploymentKeys::create(&dir).unwrap();
        let lost = KeyFiles::in_dir(&dir).sealing;
        fs::remove_file(&lost).unwrap();
        let error = DeploymentKeys::load_or_create(&dir).unwrap_err();
        assert!(matches!(&error, KeysError::Missing { path } if *path == lost), "{error}");
        assert!(!lost.exists());
    }

    #[test]
    fn files_that_are_not_keys_are_refused_without_showing_them() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        DeploymentKeys::create(&dir).unwrap();
        let files = KeyFiles::in_dir(&dir);
        for file in [&files.license_key, &files.sealing, &files.signing] {
            let good = fs::read(file).unwrap();
            for bad in ["", "abcdef", &"f".repeat(5000), &"hunter2 ".repeat(8)] {
                fs::write(file, bad).unwrap();
                let error = DeploymentKeys::load(&dir).unwrap_err();
                assert!(matches!(error, KeysError::Malformed { .. }), "{error}");
                assert!(!format!("{error} {error:?}").contains("hunter2"));
            }
            fs::write(file, good).unwrap();
        }
    }

    #[test]
    fn of_many_that_race_one_creates_and_all_load_the_same() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("keys");
        let start = std::sync::Barrier::new(8);
        let loaded: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        DeploymentKeys::load_or_create(&dir).unwrap()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(loaded.iter().all(|keys| same(keys, &loaded[0])));
    }
}
