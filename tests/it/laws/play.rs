//! A story on the stage: people act, hints are carried by hand, the service is stepped, and killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;

use chrono::{DateTime, TimeDelta, Utc};
use espo_outlook::app::App;
use espo_outlook::schedule::poll::{self, Hinted};
use espo_outlook::schedule::sweep::{Scope, sweep};
use espo_outlook::work::dispatch::{self, Worker};
use graph::notification::{self, ChangeType, Place, What as Notice};
use serde_json::{Value, json};
use simulators::plumbing::{Fault, Wire};
use store::messages;
use sync::{Cause, Change, Kind, Side, Target};

use super::stage::Stage;
use super::story::{Act, Dice, Meanwhile, Post, Run, Step, Trouble, What, Who};
use crate::support::mail;

/// How the service learns of what is new, for the law that compares the ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Hints,
    Sweeps,
    Both,
}

/// A hint on its way.
#[derive(Debug, Clone)]
struct Hint {
    target: Target,
    version: Option<String>,
    cause: Cause,
}

/// What people did to one meeting, as far as the outcome depends on it.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Values that were given, by field, in order.
    pub given: BTreeMap<What, Vec<(Side, u16)>>,
    pub edited: BTreeSet<Side>,
    pub deleted: BTreeSet<Side>,
    /// Who was invited or uninvited, in order.
    pub people: Vec<(Who, Side, bool)>,
    /// How often anything about it was changed by people.
    pub acts: usize,
}

pub struct Play<'a> {
    pub stage: &'a Stage,
    pub app: App,
    pub told: BTreeMap<u8, Told>,
    pub mode: Mode,
    worker: Worker,
    hinted: Hinted,
    pending: Vec<Hint>,
    dice: Dice,
    database: PathBuf,
    runs: u64,
}

/// How often the worker may be asked before a world counts as restless.
const PATIENCE: usize = 300;

pub fn address(who: Who) -> String {
    match who {
        Who::Boris => mail("boris"),
        Who::Carl => "carl@fabrikam.example".to_owned(),
        Who::Nina => "nina@new.example".to_owned(),
    }
}

pub fn title(tag: u8, value: u16) -> String {
    format!("M{tag} title {value}")
}

/// The meeting that a record or an event is about.
pub fn tag_of(end: &Value) -> Option<u8> {
    let title = end["name"].as_str().or_else(|| end["subject"].as_str())?;
    title.strip_prefix('M')?.split(' ').next()?.parse().ok()
}

/// Start and end.
pub fn times(tag: u8, value: u16) -> (DateTime<Utc>, DateTime<Utc>) {
    let start = super::stage::epoch() + TimeDelta::days(7 + i64::from(tag)) + TimeDelta::minutes(5 * i64::from(value));
    (start, start + TimeDelta::minutes(30))
}

pub fn espo_time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn graph_time(at: DateTime<Utc>) -> Value {
    json!({ "dateTime": at.format("%Y-%m-%dT%H:%M:%S").to_string(), "timeZone": "UTC" })
}

/// The fields of an edit, as the web client or Outlook sends them.
fn fields(side: Side, tag: u8, what: What, value: u16) -> Value {
    let (start, end) = times(tag, value);
    match (side, what) {
        (Side::Espo, What::Title) => json!({ "name": title(tag, value) }),
        (Side::Espo, What::Body) => json!({ "description": format!("body {value}") }),
        (Side::Espo, What::Place) => json!({ "cLocation": format!("room {value}") }),
        (Side::Espo, What::Time) => json!({ "dateStart": espo_time(start), "dateEnd": espo_time(end) }),
        (Side::Outlook, What::Title) => json!({ "subject": title(tag, value) }),
        (Side::Outlook, What::Body) => json!({ "body": { "contentType": "text", "content": format!("body {value}") } }),
        (Side::Outlook, What::Place) => json!({ "location": { "displayName": format!("room {value}") } }),
        (Side::Outlook, What::Time) => json!({ "start": graph_time(start), "end": graph_time(end) }),
    }
}

impl<'a> Play<'a> {
    pub async fn begin(stage: &'a Stage, database: PathBuf, told: BTreeMap<u8, Told>, mode: Mode, seed: u64) -> Self {
        let app = stage.run(&database, 1).await;
        Self {
            stage,
            worker: Worker::new(app.clone()),
            app,
            told,
            mode,
            hinted: Hinted::default(),
            pending: Vec::new(),
            dice: Dice::new(seed + 1),
            database,
            runs: 1,
        }
    }

