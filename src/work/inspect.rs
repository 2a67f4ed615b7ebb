//! Why something is or is not synchronised, for people: a record or an item, both ends as they are now, what would be done
//! about them, and whatever stands in the way. Nothing is written.
//!
//! What cannot be reached is said, and the rest is told all the same.

use serde_json::{Value as Json, json};
use store::bindings::{self, Binding, BindingState};
use store::holds::{self, HoldKind, HoldState};
use store::messages::{self, MessageState};
use store::{links, switches};
use sync::{Cause, Kind, Link, Plan, Reason, Replica, ReplicaRole, Seen, Series, Shown, Side, Target, Values, Verdict};

use super::context::Context;
use super::copies;
use super::error::{WorkError, sentence};
use super::execute::{people_terms, record_as_seen};
use super::files::{self, Depth};
use super::handle::target_of;
use super::items::{self, Place};
use super::locks::Locks;
use super::pair::is_outside;
use super::people;
use super::reconcile::Task;
use super::relink;
use crate::app::App;

/// What was found of a pair.
struct Found {
    kind: Kind,
    record_id: Option<String>,
    link: Option<Link>,
    record: Seen<espocrm::Fetched>,
    item: Seen<sync::Item>,
    owner: Option<String>,
    context: Option<Context>,
    /// What could not be reached, in sentences.
    troubles: Vec<String>,
}

/// Why a record is or is not synchronised. None when there is neither such a record nor a link of one.
///
/// # Errors
/// When the database cannot be read.
pub async fn record(app: &App, kind: Kind, record_id: &str) -> Result<Option<Json>, WorkError> {
    let link = links::by_record(app.store().read(), kind, record_id).await?;
    let owner = link.as_ref().map(|link| link.owner.clone());
    let mut found = Found {
        kind,
        record_id: Some(record_id.to_owned()),
        link,
        record: Seen::Unknown,
        item: Seen::Unknown,
        owner,
        context: None,
        troubles: Vec::new(),
    };
    found.take_context(app).await?;
    found.read_record().await;
    if found.record == Seen::Gone && found.link.is_none() {
        return Ok(None);
    }
    if found.owner.is_none() {
        found.owner = found.record.present().and_then(|fetched| fetched.record.owner.clone());
        found.take_context(app).await?;
    }
    found.read_item().await;
    Ok(Some(found.tell(app).await?))
}

/// Why an item of a bound user's mailbox is or is not synchronised; `list` is that of a To Do task, the binding's if left out.
/// None when there is neither such an item nor a link of one.
///
/// # Errors
/// When the database cannot be read.
pub async fn item(app: &App, user: &str, list: Option<&str>, id: &str) -> Result<Option<Json>, WorkError> {
    let link = links::by_item(app.store().read(), user, id).await?;
    let mut found = Found {
        kind: link.as_ref().map_or(Kind::Meeting, |link| link.kind),
        record_id: link.as_ref().and_then(|link| link.record_id.clone()),
        owner: Some(link.as_ref().map_or_else(|| user.to_owned(), |link| link.owner.clone())),
        link,
        record: Seen::Unknown,
        item: Seen::Unknown,
        context: None,
        troubles: Vec::new(),
    };
    found.take_context(app).await?;
    if found.link.is_some() {
        found.read_record().await;
        found.read_item().await;
    } else {
        found.read_unlinked(list, id).await;
        // Outlook and Graph know an event by several ids; links know the one that never changes.
        if let Some(known) = found.item.present().filter(|item| item.id != id).map(|item| item.id.clone())
            && links::by_item(app.store().read(), user, &known).await?.is_some()
        {
            return Box::pin(self::item(app, user, list, &known)).await;
        }
    }
    if found.item == Seen::Gone && found.link.is_none() {
        return Ok(None);
    }
    if let (None, Some(item), Some(context)) = (&found.link, found.item.present(), &found.context) {
        found.kind = context.kind_of(item);
    }
    Ok(Some(found.tell(app).await?))
}

/// What would be done about a linked pair, both ends read afresh. None when it cannot be told.
///
/// # Errors
/// When the database cannot be read.
pub async fn plan_of(app: &App, link: Link) -> Result<Option<Plan>, WorkError> {
    let mut found = Found {
        kind: link.kind,
        record_id: link.record_id.clone(),
        owner: Some(link.owner.clone()),
        link: Some(link),
        record: Seen::Unknown,
        item: Seen::Unknown,
        context: None,
        troubles: Vec::new(),
    };
    found.take_context(app).await?;
    found.read_record().await;
    found.read_item().await;
    found.plan(app).await
}

