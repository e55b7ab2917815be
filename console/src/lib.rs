//! What operators see: the JSON API over the log and the projector's views, and the functions behind it.

pub mod search;
