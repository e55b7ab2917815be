//! The stub's disk: one file of JSON lines, each the whole of a license after it was made or changed.
//!
//! A line is written and synced before its call is answered. A line cut short by a crash was never answered with
//! success and is taken away when the file is opened again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::wire::License;

const FILE: &str = "journal.jsonl";

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    Made(License),
    Changed(License),
}

/// Why the stub's disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Two processes would count apart.
    #[error("another stub uses this directory")]
    InUse,
    /// Not a journal, or damaged before its end.
    #[error("line {line} of the stub's journal cannot be read")]
    Damaged {
        /// From 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The disk.
    #[error("cannot use the stub's journal")]
    Io(#[from] io::Error),
}

/// The open file. It is locked against other processes until dropped.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    /// A write failed: what is at the end of the file is unknown until it is opened anew.
    broken: bool,
}

impl Journal {
    /// Opens or makes the journal in `dir` and reads what it says.
    pub(super) fn open(dir: &Path) -> Result<(Self, Vec<Entry>), JournalError> {
        fs::create_dir_all(dir)?;
        let path = dir.join(FILE);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::InUse,
            TryLockError::Error(error) => JournalError::Io(error),
        })?;
        let (entries, good_bytes) = read(&file)?;
        if good_bytes < file.metadata()?.len() {
            file.set_len(good_bytes)?;
        }
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self { file, broken: false }, entries))
    }

    /// Writes and syncs one line.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed; restart the stub"));
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        self.broken = written.is_err();
        written
    }
}

/// The entries, and how many bytes of whole lines they take.
fn read(file: &File) -> Result<(Vec<Entry>, u64), JournalError> {
    let mut reader = BufReader::new(file);
    let mut entries = Vec::new();
    let mut good_bytes = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        // No line end: the end of the file, or a line cut short.
        if line.last() != Some(&b'\n') {
            return Ok((entries, good_bytes));
        }
        let number = entries.len() + 1;
        let entry = serde_json::from_slice(&line).map_err(|source| JournalError::Damaged { line: number, source })?;
        entries.push(entry);
        good_bytes += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::State;
    use super::*;

    fn license(number: u32) -> License {
        License {
            id: format!("stub-{number:06}"),
            key: "STUB-1".to_owned(),
            reference: "kl-1".to_owned(),
            product: "pro".to_owned(),
            purchase: "sub_1".to_owned(),
            customer: None,
            expires_at: None,
            seats: Some(1),
            features: ["a".to_owned()].into(),
            state: State::Active,
        }
    }

    #[test]
    fn what_was_appended_is_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let written = [Entry::Made(license(1)), Entry::Made(license(2)), Entry::Changed(license(1))];
        let (mut journal, entries) = Journal::open(dir.path()).unwrap();
        assert_eq!(entries, []);
        for entry in &written {
            journal.append(entry).unwrap();
        }
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().1, written);
    }

    #[test]
    fn a_last_line_cut_anywhere_is_taken_away_and_writing_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(&Entry::Made(license(1))).unwrap();
        drop(journal);
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for cut in 1..whole.len() {
            let torn = [whole.as_slice(), &whole[..cut]].concat();
            fs::write(&path, torn).unwrap();
            let (mut journal, entries) = Journal::open(dir.path()).unwrap();
            assert_eq!(entries, [Entry::Made(license(1))], "cut after {cut}");
            journal.append(&Entry::Made(license(2))).unwrap();
            drop(journal);
            let (_, entries) = Journal::open(dir.path()).unwrap();
            assert_eq!(entries, [Entry::Made(license(1)), Entry::Made(license(2))]);
        }
    }

    #[test]
    fn damage_before_the_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "{}\n").unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::Damaged { line: 1, .. })));
    }

    #[test]
    fn two_cannot_use_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path()).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(JournalError::InUse)));
        drop(first);
        Journal::open(dir.path()).unwrap();
    }
}
