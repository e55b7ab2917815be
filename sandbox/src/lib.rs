//! Stand-ins for the services that keyledger calls, so that anyone can try the whole loop without an account.
//!
//! | module | speaks |
//! | --- | --- |
//! | [`cryptlex`] | Cryptlex, Web API v3 |
//! | [`cryptolens`] | Cryptolens, Web API v3 |
//! | [`keygen`] | Keygen, API v1 |
//! | [`stripe`] | Stripe's REST API, as far as keyledger reads and writes it |
//!
//! Each is a stateful server of its own, strict about what it accepts, that misbehaves on demand: [`faults`]. What nobody
//! could verify about the real service is a switch in its `Settings`. They know nothing of keyledger, and share no code
//! with the adapters: a mistake must not cancel out.
//!
//! State is in memory. Clones of a server share it, so that one can be stopped and served again with what it holds.

pub mod cryptlex;
pub mod cryptolens;
pub mod faults;
pub mod keygen;
pub mod stage;
pub mod stripe;
