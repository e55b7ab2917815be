//! Many machines: every role is a process of its own, on a real PostgreSQL and a real nats-server.
//!
//! As in `tests/service`, nothing here reaches into the program. The stories and the disorder are the very same tests, on
//! this deployment; the rest is what only many processes and servers can suffer. Every deployment is audited at its end,
//! and its log and its mirror are read from the servers themselves and compared byte for byte.

#[cfg(test)]
mod any_order;
#[cfg(test)]
mod cuts;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod entrance;
#[cfg(test)]
mod intake;
#[cfg(test)]
mod lost_mirror;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod older_log;
#[cfg(test)]
mod oldest_server;
#[cfg(test)]
#[path = "../service/orders.rs"]
mod orders;
#[cfg(test)]
mod random_kills;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod roles;
#[cfg(test)]
#[path = "../service/stories.rs"]
mod stories;
#[cfg(test)]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "the other target uses the rest")]
mod support;
#[cfg(test)]
mod three_nodes;
#[cfg(test)]
mod traffic;
