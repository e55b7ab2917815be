//! A disk as a file, which a loop device can be put on: the part of the FUSE protocol that one file needs.
//!
//! The kernel's own structures, in the machine's byte order; see `include/uapi/linux/fuse.h`. Without the write-back
//! cache, which is not asked for here, each write arrives before it is answered, and each flush of the loop device
//! arrives as an fsync.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::disk::Disk;
use super::mount;

const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const DESTROY: u32 = 38;
/// Requests that nobody waits for: `FORGET`, `INTERRUPT`, `BATCH_FORGET`.
const UNANSWERED: [u32; 3] = [2, 36, 42];

const NOT_IMPLEMENTED: i32 = -38;

/// The protocol that is spoken, 7.31. Newer kernels speak it too.
const VERSION: [u32; 2] = [7, 31];

/// `FUSE_BIG_WRITES` and `FUSE_MAX_PAGES`.
const FLAGS: u32 = 1 << 5 | 1 << 22;

const WRITE_BYTES_MAX: u32 = 256 * 1024;
const PAGES_MAX: u16 = 64;
const REQUEST_BYTES: usize = 40;
const ANSWER_BYTES: usize = 16;

/// A plain file of its owner alone.
const MODE: u32 = 0o100_600;

/// Puts the disk in the place of the file `at`, until that is unmounted or this process ends.
pub fn serve(disk: Arc<Mutex<Disk>>, at: &Path) {
    File::create(at).unwrap();
    let channel = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd=0,rootmode={MODE:o},user_id=0,group_id=0");
    mount::run_with(
        "mount",
        channel.try_clone().unwrap(),
        &["-i", "-t", "fuse", "-o", &options, "keyledger", at.to_str().unwrap()],
    );
    std::thread::spawn(move || answer_all(&disk, channel));
}

fn answer_all(disk: &Mutex<Disk>, mut channel: File) {
    let mut buffer = vec![0; WRITE_BYTES_MAX as usize + 4096];
    loop {
        let length = match channel.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // It was unmounted.
            Err(_) => return,
        };
        let request = &buffer[..length];
        let (opcode, unique) = (u32_at(request, 4), &request[8..16]);
        if UNANSWERED.contains(&opcode) {
            continue;
        }
        let (error, body) = match answer(&mut disk.lock().unwrap(), opcode, &request[REQUEST_BYTES..]) {
            Some(body) => (0, body),
            None => (NOT_IMPLEMENTED, Vec::new()),
        };
        let whole = u32::try_from(ANSWER_BYTES + body.len()).unwrap();
        let answer = [&whole.to_ne_bytes()[..], &i32::to_ne_bytes(error), unique, &body].concat();
        // Whoever asked may be gone.
        let _ = channel.write(&answer);
    }
}

/// What is answered, unless the request is one that is not needed.
fn answer(disk: &mut Disk, opcode: u32, request: &[u8]) -> Option<Vec<u8>> {
    match opcode {
        INIT => Some(init()),
        GETATTR => Some(attributes(disk.size())),
        OPEN => Some(vec![0; 16]),
        READ => {
            let (at, length) = (usize_at(request, 8), u32_at(request, 16) as usize);
            Some(disk.read(at, length).to_vec())
        }
        WRITE => {
            let (at, length) = (usize_at(request, 8), u32_at(request, 16));
            disk.write(at, &request[40..40 + length as usize]);
            Some([length.to_ne_bytes(), [0; 4]].concat())
        }
        FSYNC => {
            disk.flush();
            Some(Vec::new())
        }
        STATFS => Some(vec![0; 80]),
        // Closing a file flushes no disk.
        RELEASE | FLUSH | DESTROY => Some(Vec::new()),
        _ => None,
    }
}

/// `fuse_init_out`
fn init() -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    for number in [VERSION[0], VERSION[1], WRITE_BYTES_MAX, FLAGS] {
        body.extend(number.to_ne_bytes());
    }
    // At most so many requests in the background, and from when on the kernel holds back.
    body.extend([16_u16.to_ne_bytes(), 12_u16.to_ne_bytes()].concat());
    // The longest write, and the finest time in nanoseconds.
    body.extend([WRITE_BYTES_MAX.to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
    body.extend(PAGES_MAX.to_ne_bytes());
    body.resize(64, 0);
    body
}

/// `fuse_attr_out`: they hold for an hour.
fn attributes(size: usize) -> Vec<u8> {
    let size = u64::try_from(size).unwrap();
    let mut body = Vec::with_capacity(104);
    // Valid for, in seconds and nanoseconds; inode, bytes, blocks; three times.
    for number in [3600, 0, 1, size, size / 512, 0, 0, 0] {
        body.extend(u64::to_ne_bytes(number));
    }
    // The nanoseconds of the times; mode, links, user, group, device, block size, flags.
    for number in [0, 0, 0, MODE, 1, 0, 0, 0, 4096, 0] {
        body.extend(u32::to_ne_bytes(number));
    }
    body
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn usize_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
}
