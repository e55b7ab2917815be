//! How Stripe's JSON is read: on the fixtures, on shapes of other years, and on what nobody would send.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod fixtures;

mod api;
mod fetched;
mod header;
mod news;
mod old_shapes;
mod properties;
mod register;
mod shapes;
mod stories;
