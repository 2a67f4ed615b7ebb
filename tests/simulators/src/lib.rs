//! Strict simulators of the two systems that espo-outlook joins: EspoCRM 9.3 and Microsoft Graph. They speak real HTTP,
//! refuse what the real ones refuse, and take time, ids and faults from the test that runs them.

pub mod espocrm;
pub mod microsoft;
pub mod plumbing;
