//! Rows as the database has them: one file a table, nothing but columns.
//!
//! Column types are the ones that SQLite, PostgreSQL and MySQL share: moments are milliseconds since 1970 in UTC (exact and
//! ordered everywhere), JSON is text, states are words. What the words mean is said by the `store` package.

pub mod audit;
pub mod bindings;
pub mod cursors;
pub mod espo_webhooks;
pub mod history;
pub mod holds;
pub mod inbox;
pub mod instances;
pub mod jobs;
pub mod leases;
pub mod links;
pub mod locks;
pub mod messages;
pub mod replicas;
pub mod roles;
pub mod rules;
pub mod sessions;
pub mod settings;
pub mod sign_ins;
pub mod signals;
pub mod subscriptions;
pub mod switches;
pub mod tokens;
pub mod traffic;