    pub async fn end(self) -> (App, PathBuf) {
        (self.app, self.database)
    }

    // What people see and do.

    pub fn records(&self) -> Vec<Value> {
        self.stage.espo.records("Meeting")
    }

    /// Anna's events, whose organizer she is.
    pub fn events(&self) -> Vec<Value> {
        self.stage
            .graph
            .person(&mail("anna"))
            .events()
            .into_iter()
            .filter(|event| event["isOrganizer"] == true)
            .collect()
    }

    fn record(&self, tag: u8) -> Option<(String, Value)> {
        let record = self.records().into_iter().find(|record| tag_of(record) == Some(tag))?;
        Some((record["id"].as_str()?.to_owned(), record))
    }

    fn event(&self, tag: u8) -> Option<(String, Value)> {
        let event = self.events().into_iter().find(|event| tag_of(event) == Some(tag))?;
        Some((event["id"].as_str()?.to_owned(), event))
    }

    fn put(&self, id: &str, body: &Value) {
        self.stage.espo.write_as("anna", "PUT", "Meeting", Some(id), body).unwrap();
    }

    /// False when there was nothing to do it to.
    pub fn act(&mut self, act: &Act) -> bool {
        let done = self.try_act(act).is_some();
        if done {
            let told = self.told.entry(act.tag()).or_default();
            told.acts += 1;
            match act {
                Act::Create { side, value, .. } => {
                    for what in [What::Title, What::Time] {
                        told.given.insert(what, vec![(*side, *value)]);
                    }
                }
                Act::Edit { side, what, value, .. } => {
                    told.given.entry(*what).or_default().push((*side, *value));
                    told.edited.insert(*side);
                }
                Act::Delete { side, .. } => drop(told.deleted.insert(*side)),
                Act::Invite { side, who, .. } => {
                    told.people.push((*who, *side, true));
                }
                Act::Uninvite { side, who, .. } => {
                    told.people.push((*who, *side, false));
                }
                Act::Answer { .. } | Act::Touch { .. } => {}
            }
        }
        self.gather();
        done
    }

    fn try_act(&self, act: &Act) -> Option<()> {
        let (espo, anna) = (&self.stage.espo, self.stage.graph.person(&mail("anna")));
        match act {
            Act::Create { tag, side, value } => {
                let (start, end) = times(*tag, *value);
                if *side == Side::Espo {
                    let body = json!({ "name": title(*tag, *value), "assignedUserId": self.stage.ids["anna"],
                        "dateStart": espo_time(start), "dateEnd": espo_time(end) });
                    espo.write_as("anna", "POST", "Meeting", None, &body).unwrap();
                } else {
                    let body =
                        json!({ "subject": title(*tag, *value), "start": graph_time(start), "end": graph_time(end) });
                    anna.create_event(body).unwrap();
                }
            }
            Act::Edit { tag, side: Side::Espo, what, value } => {
                self.put(&self.record(*tag)?.0, &fields(Side::Espo, *tag, *what, *value));
            }
            Act::Edit { tag, side: Side::Outlook, what, value } => {
                anna.patch_event(&self.event(*tag)?.0, fields(Side::Outlook, *tag, *what, *value)).unwrap();
            }
            Act::Delete { tag, side: Side::Espo } => {
                espo.write_as("anna", "DELETE", "Meeting", Some(&self.record(*tag)?.0), &Value::Null).unwrap();
            }
            Act::Delete { tag, side: Side::Outlook } => anna.delete_event(&self.event(*tag)?.0).unwrap(),
            Act::Invite { tag, side, who } => self.invite(*tag, *side, *who, true)?,
            Act::Uninvite { tag, side, who } => self.invite(*tag, *side, *who, false)?,
            Act::Answer { tag, who, word } => self.answer(*tag, *who, word)?,
            Act::Touch { tag } => anna.touch_event(&self.event(*tag)?.0).unwrap(),
        }
        Some(())
    }

