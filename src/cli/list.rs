//! What the commands that list something have in common: from when on, and which page of it.

use clap::Args as ClapArgs;
use serde_json::Value;

use super::client::Service;

/// A span of time.
#[derive(Debug, ClapArgs)]
pub struct Span {
    /// From then on: 2026-11-22 or 2026-11-22T10:00:00Z.
    #[arg(long)]
    pub since: Option<String>,
    /// Before that.
    #[arg(long)]
    pub until: Option<String>,
}

/// Which page of a list.
#[derive(Debug, ClapArgs)]
pub struct ListArgs {
    #[command(flatten)]
    span: Span,
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// Where the next page begins, as the page before told it.
    #[arg(long)]
    cursor: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

impl ListArgs {
    /// Fetches the page, of what has these values.
    pub(super) async fn fetch(
        &self,
        service: &Service,
        path: &str,
        having: &[(&'static str, &Option<String>)],
    ) -> anyhow::Result<Value> {
        let span = [("since", &self.span.since), ("until", &self.span.until), ("cursor", &self.cursor)];
        let given = having.iter().chain(&span).filter_map(|(name, value)| Some((*name, (*value).clone()?)));
        let mut query: Vec<(&str, String)> = given.collect();
        query.push(("limit", self.limit.to_string()));
        service.get(path, &query).await
    }
}
