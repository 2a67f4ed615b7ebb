//! Several reads in one request: while a first synchronisation or a sweep has more to read than a mailbox has places, what
//! waits is read together.
//!
//! Facts (learn.microsoft.com/graph/json-batching, .../throttling): at most 20 steps with unique ids; addresses are relative to
//! the version; headers are each step's own; answers come in any order and the outer status is 200 whatever the inner ones
//! are; inner 429s carry their own `Retry-After`; up to four unordered steps for Outlook run at a time, so a batch takes all
//! four places of its mailbox.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use sync::{Item, Seen};
use tokio::sync::oneshot;

use crate::Result;
use crate::client::{Client, Mailbox};
use crate::error::{Error, Refusal};
use crate::request::{Call, Failure, PREFER_EVENT};
use crate::throttle::{CONCURRENT, Permit};

/// Steps per request.
const MOST: usize = 20;
/// How long the first of many waits for the others.
const GATHER: Duration = Duration::from_millis(10);

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

/// Reads that wait for a place of their mailbox: whoever comes first waits for all four and takes the others along.
#[derive(Debug, Default)]
pub(crate) struct Together(Mutex<HashMap<String, Vec<Waiting>>>);

#[derive(Debug)]
struct Waiting {
    id: String,
    tell: oneshot::Sender<Result<Seen<Item>>>,
}

/// How a read goes along.
enum Part {
    First,
    Along(oneshot::Receiver<Result<Seen<Item>>>),
    /// So many are on their way already.
    Alone,
}

impl Together {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, user: &str, id: &str) -> Part {
        let mut all = self.lock();
        let Some(waiting) = all.get_mut(user) else {
            all.insert(user.to_owned(), Vec::new());
            return Part::First;
        };
        if waiting.len() + 1 >= MOST {
            return Part::Alone;
        }
        let (tell, told) = oneshot::channel();
        waiting.push(Waiting { id: id.to_owned(), tell });
        Part::Along(told)
    }
}

/// Whoever came first and gives up leaves nobody waiting for him: the others notice, and read by themselves.
struct First<'a> {
    together: &'a Together,
    user: &'a str,
    is_over: bool,
}

impl First<'_> {
    /// Those that go along. Who comes later is another one's matter, and begins anew.
    fn take(mut self) -> Vec<Waiting> {
        self.is_over = true;
        self.together.lock().remove(self.user).unwrap_or_default()
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.together.lock().remove(self.user);
        }
    }
}

impl Client {
    /// Reads an event in one request with others that wait for the same mailbox; none where it need not wait, or was left
    /// behind. Every read begins after it was asked for.
    pub(crate) async fn event_among_others(
        &self,
        mailbox: &Mailbox,
        id: &str,
        in_bulk: bool,
    ) -> Option<Result<Seen<Item>>> {
        if !in_bulk && self.gate(mailbox).is_free() {
            return None;
        }
        let user = mailbox.user.as_str();
        match self.together().join(user, id) {
            Part::Alone => None,
            Part::Along(told) => told.await.ok(),
            Part::First => {
                let first = First { together: self.together(), user, is_over: false };
                if in_bulk {
                    tokio::time::sleep(GATHER).await;
                }
                Some(self.read_together(mailbox, id, first).await)
            }
        }
    }

    async fn read_together(&self, mailbox: &Mailbox, id: &str, first: First<'_>) -> Result<Seen<Item>> {
        let token = self.access(mailbox).await?;
        let permit = self.enter(mailbox, CONCURRENT).await?;
        let others = first.take();
        if others.is_empty() {
            return self.event_alone(mailbox, id, &token, permit).await;
        }
        let ids: Vec<&str> = std::iter::once(id).chain(others.iter().map(|other| other.id.as_str())).collect();
        let mut outcomes = self.batch(mailbox, &ids, &token, permit).await?.into_iter();
        let own = outcomes.next().unwrap_or_else(|| Err(Error::unreadable("an empty batch")));
        for (other, outcome) in others.into_iter().zip(outcomes) {
            // Whoever does not listen any more has given up.
            other.tell.send(outcome).ok();
        }
        own
    }

    /// Reads events, each with an outcome of its own as of [`Client::event`], in the order of `ids`; at most [`MOST`].
    async fn batch(
        &self,
        mailbox: &Mailbox,
        ids: &[&str],
        token: &SecretString,
        permit: Permit,
    ) -> Result<Vec<Result<Seen<Item>>>> {
        let mut steps = Vec::with_capacity(ids.len());
        for (at, id) in ids.iter().enumerate() {
            let url = self.event_url(mailbox, id)?;
            steps.push(json!({"id": at.to_string(), "method": "GET", "url": self.relative(&url), "headers": {"Prefer": PREFER_EVENT}}));
        }
        let call =
            Call::new(Method::POST, self.url(&["$batch"])?).reads().places(CONCURRENT).body(json!({"requests": steps}));
        let answer = self.send_within(mailbox, call, token, permit).await.map_err(|failure| self.error(failure))?;
        let mut by_id: HashMap<String, Step> =
            answer.json::<Answers>()?.responses.into_iter().map(|step| (step.id.clone(), step)).collect();
        let outcomes = ids.iter().enumerate().map(|(at, id)| match by_id.remove(&at.to_string()) {
            Some(step) => self.read(mailbox, id, step),
            None => Err(Error::unreadable("a step of the batch has no answer")),
        });
        Ok(outcomes.collect())
    }

    fn read(&self, mailbox: &Mailbox, id: &str, step: Step) -> Result<Seen<Item>> {
        if (200..300).contains(&step.status) {
            let event = serde_json::from_value(step.body).map_err(|source| Error::Unreadable {
                what: "an event".to_owned(),
                source: Some(source),
                unsure: false,
            })?;
            return self.seen(mailbox, id, event);
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
            .map(|step| client.read(&mailbox(), "E", step).unwrap_err().disposition())
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
