//! Every sentence of design §5, held by a test that drives the whole issuer on a log in memory. `docs/rules.md` says which
//! test holds which sentence.

#[cfg(test)]
mod addons;
#[cfg(test)]
mod adopting;
#[cfg(test)]
mod calling;
#[cfg(test)]
mod customers;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod mapping;
#[cfg(test)]
mod money_back;
#[cfg(test)]
mod one_off;
#[cfg(test)]
mod opening;
#[cfg(test)]
mod people;
#[cfg(test)]
mod seats;
#[cfg(test)]
mod shape;
#[cfg(test)]
mod status;
#[cfg(test)]
mod stripe;
#[cfg(test)]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with tests that need other parts of it")]
mod support;
#[cfg(test)]
mod table;
#[cfg(test)]
mod time;
#[cfg(test)]
mod world;
