//! The API over real HTTP, with a log in memory and views that the projector folded.

mod app;

mod access;
mod events;
mod openapi;
mod problems;
