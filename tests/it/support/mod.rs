//! What the tests stand on.

mod broker;
mod browser;
mod database;
mod product;
mod sides;
mod site;
mod world;

pub use broker::{Broker, broker_url, without_broker};
pub use browser::{Browser, Page};
pub use database::{Database, Server, without_servers};
pub use product::command;
pub use sides::{at, day, espo, espo_day, graph_day, graph_time, title, write_counts, writes};
pub use site::{Answer, Site};
pub use world::{Setup, World};

/// Addresses of the seeded users.
pub fn mail(name: &str) -> String {
    format!("{name}@contoso.example")
}
