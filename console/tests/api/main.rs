//! The API over real HTTP, with a log in memory and views that the projector folded.

mod app;
mod shop;

mod access;
mod events;
mod logs;
mod openapi;
mod problems;
mod repairs;
mod search;
mod views;
