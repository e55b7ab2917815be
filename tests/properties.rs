//! Whatever happens at Stripe, and however it arrives: the issuer, its books and a slow model of `docs/deciding.md` agree.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod model;

#[path = "properties/bench.rs"]
mod bench;
#[path = "properties/compare.rs"]
mod compare;
#[path = "properties/deliver.rs"]
mod deliver;
#[path = "properties/generated.rs"]
mod generated;
#[path = "properties/plan.rs"]
mod plan;
#[path = "properties/play.rs"]
mod play;
#[path = "properties/render.rs"]
mod render;
#[path = "properties/stories.rs"]
mod stories;
#[path = "properties/subscription.rs"]
mod subscription;
#[path = "properties/views.rs"]
mod views;
#[path = "properties/world.rs"]
mod world;
