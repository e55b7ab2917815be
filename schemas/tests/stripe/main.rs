//! How Stripe's JSON is read: on the fixtures, on shapes of other years, and on what nobody would send.

mod fixtures;

mod header;
mod old_shapes;
mod properties;
mod register;
mod shapes;
mod stories;
