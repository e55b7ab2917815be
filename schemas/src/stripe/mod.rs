//! How Stripe's JSON is read.
