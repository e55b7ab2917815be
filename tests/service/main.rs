//! The service as its users meet it: real processes, signed webhooks over HTTP, the API, the command line, and `kill -9`.
//!
//! Nothing here reaches into the program. What a test posts is signed as Stripe signs it; what it expects is read back
//! through the API, the command line, or the license engine's own books. Every deployment is audited at its end.

mod support;

mod hostile;
mod missing_issuer;
mod orders;
mod planted;
mod random_kills;
mod replays;
mod stopping;
mod stories;
mod two_processes;
