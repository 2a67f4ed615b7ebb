//! What a synchronisation would do, without doing it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use store::bindings::{self, Binding, BindingState};
use store::links;
use sync::{
    Action, Cause, Direction, Field, Item, Kind, Link, LinkState, Plan, Reason, Record, Seen, Series, Side, Value,
    Verdict,
};

use super::mailbox::{Reach, window};
use crate::app::App;
use crate::work::context::Context;
use crate::work::error::WorkError;
use crate::work::execute::seen_by_owner;
use crate::work::locks::Locks;
use crate::work::pair::{fingerprint_of, is_unchanged};
use crate::work::reconcile::Task;
use crate::work::{inspect, items};

/// Rows per page.
const PAGE: u32 = 200;

/// At most this many lines are told of a user; the numbers count everything.
const LINES: usize = 200;

/// What would be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Records and items that would be created.
    pub creates: u64,
    /// Pairs that would be changed.
    pub updates: u64,
    /// Records and items that would be deleted.
    pub deletes: u64,
    /// Ends that would be paired because they are equal.
    pub matches: u64,
    /// Pairs in step, and ends that would be left alone.
    pub skips: u64,
    /// Invitations that Exchange would send.
    pub invitations: u64,
    /// One by one, the first of them: everything but pairs in step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
}

/// In total and per user.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Previews {
    /// The sum.
    #[serde(flatten)]
    pub total: Preview,
    /// By EspoCRM id.
    pub users: BTreeMap<String, Preview>,
}

/// What would be done about one record, item or pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What.
    pub what: What,
    /// On which side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Side>,
    /// Of which kind.
    pub kind: Kind,
    /// Its title; none of what is private.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// EspoCRM's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_id: Option<String>,
    /// Graph's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Created.
    Create,
    /// Changed.
    Update,
    /// Deleted, after the grace.
    Delete,
    /// Paired with its equal.
    Match,
    /// Left alone.
    Skip,
}

impl Line {
    /// That what is left of a pair would be deleted, where an end of it is gone.
    #[must_use]
    pub fn deletion(link: &Link) -> Option<Self> {
        let LinkState::Deleting { gone, .. } = link.state else { return None };
        let why = match gone {
            Side::Espo => "It was deleted in EspoCRM.",
            Side::Outlook => "It was deleted in Outlook.",
        };
        Some(Named::link(link).line(What::Delete, Some(gone.other()), Some(why.to_owned())))
    }
}

/// An end or a pair, as a line names it.
struct Named {
    kind: Kind,
    title: Option<String>,
    record_id: Option<String>,
    item_id: Option<String>,
}

impl Named {
    fn record(record: &Record) -> Self {
        Self { kind: record.kind, title: title(&record.values), record_id: Some(record.id.clone()), item_id: None }
    }

    fn item(item: &Item) -> Self {
        let title = title(&item.values).filter(|_| !item.private);
        Self { kind: item.kind, title, record_id: None, item_id: Some(item.id.clone()) }
    }

    fn link(link: &Link) -> Self {
        let agreed = link.base.get(&Field::Title).and_then(|agreed| agreed.espo.as_text());
        let item = link.replicas.iter().find(|replica| replica.user == link.owner);
        Self {
            kind: link.kind,
            title: agreed.map(str::to_owned),
            record_id: link.record_id.clone(),
            item_id: item.map(|replica| replica.item_id.clone()),
        }
    }

    fn line(self, what: What, to: Option<Side>, why: Option<String>) -> Line {
        let Self { kind, title, record_id, item_id } = self;
        Line { what, to, kind, title, record_id, item_id, why }
    }
}

/// How many people would be invited to an event whose equal is found: those whom the record names besides.
fn invited(plan: &Plan, item: &Item) -> u64 {
    let people = |values: Option<&Value>| values.and_then(Value::as_people).map_or(0, |people| people.0.len());
    let writes = plan.steps.iter().filter(|step| step.action.side() == Side::Outlook).find_map(|step| {
        let write = step.action.writes()?.get(&Field::Participants)?;
        Some(people(Some(&write.value)))
    });
    writes.unwrap_or(0).saturating_sub(people(item.values.get(&Field::Participants))) as u64
}

fn title(values: &sync::Values) -> Option<String> {
    values.get(&Field::Title).and_then(Value::as_text).map(str::to_owned)
}

impl Preview {
    fn add(&mut self, other: &Self) {
        self.creates += other.creates;
        self.updates += other.updates;
        self.deletes += other.deletes;
        self.matches += other.matches;
        self.skips += other.skips;
        self.invitations += other.invitations;
    }

    fn tell(&mut self, line: Line) {
        match line.what {
            What::Create => self.creates += 1,
            What::Update => self.updates += 1,
            What::Delete => self.deletes += 1,
            What::Match => self.matches += 1,
            What::Skip => self.skips += 1,
        }
        if self.lines.len() < LINES {
            self.lines.push(line);
        }
    }

