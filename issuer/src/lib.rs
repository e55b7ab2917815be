//! The issuer: turns paid money into licenses and keeps them in step.
//!
//! [`purchase`] is the pure core. It never reads a webhook, writes a view or knows HTTP; [`provider`] calls engines
//! and decides nothing.

pub mod purchase;
pub mod provider;
