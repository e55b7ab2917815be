//! The harness: deployments, their processes, what is posted to them, and what is asked of them.

pub mod client;
pub mod deployment;
pub mod histories;
pub mod load;
pub mod process;
pub mod random;
pub mod state;
pub mod stories;
pub mod stub;
pub mod wait;