    /// Counts a plan; `to` is the side that is asked for, none for both.
    fn count(&mut self, named: Named, plan: &Plan, to: Option<Side>) {
        let wanted = |side: Side| to.is_none_or(|to| to == side);
        let why = |reason: &Reason| Some(reason.to_string());
        if let Some(step) = plan.steps.iter().find(|step| wanted(step.action.side())) {
            let side = Some(step.action.side());
            let what = match &step.action {
                Action::CreateItem { writes } => {
                    let people = writes.get(&Field::Participants).and_then(|write| write.value.as_people());
                    self.invitations += people.map_or(0, |people| people.0.len()) as u64;
                    What::Create
                }
                Action::CreateRecord { .. } => What::Create,
                Action::UpdateItem { .. } | Action::UpdateRecord { .. } | Action::Respond { .. } => What::Update,
                Action::DeleteItem | Action::DeleteRecord => What::Delete,
            };
            return self.tell(named.line(what, side, why(&step.reason)));
        }
        match &plan.verdict {
            Verdict::Wait { gone, .. } if wanted(gone.other()) => {
                self.tell(named.line(What::Delete, Some(gone.other()), None));
            }
            Verdict::InStep => self.skips += 1,
            Verdict::LeaveAlone(reason) | Verdict::Hold(reason) | Verdict::Bury(reason) => {
                self.tell(named.line(What::Skip, None, why(reason)));
            }
            Verdict::Write | Verdict::Wait { .. } => self.tell(named.line(What::Skip, None, None)),
        }
    }
}

/// For everybody who is bound, or for one user; of both directions, or of what goes to one side.
///
/// # Errors
/// When the ends cannot be read.
pub async fn of_all(app: &App, user: Option<&str>, kinds: &[Kind], to: Option<Side>) -> Result<Previews, WorkError> {
    let mut previews = Previews::default();
    for binding in bindings::enabled_in(app.store().read(), &[BindingState::Active]).await? {
        if user.is_none_or(|user| user == binding.user_id) {
            let preview = of_user(app, &binding.user_id, kinds, to).await?;
            previews.total.add(&preview);
            previews.users.insert(binding.user_id, preview);
        }
    }
    Ok(previews)
}

/// For one user.
///
/// # Errors
/// When the ends cannot be read.
pub async fn of_user(app: &App, user: &str, kinds: &[Kind], to: Option<Side>) -> Result<Preview, WorkError> {
    let context = Context::of(app, Some(user)).await?;
    let Some(binding) = context.binding.clone() else { return Ok(Preview::default()) };
    let span = window(app, &binding, context.now(), Reach::Whole);
    let items = items_of(&context, kinds, span).await?;
    let records = records_of(&context, &binding, kinds).await?;
    let mut survey = Survey { app, context: &context, to, preview: Preview::default(), pairs: BTreeMap::new() };
    survey.ends(records, items).await?;
    survey.missing(&binding, kinds, span).await?;
    survey.pairs().await?;
    Ok(survey.preview)
}

/// The items that take part, as the owner's records are to see them.
async fn items_of(
    context: &Context,
    kinds: &[Kind],
    (start, end): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Vec<Item>, WorkError> {
    let mailbox = context.mailbox()?;
    let events = kinds.iter().any(|kind| kind.is_event());
    let items = if events { context.graph.window(&mailbox, start, end).await? } else { Vec::new() };
    let tasks = if kinds.contains(&Kind::Task) && context.rules.of(Kind::Task).direction != Direction::Disabled {
        items::all_tasks(context, &mailbox).await?
    } else {
        Vec::new()
    };
    let seen = items.into_iter().chain(tasks).map(|item| seen_by_owner(context, item));
    let of_kind = seen.map(|item| Item { kind: context.kind_of(&item), ..item });
    Ok(of_kind.filter(|item| item.series != Series::Master && kinds.contains(&item.kind)).collect())
}

async fn records_of(context: &Context, binding: &Binding, kinds: &[Kind]) -> Result<Vec<Record>, WorkError> {
    let mut records = Vec::new();
    for kind in kinds.iter().filter(|kind| context.rules.of(**kind).direction != Direction::Disabled) {
        let mut after = None;
        loop {
            let page = context
                .espo
                .client
                .owned(&context.schema, *kind, &binding.user_id, binding.sync_from, after.as_ref(), PAGE)
                .await?;
            records.extend(page.items.into_iter().map(|fetched| fetched.record));
            after = page.last;
            if !page.more {
                break;
            }
        }
    }
    Ok(records)
}

/// What was seen of a pair in the lists.
struct Pair {
    link: Link,
    record: bool,
    item: bool,
    changed: bool,
}

/// A look at one user's ends.
struct Survey<'a> {
    app: &'a App,
    context: &'a Context,
    to: Option<Side>,
    preview: Preview,
    pairs: BTreeMap<String, Pair>,
}

