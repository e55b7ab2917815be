//! The seed systems as their sellers meet them: every story with every engine, with faults and kills, against stand-ins
//! that count what they really made.

#[cfg(test)]
#[path = "../service/deployment.rs"]
#[expect(dead_code, reason = "it is shared with tests that need more of it")]
mod deployment;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod migrating;
#[cfg(test)]
mod quiet;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod stripe;
#[cfg(test)]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "it is shared with tests that need more of it")]
mod support;
#[cfg(test)]
mod told;