impl Found {
    /// Connections and rules; that they cannot be had is a trouble.
    async fn take_context(&mut self, app: &App) -> Result<(), WorkError> {
        match Context::of(app, self.owner.as_deref()).await {
            Ok(context) => self.context = Some(context),
            Err(error @ WorkError::Store(_)) => return Err(error),
            Err(error) => self.trouble(format!("The connections cannot be used: {}.", error.sentence())),
        }
        Ok(())
    }

    fn trouble(&mut self, sentence: String) {
        if !self.troubles.contains(&sentence) {
            self.troubles.push(sentence);
        }
    }

    async fn read_record(&mut self) {
        let (Some(context), Some(id)) = (&self.context, &self.record_id) else { return };
        match context.espo.client.record(&context.schema, self.kind, id, context.acting()).await {
            Ok(mut record) => {
                let mut unlisted = None;
                if let Seen::Present(fetched) = &mut record {
                    unlisted = files::of_record(context, self.link.as_ref(), fetched, Depth::Known).await.err();
                }
                self.record = record;
                if let Some(error) = unlisted {
                    self.trouble(format!("The files of the record could not be listed: {}.", error.sentence()));
                }
            }
            Err(error) => self.trouble(format!("EspoCRM could not be asked for the record: {}.", sentence(&error))),
        }
    }

    async fn read_item(&mut self) {
        let (Some(context), Some(link)) = (&self.context, &self.link) else { return };
        let Some(replica) = link.replicas.iter().find(|replica| replica.user == link.owner) else { return };
        let place = Place { list: replica.list.as_deref(), id: &replica.item_id };
        match items::read(context, place, Some(link)).await {
            Ok(mut item) => {
                let mut unlisted = None;
                if let Seen::Present(item) = &mut item {
                    copies::with_answers(link, item);
                    unlisted = files::of_item(context, Some(link), item, Depth::Known).await.err();
                }
                self.item = item;
                if let Some(error) = unlisted {
                    self.trouble(format!("The files of the item could not be listed: {}.", error.sentence()));
                }
            }
            // Said by what is told of the binding.
            Err(WorkError::NotActive(_)) => {}
            Err(error) => self.trouble(format!("Outlook could not be asked for the item: {}.", error.sentence())),
        }
    }

    /// An id does not tell whether it is an event's or a task's.
    async fn read_unlinked(&mut self, list: Option<&str>, id: &str) {
        let Some(context) = &self.context else { return };
        let read = async {
            let event = match list {
                None => items::read(context, Place { list: None, id }, None).await,
                Some(_) => Ok(Seen::Gone),
            };
            match event {
                // No event, or not even an event's id.
                Ok(Seen::Gone) | Err(WorkError::Graph(graph::Error::Refused { status: 400, .. })) => {
                    let own = match list {
                        Some(list) => list.to_owned(),
                        None => items::list(context, &context.mailbox()?).await?,
                    };
                    items::read(context, Place { list: Some(&own), id }, None).await
                }
                event => event,
            }
        };
        match read.await {
            Ok(item) => self.item = item,
            Err(WorkError::NotActive(_)) => {}
            // That is no id.
            Err(WorkError::Graph(graph::Error::Refused { status: 400, .. })) => self.item = Seen::Gone,
            Err(error) => self.trouble(format!("Outlook could not be asked for the item: {}.", error.sentence())),
        }
    }

    async fn plan(&self, app: &App) -> Result<Option<Plan>, WorkError> {
        let Some(context) = &self.context else { return Ok(None) };
        if self.link.is_none() && self.record.present().is_none() && self.item.present().is_none() {
            return Ok(None);
        }
        let outside = match self.item.present() {
            Some(item) => is_outside(context, item),
            None => self.link.as_ref().is_some_and(|link| link.outside),
        };
        let record = match &self.record {
            Seen::Present(fetched) => Seen::Present(record_as_seen(context, outside, fetched)),
            Seen::Gone => Seen::Gone,
            Seen::Unknown => Seen::Unknown,
        };
        let (locks, now) = (Locks::default(), app.clock().now());
        let task = Task {
            app,
            locks: &locks,
            cause: Cause::Manual,
            received: now,
            version: None,
            reminder: None,
            unit: None,
            in_bulk: false,
        };
        Ok(Some(task.decide_at(context, self.link.as_ref(), &record, &self.item, now).await?))
    }

