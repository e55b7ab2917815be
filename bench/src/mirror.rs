//! To be written.

use anyhow::{Result, bail};

use crate::ground::Ground;
use crate::report::Report;

/// Measures it.
pub async fn run(_ground: &Ground, _report: &mut Report) -> Result<()> {
    bail!("not written yet")
}