    /// None when it is so already.
    fn invite(&self, tag: u8, side: Side, who: Who, come: bool) -> Option<()> {
        if side == Side::Outlook {
            let (id, event) = self.event(tag)?;
            let mut people = event["attendees"].as_array().cloned().unwrap_or_default();
            let is_meant = |one: &Value| one["emailAddress"]["address"] == address(who).as_str();
            if people.iter().any(is_meant) == come {
                return None;
            }
            people.retain(|one| !is_meant(one));
            if come {
                people.push(json!({ "type": "required", "emailAddress": { "address": address(who), "name": format!("{who:?} Test") } }));
            }
            self.stage.graph.person(&mail("anna")).patch_event(&id, json!({ "attendees": people })).unwrap();
            return Some(());
        }
        let (link, own) = match who {
            Who::Boris => ("usersIds", self.stage.ids["boris"].clone()),
            Who::Carl => ("contactsIds", self.stage.carl.clone()),
            Who::Nina => return None,
        };
        let (id, record) = self.record(tag)?;
        let mut ids: Vec<Value> = record[link].as_array().cloned().unwrap_or_default();
        if ids.iter().any(|one| *one == own.as_str()) == come {
            return None;
        }
        ids.retain(|one| *one != own.as_str());
        if come {
            ids.push(json!(own));
        }
        self.put(&id, &json!({ link: ids }));
        Some(())
    }

    /// In one's own Outlook; of somebody outside the answer arrives at the organizer's item.
    fn answer(&self, tag: u8, who: Who, word: &'static str) -> Option<()> {
        let (id, event) = self.event(tag)?;
        let invited =
            event["attendees"].as_array()?.iter().any(|one| one["emailAddress"]["address"] == address(who).as_str());
        if !invited {
            return None;
        }
        if who == Who::Boris {
            let boris = self.stage.graph.person(&mail("boris"));
            let copy = boris.events().into_iter().find(|copy| copy["iCalUId"] == event["iCalUId"])?;
            let action = match word {
                "accepted" => "accept",
                "declined" => "decline",
                _ => "tentativelyAccept",
            };
            boris.respond(copy["id"].as_str()?, action).ok()
        } else {
            self.stage.graph.person(&mail("anna")).attendee_answers(&id, &address(who), word).ok()
        }
    }

    // Hints.

    /// Takes what both systems want to tell.
    fn gather(&mut self) {
        for (entity, id) in self.stage.espo.take_events() {
            if entity == "Meeting" {
                let target = Target::Record { kind: Kind::Meeting, id };
                self.pending.push(Hint { target, version: None, cause: Cause::Webhook });
            }
        }
        let body = json!({ "value": self.stage.graph.take_notifications() }).to_string();
        for notice in notification::parse(body.as_bytes()).unwrap().notices {
            let Notice::Changed { change, place: Place::Event { id }, etag } = notice.what else { continue };
            let user = self.stage.watched[&notice.subscription].clone();
            // As the receiver has it: a deletion is no echo.
            let version = etag.filter(|_| change != ChangeType::Deleted);
            self.pending.push(Hint { target: Target::Event { user, id }, version, cause: Cause::Notification });
        }
    }

    async fn post(&mut self, post: Post) {
        let mut hints = match post {
            Post::Lost => {
                self.pending.clear();
                return;
            }
            Post::Last => self.pending.pop().into_iter().collect(),
            _ => std::mem::take(&mut self.pending),
        };
        if post == Post::Twice {
            hints.extend(hints.clone());
        }
        if matches!(post, Post::Shuffled | Post::Twice) {
            for n in (1..hints.len()).rev() {
                hints.swap(n, self.dice.below(n + 1));
            }
        }
        for hint in hints {
            let Hint { target, version, cause } = hint;
            let (id, received) = (self.app.ids().next(), self.app.clock().now());
            let change = Change { id, target, cause, received, version, job: None };
            self.app.queue().publish(vec![change], cause, None).await.unwrap();
        }
    }

    // The service.

    async fn run(&mut self, run: Run) {
        let (app, worker) = (self.app.clone(), self.worker.clone());
        carry_out(&app, &worker, &mut self.hinted, run).await;
        self.gather();
    }

    fn wire(&self, side: Side) -> &Wire {
        match side {
            Side::Espo => self.stage.espo.wire(),
            Side::Outlook => self.stage.graph.wire(),
        }
    }

    async fn held(&mut self, run: Run, side: Side, fault: Fault, meanwhile: &Meanwhile) {
        let wire = self.wire(side).clone();
        wire.push(fault);
        let (app, worker) = (self.app.clone(), self.worker.clone());
        let mut hinted = std::mem::take(&mut self.hinted);
        {
            let mut running = pin!(carry_out(&app, &worker, &mut hinted, run));
            let stands_still = tokio::select! {
                () = &mut running => false,
                () = wire.held() => true,
            };
            if stands_still && let Meanwhile::Act(act) = meanwhile {
                self.act(act);
                wire.release();
                running.await;
            }
        }
        self.hinted = hinted;
        wire.clear();
        drop((app, worker));
        if *meanwhile == Meanwhile::Crash {
            wire.abandon();
            self.restart().await;
        }
        self.gather();
    }