    async fn tell(&self, app: &App) -> Result<Json, WorkError> {
        let plan = self.plan(app).await?;
        let lost = self.lost(app).await?;
        let takes_part = plan.as_ref().is_none_or(|plan| match &plan.verdict {
            // A pair stays one while a side is away.
            Verdict::LeaveAlone(Reason::CannotSee { .. }) => true,
            verdict => !matches!(verdict, Verdict::LeaveAlone(_) | Verdict::Bury(_)),
        });
        let is_linked = self.link.as_ref().is_some_and(|link| !link.is_buried());
        let enabled = self.enabled(app).await?;
        let holds = self.holds(app).await?;
        let dead = self.dead_letters(app).await?;
        let mut reasons = self.troubles.clone();
        reasons.extend(self.about_binding(app).await?);
        reasons.extend(lost.as_ref().map(ToString::to_string));
        reasons.extend(self.about_copies());
        reasons.extend(plan.iter().flat_map(|plan| plan.notes.iter().map(ToString::to_string)));
        reasons.extend(self.left_out().await);
        reasons.extend(self.unusable_pairs());
        reasons.extend(self.frozen());
        reasons
            .extend(holds.iter().map(|hold| format!("A hold waits for an administrator: {}", words(hold, "reason"))));
        reasons.extend(dead.iter().map(|letter| {
            format!("A change failed for good at {}: {}.", words(letter, "finished"), words(letter, "error"))
        }));
        Ok(json!({
            "kind": self.kind,
            "record_id": self.record_id,
            "summary": self.summary(plan.as_ref(), lost.as_ref()),
            "reasons": reasons,
            "synchronised": is_linked && takes_part,
            "enabled": enabled,
            "link": self.link.as_ref().map(link_json),
            "base": self.link.as_ref().map(base_json),
            "replicas": self.link.as_ref().map(|link| &link.replicas),
            "espo": end_json(&self.record, |fetched| {
                let record = &fetched.record;
                json!({ "values": values_json(&record.values), "modified": record.modified, "owner": record.owner })
            }),
            "outlook": end_json(&self.item, |item| {
                json!({ "values": values_json(&item.values), "modified": item.modified, "id": item.id, "user": item.user })
            }),
            "decision": plan.as_ref().map(decision_json),
            "holds": holds,
            "dead_letters": dead,
        }))
    }

    /// One sentence that says it.
    fn summary(&self, plan: Option<&Plan>, lost: Option<&Reason>) -> String {
        let linked = self.link.as_ref().is_some_and(|link| !link.is_buried());
        match plan.map(|plan| &plan.verdict) {
            None if linked => format!(
                "Synchronised as far as is known; how both ends are cannot be told now: {}",
                self.troubles.first().map_or("nothing could be read.", String::as_str)
            ),
            None => format!(
                "It cannot be told now: {}",
                self.troubles.first().map_or("nothing could be read.", String::as_str)
            ),
            Some(Verdict::LeaveAlone(Reason::CannotSee { side })) if linked => {
                let name = if *side == Side::Espo { "EspoCRM" } else { "Outlook" };
                format!("Synchronised; {name} cannot be read now, so nothing is done until it can.")
            }
            Some(Verdict::LeaveAlone(reason) | Verdict::Bury(reason)) => format!("Not synchronised: {reason}"),
            Some(_) if lost.is_some() && !linked => {
                "Not synchronised: it carries the mark of a pair that is not known any more.".to_owned()
            }
            Some(Verdict::InStep) => "Synchronised: both ends are as they should be.".to_owned(),
            Some(Verdict::Write) if linked => "Synchronised; there is something to write at the next look.".to_owned(),
            Some(Verdict::Write) => {
                "Not synchronised yet: it takes part, and its other end is made at the next look.".to_owned()
            }
            Some(Verdict::Hold(reason)) => format!("Waits for an administrator: {reason}"),
            Some(Verdict::Wait { until, .. }) => format!(
                "One end is gone; the other is deleted after {} unless it comes back.",
                until.format("%Y-%m-%d %H:%M:%S UTC")
            ),
        }
    }

