//! The API over real HTTP, with a log in memory and rows of views as the projector writes them.

#![expect(clippy::unwrap_used, reason = "a test may fail; helpers outside of test functions are not seen as tests")]

mod app;
mod shop;

mod access;
mod acts;
mod events;
mod logs;
mod openapi;
mod plans;
mod problems;
mod repairs;
mod search;
mod stories;
mod views;
