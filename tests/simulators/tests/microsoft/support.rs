//! A tenant of three, asked in-process.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use simulators::microsoft::GraphSim;
use simulators::plumbing::{Request, Response, SimClock};

pub const ANNA: &str = "anna@contoso.example";
pub const BORIS: &str = "boris@contoso.example";
pub const CARLA: &str = "carla@contoso.example";
pub const PROPERTY: &str = "String {66f5a359-4659-4830-9070-00040ec6ac6e} Name CrmId";

pub fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub struct Graph {
    pub sim: GraphSim,
    pub clock: SimClock,
}

pub struct Answer {
    pub status: u16,
    pub body: Value,
    pub response: Response,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap().to_owned()
    }

    pub fn rows(&self) -> Vec<Value> {
        self.body["value"].as_array().unwrap_or_else(|| panic!("no rows: {}", self.body)).clone()
    }

    pub fn ok(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

impl Graph {
    pub fn new() -> Self {
        let clock = SimClock::manual(at("2026-11-22T12:00:00Z"));
        let sim = GraphSim::new(clock.clone(), 7);
        sim.set_service_time(Duration::ZERO);
        sim.add_mailbox(ANNA, "Anna Test", "W. Europe Standard Time");
        sim.add_mailbox(BORIS, "Boris Test", "UTC");
        sim.add_mailbox(CARLA, "Carla Test", "Line Islands Standard Time");
        Self { sim, clock }
    }

    pub async fn ask(&self, request: Request) -> Answer {
        let response = self.sim.handle(request).await;
        Answer { status: response.status, body: response.to_json().unwrap_or_default(), response }
    }

    /// A request to Graph with a token of `who`.
    pub fn request(&self, who: &str, method: &str, path: &str) -> Request {
        let token = self.sim.mint_token(who).unwrap();
        let mut request = Request::new(method, &format!("/v1.0{path}"));
        request.base = "http://127.0.0.1:1".to_owned();
        request.with_header("Authorization", &format!("Bearer {token}"))
    }

    pub async fn get(&self, who: &str, path: &str) -> Answer {
        self.ask(self.request(who, "GET", path)).await
    }

    pub async fn get_preferring(&self, who: &str, path: &str, prefer: &str) -> Answer {
        self.ask(self.request(who, "GET", path).with_header("Prefer", prefer)).await
    }

    pub async fn send(&self, who: &str, method: &str, path: &str, body: Value) -> Answer {
        self.ask(self.request(who, method, path).with_json(&body)).await
    }

    pub async fn delete(&self, who: &str, path: &str) -> Answer {
        self.ask(self.request(who, "DELETE", path)).await
    }

    pub async fn post_event(&self, body: Value) -> Answer {
        self.send(ANNA, "POST", "/me/events", body).await
    }

    /// Follows delta to the end of the round: all rows and the path of the delta link.
    pub async fn round(&self, who: &str, path: &str, size: usize) -> (Vec<Value>, String) {
        let (mut path, mut rows) = (path.to_owned(), Vec::new());
        loop {
            let page = self.get_preferring(who, &path, &format!("odata.maxpagesize={size}")).await.ok(200);
            assert!(page.rows().len() <= size);
            rows.extend(page.rows());
            let (next, last) = (page.body["@odata.nextLink"].as_str(), page.body["@odata.deltaLink"].as_str());
            assert!(next.is_some() != last.is_some(), "one link and never both");
            let link = next.or(last).unwrap();
            path = link.split_once("/v1.0").unwrap().1.to_owned();
            if last.is_some() {
                return (rows, path);
            }
        }
    }
}

pub fn event(subject: &str) -> Value {
    event_in(subject, "2026-12-01T10:00:00", "2026-12-01T11:00:00", "UTC")
}

pub fn event_in(subject: &str, start: &str, end: &str, zone: &str) -> Value {
    json!({"subject": subject, "start": {"dateTime": start, "timeZone": zone}, "end": {"dateTime": end, "timeZone": zone}})
}

pub fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

pub fn people(addresses: &[&str]) -> Value {
    addresses.iter().map(|a| json!({"type": "required", "emailAddress": {"address": a, "name": a}})).collect()
}

/// Every Tuesday from 1 December 2026, four times, at 10 in Berlin.
pub fn tuesdays() -> Value {
    let rule = json!({"pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["tuesday"]},
        "range": {"type": "numbered", "startDate": "2026-12-01", "numberOfOccurrences": 4}});
    with(event_in("Series", "2026-12-01T10:00:00", "2026-12-01T11:00:00", "Europe/Berlin"), "recurrence", rule)
}

pub const WINDOW: &str = "startDateTime=2026-11-01T00:00:00Z&endDateTime=2027-03-01T00:00:00Z";