    /// A mark without a link is that of a lost pair.
    async fn lost(&self, app: &App) -> Result<Option<Reason>, WorkError> {
        if self.link.is_some() {
            return Ok(None);
        }
        let record = self.record.present().and_then(|fetched| fetched.record.marker.clone());
        let item = self
            .item
            .present()
            .and_then(|item| item.marker.clone())
            .filter(|_| !self.item.present().is_some_and(|item| copies::is_copy(item) || relink::is_copied(item)));
        for (marker, missing) in [(record, Side::Outlook), (item, Side::Espo)] {
            if let Some(marker) = marker
                && relink::is_lost(app, &marker).await?
            {
                return Ok(Some(Reason::Unpaired { missing }));
            }
        }
        Ok(None)
    }

    async fn enabled(&self, app: &App) -> Result<bool, WorkError> {
        let field = self.record.present().and_then(|fetched| fetched.record.switch);
        let own = match &self.record_id {
            Some(id) => switches::is_enabled(app.store().read(), self.kind, id).await?,
            None => true,
        };
        Ok(own && field != Some(false))
    }

    /// What stands in the way on the side of the owner.
    async fn about_binding(&self, app: &App) -> Result<Option<String>, WorkError> {
        let Some(owner) = &self.owner else {
            return Ok(self
                .record
                .present()
                .map(|_| "The record has no assigned user, so no mailbox takes it.".to_owned()));
        };
        Ok(match bindings::by_user(app.store().read(), owner).await? {
            None => Some(format!("The assigned user {owner} is not bound to a mailbox.")),
            Some(binding) if !binding.enabled => Some(format!("The binding of {} is switched off.", binding.user_name)),
            Some(binding) if binding.state != BindingState::Active => Some(not_active(&binding)),
            Some(binding) if !binding.first_sync_done => {
                Some(format!("The first synchronisation of {} is not done yet.", binding.user_name))
            }
            Some(_) => None,
        })
    }

    fn about_copies(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let Some(item) = self.item.present().filter(|_| self.link.is_none()) {
            if item.series == Series::Master {
                sentences.push(Reason::SeriesMaster.to_string());
            }
            if copies::is_copy(item) {
                sentences.push(
                    "It is a private copy that follows a meeting of somebody else; it is only ever written.".to_owned(),
                );
            }
        }
        let others =
            self.link.iter().flat_map(|link| link.replicas.iter().filter(|replica| replica.user != link.owner));
        sentences.extend(others.map(|replica: &Replica| match replica.role {
            ReplicaRole::Private => format!("The user {} has a private copy, which follows.", replica.user),
            _ => format!("The user {} has a copy of the event: its answer counts, its content does not.", replica.user),
        }));
        sentences
    }

    /// Attendees who are nobody in EspoCRM.
    async fn left_out(&self) -> Vec<String> {
        let (Some(context), Some(fetched), Some(item)) = (&self.context, self.record.present(), self.item.present())
        else {
            return Vec::new();
        };
        let people = |values: &Values| {
            values.get(&sync::Field::Participants).and_then(sync::Value::as_people).cloned().unwrap_or_default()
        };
        let outside = is_outside(context, item);
        let record = record_as_seen(context, outside, fetched);
        let terms = people_terms(context, self.owner.as_deref().unwrap_or_default());
        match people::left_out(terms, &people(&item.values), &people(&record.values), &record.without_address).await {
            Ok(sentences) => sentences,
            Err(error) => vec![format!("Whether attendees were left out cannot be told: {}.", sentence(&error))],
        }
    }

    /// Configured pairs that this kind cannot have.
    fn unusable_pairs(&self) -> Vec<String> {
        let schema = self.context.as_ref().and_then(|context| context.schema.of(self.kind).ok());
        schema.map(|schema| schema.unusable.clone()).unwrap_or_default()
    }

    fn frozen(&self) -> Vec<String> {
        self.link
            .iter()
            .flat_map(|link| link.frozen.keys())
            .map(|field| Reason::Frozen { field: field.clone() }.to_string())
            .collect()
    }

