//! Secrets that stand in files of their own.

use std::fs::{self, File};
use std::io::{self, Read};
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

/// What is read is bounded, and not only what the file says of its size: a device has none, and never ends.
fn read(path: &Path) -> Result<Secret, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let path = path.display();
        return Err(format!("{path} has more than {FILE_BYTES_MAX} bytes: that is no file of secrets"));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_never_ends_is_no_file_of_secrets() {
        assert!(read_token(Path::new("/dev/zero")).unwrap_err().contains("more than 65536 bytes"));
    }

    #[test]
    fn what_is_not_text_is_not_repeated() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"planted\xff").unwrap();
        let said = read_token(file.path()).unwrap_err();
        assert!(said.starts_with("cannot read ") && !said.contains("planted"), "{said}");
    }
}
