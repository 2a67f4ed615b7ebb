//! espo-outlook keeps EspoCRM and Microsoft 365 in step: meetings, calls and tasks, both ways.
//!
//! # The way of a change
//!
//! A webhook, a notification, a poll difference, a sweep difference, a replay and a click all become a [`sync::Change`]: a
//! hint that names a place to look at. [`http`] receives hints, [`queue`] keeps them durably, [`work`] leases them, reads
//! both ends afresh, lets [`sync::decide`] make a plan, executes it and stores what [`sync::absorb`] makes of the outcomes.
//! [`schedule`] finds what no hint told: it polls, sweeps and renews.
//!
//! # Who may use whom
//!
//! `main -> cli -> app -> { http, work, schedule }`. The packages `espocrm` and `graph` speak to the two systems, `store`
//! to the database, `sync` is pure. Time, ids and randomness are handed down from [`app::App`].

#![recursion_limit = "256"]

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod id;
pub mod queue;
pub mod schedule;
pub mod telemetry;
pub mod trace;
pub mod vault;
pub mod work;
