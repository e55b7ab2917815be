//! A file system on a disk that forgets, mounted where it is wanted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::disk::Disk;
use super::fuse;
use crate::support::random::Random;

const DISK_BYTES: usize = 384 * 1024 * 1024;

const NEEDS: &str = "the power-cut test mounts disks of its own: run `make test-power` as root on Linux, with /dev/fuse \
     and loop devices, and with mount and mkfs.ext4 in PATH";

/// A mounted disk. Unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    disk: Arc<Mutex<Disk>>,
    file: PathBuf,
    at: PathBuf,
    _folder: TempDir,
}

impl Mounted {
    /// An empty file system.
    pub fn empty(at: &Path) -> Self {
        let disk = Self::serve(vec![0; DISK_BYTES], at);
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        run("mkfs.ext4", &["-q", "-F", "-E", options, disk.file.to_str().unwrap()]);
        disk.mount();
        disk
    }

    /// What a power cut left. The file system mends itself, as it does at a start.
    pub fn left(content: Vec<u8>, at: &Path) -> Self {
        let disk = Self::serve(content, at);
        disk.mount();
        disk
    }

    fn serve(content: Vec<u8>, at: &Path) -> Self {
        let may = fs::metadata("/dev/fuse").and_then(|_| fs::metadata("/dev/loop-control")).is_ok() && is_root();
        assert!(may, "{NEEDS}");
        let folder = TempDir::with_prefix("keyledger-disk-").unwrap();
        let file = folder.path().join("disk");
        let disk = Arc::new(Mutex::new(Disk::holding(content)));
        fuse::serve(disk.clone(), &file);
        fs::create_dir_all(at).unwrap();
        Self { disk, file, at: at.to_owned(), _folder: folder }
    }

    fn mount(&self) {
        run("mount", &["-t", "ext4", "-o", "loop", self.file.to_str().unwrap(), self.at.to_str().unwrap()]);
    }

    /// Writes out everything that was written, and flushes.
    pub fn sync(&self) {
        run("sync", &["-f", self.at.to_str().unwrap()]);
    }

    /// What is left on the disk if the power goes now. It goes on until it is dropped, and nobody will know.
    pub fn cut(&self, random: &mut Random) -> Vec<u8> {
        self.disk.lock().unwrap().cut(random)
    }

    /// How often the disk was told to flush.
    pub fn flushes(&self) -> u64 {
        self.disk.lock().unwrap().flushes()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for path in [&self.at, &self.file] {
            // Where somebody still has a file open, it goes when they do.
            let _ = Command::new("umount").arg("-l").arg(path).stderr(Stdio::null()).status();
        }
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn run(program: &str, arguments: &[&str]) {
    run_with(program, Stdio::null(), arguments);
}

/// Runs a program that must end well, with something as its standard input.
pub fn run_with(program: &str, stdin: impl Into<Stdio>, arguments: &[&str]) {
    let ended = Command::new(program).args(arguments).stdin(stdin).output();
    let output = ended.unwrap_or_else(|error| panic!("cannot run {program}: {error}; {NEEDS}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}; {NEEDS}");
}
