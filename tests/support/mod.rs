//! What black-box tests share: a deployment's folder, processes, what is posted, what is asked, and what must come of it.
//!
//! A target that uses it has a module `deployment` beside it with a `Deployment` and a `Service` of the same shape. In
//! `tests/service` that is one process on SQLite; in `tests/cluster` each role is a process on PostgreSQL and NATS.

pub mod client;
pub mod faults;
pub mod folder;
pub mod histories;
pub mod load;
pub mod process;
pub mod random;
pub mod setup;
pub mod sold;
pub mod state;
pub mod stories;
pub mod stub;
pub mod wait;
