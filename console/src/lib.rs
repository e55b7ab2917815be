//! What operators see: the JSON API over the log and the projector's views, and the functions behind it.
//!
//! ```text
//!   HTTP ──▶ http ──┐
//!                   ├──▶ api ──▶ views (read), log (read; operators' events appended), keys (open, sign)
//!   command line ───┘
//! ```
//!
//! It knows nothing of the issuer, of license engines and of Stripe's API, and changes nothing but by appending an
//! operator's event.

pub mod access;
pub mod api;
pub mod http;
pub mod model;
pub mod page;
mod plan;
pub mod problem;
pub mod search;

pub use http::{Console, router, serve};
