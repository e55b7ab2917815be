//! A log that moves: exported from one database, imported into another, and nobody is issued anything again.
//!
//! Real processes and servers, as in `tests/service`. What moves is compared row by row with what was there before: in
//! the log, in the views, in the issuer's state, and in the license engine's own books.

#[cfg(test)]
mod machine;
#[cfg(test)]
mod moves;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod rows;
#[cfg(test)]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "it is shared with tests that need more of it")]
mod support;
#[cfg(test)]
mod text;
