//! The real binary against the two simulators, over real HTTP. Each test has its own world: simulators, database, ports.
//!
//! `IT_WORLDS` (4) worlds live at a time; `IT_PATIENCE` (1) stretches every deadline; `IT_CRASH_SEEDS` (12) is how many
//! seeds the crash loop plays and `IT_CRASH_SEED` names a single one.

#![recursion_limit = "256"]

#[cfg(test)]
mod acting;
#[cfg(test)]
mod api;
#[cfg(test)]
mod attachments;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod bad_data;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod choices;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod conflicts;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod database_away;
#[cfg(test)]
mod deletions;
#[cfg(test)]
mod disk_full;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod healing;
mod hints;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod mailboxes;
#[cfg(test)]
mod meetings;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod notes;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod pairs;
#[cfg(test)]
mod people;
#[cfg(test)]
mod queues;
#[cfg(test)]
mod quiet;
#[cfg(test)]
mod rabbit;
#[cfg(test)]
mod reassigned;
#[cfg(test)]
mod receivers;
#[cfg(test)]
mod relink;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod revert;
#[cfg(test)]
mod scale_out;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod series;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod support;
#[cfg(test)]
mod sweeps;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod ui;
