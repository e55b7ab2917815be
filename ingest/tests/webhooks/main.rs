//! The ingest role as senders see it: over real HTTP, against a log in memory.

#[cfg(test)]
mod deliveries;
#[cfg(test)]
mod health;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod observing;
#[cfg(test)]
mod signatures;
#[cfg(test)]
mod slow_readers;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod support;
