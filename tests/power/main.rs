//! Power cuts: what was acknowledged is there after one, on SQLite and on PostgreSQL.
//!
//! ```text
//!   keyledger up, PostgreSQL      real processes; webhooks are signed and answered
//!   ext4                          mounted; what no one syncs stays in the kernel's memory
//!   a loop device                 passes writes on, and flushes
//!   a file made by FUSE           served by this process: the disk of `disk.rs`, which forgets what is not flushed
//! ```
//!
//! At a random moment under load it is noted what was acknowledged, and then what would be left on the disk. Everything
//! is killed, what is left is mounted, and everything is started on it again.
//!
//! It needs root and mounts, so that it is no part of `make test`: `make test-power` runs it.

#[cfg(test)]
mod control;
#[cfg(test)]
mod cuts;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod fuse;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod mount;
#[cfg(test)]
mod post;
#[cfg(test)]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "it is shared with tests that need more of it")]
mod support;
