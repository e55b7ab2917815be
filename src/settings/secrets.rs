//! Secrets that stand in files of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keyledger_schemas::secret::Secret;

/// Longest file of secrets that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The secret in a file, without white space around it.
///
/// # Errors
///
/// In words for the operator: the file is missing, cannot be read, or is blank.
pub fn read_token(path: &Path) -> Result<Secret, String> {
    let text = read(path)?;
    if text.is_blank() {
        return Err(format!("{} is blank", path.display()));
    }
    Ok(Secret::new(text.expose().trim()))
}

/// The secrets in a file, one on each line; blank lines and lines that begin with `#` are passed over.
///
/// # Errors
///
/// As [`read_token`].
pub(super) fn read_lines(path: &Path) -> Result<Vec<Secret>, String> {
    let text = read(path)?;
    let lines = text.expose().lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let secrets: Vec<Secret> = lines.map(Secret::new).collect();
    if secrets.is_empty() { Err(format!("{} holds no secret", path.display())) } else { Ok(secrets) }
}

/// Whether the file is there and holds nothing. One that cannot be read is no one's business but its reader's.
pub(super) fn is_blank(path: &Path) -> bool {
    read(path).is_ok_and(|text| text.is_blank())
}

/// Whether users other than its owner may read the file.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

fn read(path: &Path) -> Result<Secret, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{} has {size} bytes: that is no file of secrets", path.display()));
    }
    fs::read_to_string(path).map(Secret::new).map_err(failed)
}