impl Survey<'_> {
    /// Ends without a link are counted, those with one noted.
    async fn ends(&mut self, records: Vec<Record>, items: Vec<Item>) -> Result<(), WorkError> {
        let (context, read) = (self.context, self.app.store().read());
        let user = context.binding.as_ref().map(|binding| binding.user_id.clone()).unwrap_or_default();
        let print = |kind: Kind, values: &sync::Values| fingerprint_of(context, &user, kind, values);
        let mut free = Vec::new();
        for item in items {
            match links::by_item(read, &user, &item.id).await? {
                Some(link) if link.is_buried() => self.preview.skips += 1,
                Some(link) => self.note(link, Side::Outlook, &sync::masked(&item, &context.rules)),
                None if self.is_copy_of_known(&item).await? => {
                    self.preview.tell(Named::item(&item).line(What::Match, None, None));
                }
                None => free.push(item),
            }
        }
        let offered: BTreeMap<String, Item> =
            free.iter().map(|item| (print(item.kind, &item.values), item.clone())).collect();
        let mut matched = BTreeSet::new();
        for record in records {
            let fingerprint = print(record.kind, &record.values);
            match links::by_record(read, record.kind, &record.id).await? {
                Some(link) if link.is_buried() => self.preview.skips += 1,
                Some(link) => self.note(link, Side::Espo, &record.values),
                None if offered.contains_key(&fingerprint) && matched.insert(fingerprint.clone()) => {
                    let named = Named::record(&record);
                    if let Some(item) = offered.get(&fingerprint) {
                        let plan = self.decide(&Seen::Present(record), &Seen::Present(item.clone())).await?;
                        self.preview.invitations += invited(&plan, item);
                    }
                    self.preview.tell(named.line(What::Match, None, None));
                }
                None => {
                    let named = Named::record(&record);
                    let plan = self.decide(&Seen::Present(record), &Seen::Unknown).await?;
                    self.preview.count(named, &plan, self.to);
                }
            }
        }
        for item in free.into_iter().filter(|item| !matched.contains(&print(item.kind, &item.values))) {
            let named = Named::item(&item);
            let plan = self.decide(&Seen::Unknown, &Seen::Present(item)).await?;
            self.preview.count(named, &plan, self.to);
        }
        Ok(())
    }

    /// True for an attendee's copy of a meeting that another mailbox's copy has linked already.
    async fn is_copy_of_known(&self, item: &Item) -> Result<bool, WorkError> {
        let Some(uid) = &item.ical_uid else { return Ok(false) };
        let links = links::by_ical_uid(self.app.store().read(), uid).await?;
        Ok(links.iter().any(|link| !link.is_buried() && link.replica_of(&item.user).is_none()))
    }

    async fn decide(&self, record: &Seen<Record>, item: &Seen<Item>) -> Result<Plan, WorkError> {
        let (app, now, locks) = (self.app, self.context.now(), Locks::default());
        let task = Task {
            app,
            locks: &locks,
            cause: Cause::FirstSync,
            received: now,
            version: None,
            reminder: None,
            unit: None,
            in_bulk: false,
        };
        task.decide_at(self.context, None, record, item, now).await
    }

    fn note(&mut self, link: Link, side: Side, values: &sync::Values) {
        let changed = !is_unchanged(&link, side, values);
        let pair =
            self.pairs.entry(link.id.clone()).or_insert(Pair { link, record: false, item: false, changed: false });
        match side {
            Side::Espo => pair.record = true,
            Side::Outlook => pair.item = true,
        }
        pair.changed |= changed;
    }

    /// Pairs of which an end should have been listed and was not: whether it is gone, only a direct look tells.
    async fn missing(
        &mut self,
        binding: &Binding,
        kinds: &[Kind],
        (start, end): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<(), WorkError> {
        let mut after: Option<String> = None;
        loop {
            let page = links::live_of_user(self.app.store().read(), &binding.user_id, after.as_deref(), 500).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.id.clone());
            for link in page.into_iter().filter(|link| kinds.contains(&link.kind)) {
                let day = link.base.get(&Field::Time).and_then(|agreed| agreed.espo.as_when()?.first_day());
                let within = |day: NaiveDate| day > start.date_naive() && day < end.date_naive();
                let expected = (
                    day.is_some_and(|day| day >= binding.sync_from),
                    link.kind == Kind::Task || day.is_some_and(within),
                );
                let pair = self.pairs.get_mut(&link.id);
                let seen = pair.as_ref().map_or((false, false), |pair| (pair.record, pair.item));
                if (expected.0 && !seen.0) || (expected.1 && !seen.1) {
                    match pair {
                        Some(pair) => pair.changed = true,
                        None => drop(
                            self.pairs
                                .insert(link.id.clone(), Pair { link, record: false, item: false, changed: true }),
                        ),
                    }
                }
            }
        }
    }

    /// Pairs in step are counted; the others are read afresh.
    async fn pairs(&mut self) -> Result<(), WorkError> {
        for pair in std::mem::take(&mut self.pairs).into_values() {
            if !pair.changed {
                self.preview.skips += 1;
                continue;
            }
            let named = Named::link(&pair.link);
            match inspect::plan_of(self.app, pair.link).await? {
                Some(plan) => self.preview.count(named, &plan, self.to),
                None => self.preview.tell(named.line(What::Skip, None, None)),
            }
        }
        Ok(())
    }
}
