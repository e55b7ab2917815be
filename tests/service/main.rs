//! The service as its users meet it: real processes, signed webhooks over HTTP, the API, the command line, and `kill -9`.
//!
//! Nothing here reaches into the program. What a test posts is signed as Stripe signs it; what it expects is read back
//! through the API, the command line, or the license engine's own books. Every deployment is audited at its end.

#[cfg(test)]
mod broken_views;
#[cfg(test)]
mod caught_up;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kept_apart;
#[cfg(test)]
mod lost_answers;
#[cfg(test)]
mod lost_log;
#[cfg(test)]
mod missing_issuer;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod random_kills;
#[cfg(test)]
mod replays;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod stories;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod two_processes;
