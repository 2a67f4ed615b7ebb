//! A story on the stage: people act, hints are carried by hand, the service is stepped, and killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;

use chrono::TimeDelta;
use espo_outlook::app::App;
use espo_outlook::schedule::poll::{self, Hinted};
use espo_outlook::schedule::sweep::{Scope, sweep};
use espo_outlook::work::dispatch::{self, Worker};
use graph::notification::{self, ChangeType, Place, What as Notice};
use serde_json::json;
use simulators::plumbing::{Fault, Wire};
use store::messages;
use sync::{Cause, Change, Direction, Kind, KindPatch, RulesPatch, Side, Target};

use super::ends::records;
use super::stage::{Stage, USERS};
use super::story::{Act, Dice, Meanwhile, Post, Run, Setting, Step, Trouble, What, Who, Word};

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

/// What people did to one thing, as far as the outcome depends on it.
#[derive(Debug, Clone)]
pub struct Told {
    pub kind: Kind,
    /// Where it was made.
    pub made: Option<Side>,
    /// Whom the record was given to last.
    pub owner: Who,
    /// It was given to somebody else.
    pub moved: bool,
    /// It was switched off or on.
    pub switched: bool,
    /// It is switched off.
    pub off: bool,
    /// Its record was deleted while it was.
    pub deleted_off: bool,
    /// Somebody outside organises it.
    pub outside: bool,
    pub called_off: bool,
    /// The title of its series was changed.
    pub retitled: bool,
    /// Values that were given, by field, in order.
    pub given: BTreeMap<What, Vec<(Side, u16)>>,
    pub edited: BTreeSet<Side>,
    pub deleted: BTreeSet<Side>,
    /// Who was invited or uninvited, in order.
    pub people: Vec<(Who, Side, bool)>,
    pub answers: Vec<(Who, Side, Word)>,
    /// How often anything about it was changed by people.
    pub acts: usize,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            kind: Kind::Meeting,
            made: None,
            owner: Who::Anna,
            moved: false,
            switched: false,
            off: false,
            deleted_off: false,
            outside: false,
            called_off: false,
            retitled: false,
            given: BTreeMap::new(),
            edited: BTreeSet::new(),
            deleted: BTreeSet::new(),
            people: Vec::new(),
            answers: Vec::new(),
            acts: 0,
        }
    }
}

pub struct Play<'a> {
    pub stage: &'a Stage,
    pub app: App,
    pub told: BTreeMap<u8, Told>,
    pub setting: Setting,
    pub mode: Mode,
    /// Records that are occurrences of a series, as far as it is known.
    pub occurrences: BTreeMap<String, u8>,
    worker: Worker,
    hinted: Hinted,
    pending: Vec<Hint>,
    dice: Dice,
    database: PathBuf,
    runs: u64,
}

/// How often the worker may be asked before a world counts as restless.
const PATIENCE: usize = 300;

impl<'a> Play<'a> {
    pub async fn begin(
        stage: &'a Stage,
        database: PathBuf,
        told: BTreeMap<u8, Told>,
        setting: Setting,
        (mode, seed): (Mode, u64),
    ) -> Self {
        let app = stage.run(&database, 1).await;
        let rules = rules(setting);
        store::rules::put(app.store().write(), None, &rules, stage.time.now()).await.unwrap();
        Self {
            stage,
            worker: Worker::new(app.clone()),
            app,
            told,
            setting,
            mode,
            occurrences: BTreeMap::new(),
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

    // Hints.

    /// Takes what both systems want to tell.
    pub fn gather(&mut self) {
        for (entity, id) in self.stage.espo.take_events() {
            if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.entity() == entity) {
                let target = Target::Record { kind, id };
                self.pending.push(Hint { target, version: None, cause: Cause::Webhook });
            }
        }
        let body = json!({ "value": self.stage.graph.take_notifications() }).to_string();
        for notice in notification::parse(body.as_bytes()).unwrap().notices {
            let Notice::Changed { change, place, etag } = notice.what else { continue };
            let (user, list) = self.stage.watched[&notice.subscription].clone();
            // As the receiver has it: a deletion is no echo.
            let version = etag.filter(|_| change != ChangeType::Deleted);
            let target = match (place, list) {
                (Place::Event { id }, _) => Target::Event { user, id },
                (Place::Task { id, .. }, Some(list)) => Target::Todo { user, list, id },
                _ => Target::Mailbox { user },
            };
            self.pending.push(Hint { target, version, cause: Cause::Notification });
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
            let change = Change { id, target, cause, received, version, job: None, trace: None, reminder: None };
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
                self.act_at_any_time(act).await;
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
        } else if self.setting.all_kinds {
            // Microsoft refuses an application subscriptions on tasks: they are polled.
            self.run(Run::Poll).await;
        }
    }

    /// By the means of the mode, until nothing is left to be told.
    pub async fn settle(&mut self) -> bool {
        for _ in 0..PATIENCE {
            self.tell().await;
            if !self.rest().await {
                return false;
            }
            if self.mode == Mode::Hints && self.setting.all_kinds {
                // A task that came and went between two polls is told of by neither.
                self.run(Run::Poll).await;
                if !self.rest().await {
                    return false;
                }
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
        for user in USERS {
            let read = self.app.store().read();
            let links = store::links::live_of_user(read, &self.stage.ids[user], None, 500).await.unwrap();
            if links.iter().any(|link| !link.frozen.is_empty()) {
                return true;
            }
        }
        false
    }

    /// Somebody switches on what was switched off.
    pub fn switch_on(&mut self) {
        for record in records(self.stage) {
            if let Some(tag) = self.tag_of_record(&record).filter(|_| record.json["cSyncWithOutlook"] == false) {
                self.act(&Act::Switch { tag, on: true });
            }
        }
    }

    pub fn lose_hints(&mut self) {
        self.pending.clear();
    }

    pub async fn step(&mut self, step: &Step) {
        self.learn().await;
        match step {
            Step::Act(act) => self.act_at_any_time(act).await,
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

/// The organisation's rules of a setting.
fn rules(setting: Setting) -> RulesPatch {
    let kind = |on: bool| {
        let direction = Some(if on { setting.direction } else { Direction::Disabled });
        Some(KindPatch { direction, priority: Some(setting.priority) })
    };
    RulesPatch {
        meeting: kind(true),
        call: kind(setting.all_kinds),
        task: kind(setting.all_kinds),
        attendees: Some(setting.attendees),
        ..RulesPatch::default()
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