    /// A new process on the same database; what the old one had in hand is lost.
    async fn restart(&mut self) {
        self.runs += 1;
        let app = self.stage.run(&self.database, self.runs).await;
        dispatch::take_up(&app).await.unwrap();
        self.worker = Worker::new(app.clone());
        self.hinted = Hinted::default();
        self.app = app;
    }

    pub async fn sweep(&mut self) {
        self.run(Run::Sweep).await;
    }

    /// Works until nothing is due and nothing will be. False when that never comes.
    pub async fn rest(&mut self) -> bool {
        for _ in 0..PATIENCE {
            if dispatch::step(&self.worker, 8).await.unwrap() > 0 {
                self.gather();
                continue;
            }
            match messages::next_due(self.app.store().read()).await.unwrap() {
                Some(due) => self.stage.time.set(due.max(self.stage.time.now() + TimeDelta::seconds(1))),
                None => return true,
            }
        }
        false
    }

    pub async fn tell(&mut self) {
        if self.mode == Mode::Sweeps {
            self.pending.clear();
        } else {
            let post = self.dice.pick(&[Post::All, Post::Shuffled, Post::Twice]);
            self.post(post).await;
        }
        if self.mode != Mode::Hints {
            self.sweep().await;
        }
    }

    /// By the means of the mode, until nothing is left to be told.
    pub async fn settle(&mut self) -> bool {
        for _ in 0..PATIENCE {
            self.tell().await;
            if !self.rest().await {
                return false;
            }
            if self.pending.is_empty() || self.mode == Mode::Sweeps {
                return true;
            }
            self.stage.time.advance(TimeDelta::seconds(1));
        }
        false
    }

    /// True when a field of any pair is left alone because two parties fought over it.
    pub async fn is_frozen(&self) -> bool {
        let links =
            store::links::live_of_user(self.app.store().read(), &self.stage.ids["anna"], None, 100).await.unwrap();
        links.iter().any(|link| !link.frozen.is_empty())
    }

    pub fn lose_hints(&mut self) {
        self.pending.clear();
    }

    pub async fn step(&mut self, step: &Step) {
        match step {
            Step::Act(act) => drop(self.act(act)),
            Step::Pass { seconds } => self.stage.time.advance(TimeDelta::seconds(*seconds)),
            Step::Post(post) => self.post(*post).await,
            Step::Run(run) => self.run(*run).await,
            Step::Held { run, side, skip, after, meanwhile } => {
                let fault = if *after { Fault::held_after("", api(*side)) } else { Fault::held_before("", api(*side)) };
                self.held(*run, *side, fault.skip(u32::from(*skip)), meanwhile).await;
            }
            Step::Trouble { side, skip, what } => {
                let path = api(*side);
                let fault = match what {
                    Trouble::ServerError => Fault::status("", path, 500),
                    Trouble::Throttled => Fault::status("", path, 429).header("Retry-After", "7"),
                    Trouble::DropBefore => Fault::drop_before("", path),
                    Trouble::DropAfter => Fault::drop_after("", path),
                };
                self.wire(*side).push(fault.skip(u32::from(*skip)));
            }
            Step::Settle => assert!(self.settle().await, "it does not come to rest"),
            Step::Tell => self.tell().await,
        }
    }
}

/// The part of a side's addresses that is no sign-in.
const fn api(side: Side) -> &'static str {
    match side {
        Side::Espo => "/api/v1/",
        Side::Outlook => "/v1.0/",
    }
}

async fn carry_out(app: &App, worker: &Worker, hinted: &mut Hinted, run: Run) {
    match run {
        Run::Work(units) => drop(dispatch::step(worker, usize::from(units)).await.unwrap()),
        Run::WorkTwice(units) => {
            let one = || dispatch::step(worker, usize::from(units));
            let (first, second) = tokio::join!(one(), one());
            assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
        }
        Run::Poll => poll::once(app, hinted).await,
        Run::Sweep => {
            let (kinds, cause) = (Kind::ALL.to_vec(), Cause::Sweep);
            let scope = Scope { kinds, to: None, user: None, full: false, cause, job: None };
            // What could not be swept is swept next time; the final sweep meets no trouble.
            drop(sweep(app, &scope).await);
        }
    }
}
