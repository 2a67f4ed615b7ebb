//! The rules and traps of the Graph simulator, asked one by one; over real HTTP where the wire matters.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod delta;
mod events;
mod meetings;
mod notifications;
mod sign_in;
mod support;
mod todo;
mod wire;