    async fn holds(&self, app: &App) -> Result<Vec<Json>, WorkError> {
        let Some(owner) = &self.owner else { return Ok(Vec::new()) };
        let mut open = Vec::new();
        for kind in [HoldKind::FirstSync, HoldKind::MassDeletion] {
            if let Some(hold) =
                holds::latest(app.store().read(), owner, kind).await?.filter(|hold| hold.state == HoldState::Open)
            {
                open.push(json!({ "id": hold.id, "kind": kind.as_str(), "reason": hold.summary.get("reason"), "since": hold.created }));
            }
        }
        Ok(open)
    }

    /// Changes of either end that failed for good.
    async fn dead_letters(&self, app: &App) -> Result<Vec<Json>, WorkError> {
        let record = self.record_id.clone().map(|id| Target::Record { kind: self.kind, id });
        let linked = self.link.iter().flat_map(|link| &link.replicas).map(target_of);
        let item = self.item.present().filter(|_| self.link.is_none()).map(|item| match &item.list {
            None => Target::Event { user: item.user.clone(), id: item.id.clone() },
            Some(list) => Target::Todo { user: item.user.clone(), list: list.clone(), id: item.id.clone() },
        });
        let mut dead = Vec::new();
        for target in record.into_iter().chain(linked).chain(item) {
            let filter = messages::Filter {
                state: Some(MessageState::Dead),
                target: Some(target),
                ..messages::Filter::default()
            };
            let page = messages::page(app.store().read(), &filter, None, 20).await?;
            dead.extend(page.items.into_iter().map(|message| {
                json!({ "id": message.id(), "received": message.change.received, "finished": message.finished, "error": message.last_error })
            }));
        }
        Ok(dead)
    }
}

fn not_active(binding: &Binding) -> String {
    let reason = binding.reason.trim_end_matches('.');
    match reason {
        "" => format!("The binding of {} is not active.", binding.user_name),
        reason => format!("The binding of {} is not active: {reason}.", binding.user_name),
    }
}

fn words<'a>(value: &'a Json, key: &str) -> &'a str {
    value.get(key).and_then(Json::as_str).unwrap_or("unknown").trim_end_matches('.')
}

fn link_json(link: &Link) -> Json {
    json!({
        "id": link.id, "state": link.state.as_str(), "owner": link.owner, "ical_uid": link.ical_uid, "outside": link.outside,
        "reconciled": link.reconciled, "frozen": link.frozen.keys().map(sync::Field::as_str).collect::<Vec<_>>(),
    })
}

fn base_json(link: &Link) -> Json {
    let pair = |(field, agreed): (&sync::Field, &sync::Agreed)| {
        (field.to_string(), json!({ "espo": Shown(agreed.on(Side::Espo)), "outlook": Shown(agreed.on(Side::Outlook)) }))
    };
    link.base.iter().map(pair).collect::<serde_json::Map<_, _>>().into()
}

fn values_json(values: &Values) -> Json {
    values
        .iter()
        .map(|(field, value)| (field.to_string(), json!(Shown(value))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn end_json<T>(seen: &Seen<T>, show: impl FnOnce(&T) -> Json) -> Json {
    match seen {
        Seen::Present(end) => show(end),
        Seen::Gone => json!({ "gone": true }),
        Seen::Unknown => json!({ "seen": false }),
    }
}

/// The plan in sentences.
fn decision_json(plan: &Plan) -> Json {
    let verdict = match &plan.verdict {
        Verdict::InStep => "Both ends are as they should be.".to_owned(),
        Verdict::Write => "There is something to write.".to_owned(),
        Verdict::LeaveAlone(reason) | Verdict::Bury(reason) | Verdict::Hold(reason) => reason.to_string(),
        Verdict::Wait { until, .. } => {
            format!(
                "One end is gone; the other is deleted after {} unless it comes back.",
                until.format("%Y-%m-%d %H:%M:%S UTC")
            )
        }
    };
    let step = |step: &sync::Step| {
        let fields: Vec<&str> = step.action.writes().into_iter().flatten().map(|(field, _)| field.as_str()).collect();
        json!({ "writes_to": step.action.side(), "fields": fields, "reason": step.reason.to_string() })
    };
    json!({
        "verdict": verdict,
        "steps": plan.steps.iter().map(step).collect::<Vec<_>>(),
        "notes": plan.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
