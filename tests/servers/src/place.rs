//! Where the servers' programs are, and where they may write.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// What `make needs` puts in place: `.tools` at the top of the project.
pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools")
}

/// A port that was free a moment ago. Whoever takes it tries again with another if it is not any more.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
