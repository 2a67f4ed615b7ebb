//! Several reads in one request.
//!
//! Facts (learn.microsoft.com/graph/json-batching, .../throttling): at most 20 steps with unique ids; addresses are relative to
//! the version; headers are each step's own; answers come in any order and the outer status is 200 whatever the inner ones
//! are; inner 429s carry their own `Retry-After`; up to four unordered steps for Outlook run at a time, so a batch takes all
//! four places of its mailbox.

use std::collections::HashMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use sync::{Item, Seen};

use crate::client::{Client, Mailbox};
use crate::error::{Error, Refusal};
use crate::events::expand;
use crate::request::{Call, Failure, PREFER_EVENT, with_query};
use crate::throttle::CONCURRENT;
use crate::{Result, map};

/// Steps per request.
const MOST: usize = 20;

#[derive(Deserialize)]
struct Answers {
    responses: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    id: String,
    status: u16,
    #[serde(default)]
    headers: Map<String, Json>,
    #[serde(default)]
    body: Json,
}

impl Client {
    /// Reads events, each with an outcome of its own as of [`Client::event`], in the order of `ids`.
    pub async fn events(&self, mailbox: &Mailbox, ids: &[String]) -> Result<Vec<Result<Seen<Item>>>> {
        let mut all = Vec::with_capacity(ids.len());
        for part in ids.chunks(MOST) {
            all.extend(self.batch(mailbox, part).await?);
        }
        Ok(all)
    }

    async fn batch(&self, mailbox: &Mailbox, ids: &[String]) -> Result<Vec<Result<Seen<Item>>>> {
        let mut steps = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            let url = with_query(self.address(mailbox, &["events", id])?, &[("$expand", &expand(mailbox))]);
            steps.push(json!({"id": at.to_string(), "method": "GET", "url": self.relative(&url), "headers": {"Prefer": PREFER_EVENT}}));
        }
        let call =
            Call::new(Method::POST, self.url(&["$batch"])?).reads().places(CONCURRENT).body(json!({"requests": steps}));
        let answers: Answers = self.send(mailbox, call).await?.json()?;
        let mut by_id: HashMap<String, Step> =
            answers.responses.into_iter().map(|step| (step.id.clone(), step)).collect();
        let outcomes = (0..ids.len()).map(|at| match by_id.remove(&at.to_string()) {
            Some(step) => self.read(mailbox, step),
            None => Err(Error::unreadable("a step of the batch has no answer")),
        });
        Ok(outcomes.collect())
    }

    fn read(&self, mailbox: &Mailbox, step: Step) -> Result<Seen<Item>> {
        if (200..300).contains(&step.status) {
            let event = serde_json::from_value(step.body).map_err(|source| Error::Unreadable {
                what: "an event".to_owned(),
                source: Some(source),
                unsure: false,
            })?;
            return map::item(event, mailbox).map(Seen::Present);
        }
        let header = step.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
        let after = self.retry_after(header.and_then(|(_, value)| value.as_str()));
        let refusal = Refusal::read(step.status, step.body.to_string().as_bytes(), after, false);
        let refusal = Refusal { user: mailbox.user.clone(), ..refusal };
        if refusal.is_gone() {
            return Ok(Seen::Gone);
        }
        let error = self.error(Failure::Refused(refusal));
        if let Error::Throttled { after } = &error {
            metrics::counter!("espo_outlook_throttled_total", "system" => "graph").increment(1);
            self.pause(mailbox, *after);
        }
        Err(error)
    }

    /// The address below the version.
    fn relative(&self, url: &url::Url) -> String {
        let root = self.url(&[]).map(|root| root.path().trim_end_matches('/').len()).unwrap_or_default();
        let path = url.path().get(root..).unwrap_or_default();
        url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Disposition;
    use crate::client::Mode;
    use crate::client::tests::{client, mailbox};

    #[tokio::test]
    async fn inner_answers_have_their_own_fate_and_an_inner_429_pauses_the_mailbox() {
        let client = client(Mode::Delegated);
        let answers: Answers = serde_json::from_str(include_str!("../fixtures/batch.response.json")).unwrap();
        let mut outcomes: Vec<Disposition> = answers
            .responses
            .into_iter()
            .map(|step| client.read(&mailbox(), step).unwrap_err().disposition())
            .collect();
        assert_eq!(outcomes.pop(), Some(Disposition::Retry { after: Some(Duration::from_millis(2128)) }));
        assert_eq!(outcomes.pop(), Some(Disposition::Mailbox));
    }

    #[test]
    fn steps_are_addressed_below_the_version() {
        let client = client(Mode::Delegated);
        let url = client.address(&mailbox(), &["events", "A="]).unwrap();
        assert_eq!(client.relative(&url), "/me/events/A=");
    }
}
