//! Links rebuilt from what both systems keep of them, after a lost database.
//!
//! An event or To Do task that was made for a record carries the link's id and names the record; a record that was made for
//! an item carries, in its marker field, the link's id and the item's id in short. So one side is enough to tell the pair,
//! and where one end is marked but names nothing, the other is found by the same marker, else by equal title, time and owner.
//!
//! Nothing but links is written, and nothing follows from them but the merging of what differs: fields on which both ends
//! agree get their base, the others none, so that the next look merges them by priority.
//!
//! Of several items with one marker (somebody copied an event) the oldest is the one that we made.

use std::collections::{BTreeMap, BTreeSet};

use espocrm::{Acting, Fetched};
use graph::Named;
use serde::Serialize;
use store::bindings::{self, BindingState};
use store::{history, links};
use sync::{
    Agreed, Base, Cause, Direction, Field, Item, Kind, Link, LinkState, PrivateEvents, Projection, Reason, Seen,
    Series, Side, Value, agree,
};

use super::context::Context;
use super::copies;
use super::error::WorkError;
use super::execute::{record_as_seen, seen_by_owner};
use super::items::{self, Place};
use super::pair::{fingerprint_of, is_outside, replica};
use super::reconcile::Task;
use crate::app::App;
use crate::id;
use crate::schedule::mailbox::{Reach, window};

/// Rows per page.
const PAGE: u32 = 200;
/// So many ends without their other end are told by name.
const TOLD: usize = 100;
/// A record that is younger was made under our eyes.
const JUST_MADE: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
/// What we make is made with its mark: an item that is so much younger than the mark is a copy.
const COPIED: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// What a relinking found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Relinked {
    /// Pairs that were brought back, by marker or name.
    pub paired: u64,
    /// Of these: pairs that only their equal content tells.
    pub by_content: u64,
    /// Pairs whose link was there.
    pub known: u64,
    /// Marked ends whose other end was not found: they are left alone.
    pub left: u64,
    /// The first of them.
    pub unpaired: Vec<Unpaired>,
}

/// A marked end whose other end was not found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unpaired {
    /// Whose.
    pub user_id: String,
    /// Kind.
    pub kind: Kind,
    /// The record, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_id: Option<String>,
    /// The item, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// Its title.
    pub title: String,
    /// Why nothing was found.
    pub reason: String,
}

impl Relinked {
    fn add(&mut self, other: Self) {
        self.paired += other.paired;
        self.by_content += other.by_content;
        self.known += other.known;
        self.left += other.left;
        self.unpaired.extend(other.unpaired);
        self.unpaired.truncate(TOLD);
    }

    fn leave(&mut self, one: Unpaired) {
        self.left += 1;
        if self.unpaired.len() < TOLD {
            self.unpaired.push(one);
        }
    }
}

/// What a marker field is to say of the pair of a link whose record is created.
#[must_use]
pub fn marker_of(link: &Link) -> String {
    match link.master() {
        Some(master) => format!("{};{}", link.id, short(&master.user, &master.item_id)),
        None => link.id.clone(),
    }
}

fn short(user: &str, item: &str) -> String {
    sync::short(&format!("{user}\n{item}"))
}

/// True for a marker whose pair this database has never heard of: it was lost. A pair that was parted has left its history.
///
/// # Errors
/// When the database cannot be read.
pub async fn is_lost(app: &App, marker: &str) -> store::Result<bool> {
    let read = app.store().read();
    Ok(links::by_id(read, marker).await?.is_none() && !history::has_link(read, marker).await?)
}

/// True for an item that somebody copied, mark and all, from one of another installation. The item of a lost pair is as old as
/// its mark, or was made anew for a record, which is looked for before.
#[must_use]
pub fn is_copied(item: &Item) -> bool {
    item.marker.as_deref().and_then(id::made_at).is_some_and(|made| item.created - made > COPIED)
}

/// For everybody who is bound, or for one user.
///
/// # Errors
/// When the ends cannot be read.
pub async fn of_all(app: &App, user: Option<&str>, dry_run: bool) -> Result<Relinked, WorkError> {
    let mut relinked = Relinked::default();
    for binding in bindings::enabled_in(app.store().read(), &[BindingState::Active]).await? {
        if user.is_none_or(|user| user == binding.user_id) {
            relinked.add(of_user(app, &binding.user_id, dry_run).await?);
        }
    }
    Ok(relinked)
}

/// For one user.
///
/// # Errors
/// When the ends cannot be read.
pub async fn of_user(app: &App, user: &str, dry_run: bool) -> Result<Relinked, WorkError> {
    let context = Context::of(app, Some(user)).await?;
    let mut work = Work {
        ends: Ends::read(&context).await?,
        context: &context,
        dry_run,
        relinked: Relinked::default(),
        taken: BTreeSet::new(),
    };
    work.pair().await?;
    if work.relinked.paired > 0 {
        tracing::info!(user.id = user, pairs = work.relinked.paired, dry_run, "links were rebuilt from markers");
    }
    Ok(work.relinked)
}

/// Both ends of one user.
struct Ends {
    items: Vec<Named>,
    records: BTreeMap<(Kind, String), Fetched>,
}

impl Ends {
    async fn read(context: &Context) -> Result<Self, WorkError> {
        let mailbox = context.mailbox()?;
        let wanted: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| context.rules.of(*kind).direction != Direction::Disabled && context.schema.of(*kind).is_ok())
            .collect();
        let mut items = Vec::new();
        if wanted.iter().any(|kind| kind.is_event()) {
            items.extend(context.graph.named_events(&mailbox).await?);
            // Occurrences are in no list of events, only in a view.
            if let Some(binding) = &context.binding {
                let (from, to) = window(&context.app, binding, context.now(), Reach::Whole);
                let occurrence = |item: &Item| matches!(item.series, Series::Occurrence { .. });
                let view = context.graph.window(&mailbox, from, to).await?;
                items.extend(view.into_iter().filter(occurrence).map(|item| Named { item, record: None }));
            }
        }
        if wanted.contains(&Kind::Task) {
            let list = items::list(context, &mailbox).await?;
            items.extend(context.graph.named_tasks(&mailbox, &list).await?);
        }
        items.retain(|one| one.item.series != Series::Master && !copies::is_copy(&one.item));
        for one in &mut items {
            one.item = seen_by_owner(context, one.item.clone());
        }
        items.sort_by_key(|one| one.item.created);
        let records = records(context, &wanted, &items).await?;
        Ok(Self { items, records })
    }
}

/// The user's records since the start date, and those that items name.
async fn records(
    context: &Context,
    kinds: &[Kind],
    items: &[Named],
) -> Result<BTreeMap<(Kind, String), Fetched>, WorkError> {
    let (client, schema) = (&context.espo.client, &context.schema);
    let Some(binding) = &context.binding else { return Ok(BTreeMap::new()) };
    let mut records = BTreeMap::new();
    for kind in kinds {
        let mut after = None;
        loop {
            let page = client.owned(schema, *kind, &binding.user_id, binding.sync_from, after.as_ref(), PAGE).await?;
            records.extend(page.items.into_iter().map(|fetched| ((*kind, fetched.record.id.clone()), fetched)));
            after = page.last;
            if !page.more {
                break;
            }
        }
        let named = items
            .iter()
            .filter_map(|one| one.record.clone())
            .filter(|one| one.0 == *kind && !records.contains_key(one));
        let ids: Vec<String> = named.map(|(_, id)| id).collect();
        let listed = client.listing(schema, *kind, &ids).await?;
        records.extend(listed.into_iter().map(|fetched| ((*kind, fetched.record.id.clone()), fetched)));
    }
    records.retain(|_, fetched| fetched.record.owner.as_deref() == Some(&binding.user_id));
    Ok(records)
}

struct Work<'a> {
    context: &'a Context,
    ends: Ends,
    dry_run: bool,
    relinked: Relinked,
    /// Records and items that have their pair.
    taken: BTreeSet<String>,
}

/// How a pair was told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Marker,
    Content,
}

impl Work<'_> {
    async fn pair(&mut self) -> Result<(), WorkError> {
        self.known().await?;
        let items = std::mem::take(&mut self.ends.items);
        let records = std::mem::take(&mut self.ends.records);
        let keyed: BTreeMap<&str, &Fetched> =
            records.values().filter_map(|fetched| Some((fetched.item.as_deref()?, fetched))).collect();
        for one in &items {
            let record = one.record.as_ref().and_then(|named| records.get(named));
            let key = short(&one.item.user, &one.item.id);
            let record = record.or_else(|| {
                keyed.get(key.as_str()).copied().filter(|fetched| one.record.is_none() && fits(&one.item, fetched))
            });
            let marker = one.item.marker.as_ref().or_else(|| record?.record.marker.as_ref());
            if let (Some(record), Some(marker)) = (record, marker) {
                self.link(marker, record, &one.item, By::Marker).await?;
            }
        }
        let marked: BTreeMap<&str, &Fetched> =
            records.values().filter_map(|fetched| Some((fetched.record.marker.as_deref()?, fetched))).collect();
        for item in items.iter().map(|one| &one.item) {
            if let Some(marker) = &item.marker
                && let Some(record) = marked.get(marker.as_str()).filter(|fetched| fits(item, fetched))
            {
                self.link(marker, record, item, By::Marker).await?;
            }
        }
        self.by_content(&items, &records).await?;
        self.tell(&items, &records).await
    }

    /// Ends whose link is there.
    async fn known(&mut self) -> Result<(), WorkError> {
        let read = self.context.app.store().read();
        for one in &self.ends.items {
            if links::by_item(read, &one.item.user, &one.item.id).await?.is_some() {
                self.taken.insert(one.item.id.clone());
                self.relinked.known += 1;
            }
        }
        for (kind, id) in self.ends.records.keys() {
            if links::by_record(read, *kind, id).await?.is_some() {
                self.taken.insert(id.clone());
            }
        }
        Ok(())
    }

    /// Marked ends that name nothing, beside ends of the same title and time.
    async fn by_content(
        &mut self,
        items: &[Named],
        records: &BTreeMap<(Kind, String), Fetched>,
    ) -> Result<(), WorkError> {
        let context = self.context;
        let print = |kind: Kind, values: &sync::Values| {
            fingerprint_of(context, context.binding.as_ref().map_or("", |binding| &binding.user_id), kind, values)
        };
        for item in items.iter().filter(|one| one.record.is_none()).map(|one| &one.item) {
            if self.taken.contains(&item.id) {
                continue;
            }
            let same = print(item.kind, &item.values);
            let free = |fetched: &&Fetched| {
                fits(item, fetched)
                    && !self.taken.contains(&fetched.record.id)
                    && print(fetched.record.kind, &fetched.record.values) == same
            };
            let Some(fetched) = records.values().find(free) else { continue };
            if let Some(marker) = item.marker.as_ref().or(fetched.record.marker.as_ref()) {
                self.link(marker, fetched, item, By::Content).await?;
            }
        }
        Ok(())
    }

    /// Marked ends that are left over.
    async fn tell(&mut self, items: &[Named], records: &BTreeMap<(Kind, String), Fetched>) -> Result<(), WorkError> {
        let title =
            |values: &sync::Values| values.get(&Field::Title).and_then(Value::as_text).unwrap_or_default().to_owned();
        let user = self.context.binding.as_ref().map(|binding| binding.user_id.clone()).unwrap_or_default();
        for item in items.iter().map(|one| &one.item) {
            let Some(marker) = item.marker.as_ref().filter(|_| !self.taken.contains(&item.id) && !is_copied(item))
            else {
                continue;
            };
            if is_lost(&self.context.app, marker).await? {
                let (item_id, reason) = (Some(item.id.clone()), Reason::Unpaired { missing: Side::Espo }.to_string());
                self.relinked.leave(Unpaired {
                    user_id: user.clone(),
                    kind: item.kind,
                    record_id: None,
                    item_id,
                    title: title(&item.values),
                    reason,
                });
            }
        }
        for record in records.values().map(|fetched| &fetched.record) {
            let Some(marker) = record.marker.as_ref().filter(|_| !self.taken.contains(&record.id)) else { continue };
            if is_lost(&self.context.app, marker).await? {
                let (record_id, reason) =
                    (Some(record.id.clone()), Reason::Unpaired { missing: Side::Outlook }.to_string());
                self.relinked.leave(Unpaired {
                    user_id: user.clone(),
                    kind: record.kind,
                    record_id,
                    item_id: None,
                    title: title(&record.values),
                    reason,
                });
            }
        }
        Ok(())
    }

    async fn link(&mut self, marker: &str, fetched: &Fetched, item: &Item, by: By) -> Result<(), WorkError> {
        if self.taken.contains(&item.id)
            || self.taken.contains(&fetched.record.id)
            || !is_lost(&self.context.app, marker).await?
        {
            return Ok(());
        }
        let app = &self.context.app;
        if !self.dry_run {
            let link = rebuilt(self.context, marker, fetched, item);
            match links::save_alone(app.store(), &link, app.clock().now()).await {
                // A worker was faster.
                Err(error) if error.is_conflict() => return Ok(()),
                saved => saved?,
            }
        }
        self.taken.extend([item.id.clone(), fetched.record.id.clone()]);
        self.relinked.paired += 1;
        self.relinked.by_content += u64::from(by == By::Content);
        Ok(())
    }
}

/// An event may have become the other kind since; a task is a task.
fn fits(item: &Item, fetched: &Fetched) -> bool {
    item.kind.is_event() == fetched.record.kind.is_event()
}

/// The link of a pair as both ends are now. What they agree on is the base.
fn rebuilt(context: &Context, marker: &str, fetched: &Fetched, item: &Item) -> Link {
    let kind = fetched.record.kind;
    let fingerprint = fingerprint_of(context, &item.user, kind, &fetched.record.values);
    let mut link = Link::intent(marker.to_owned(), kind, item.user.clone(), Side::Espo, fingerprint, context.now());
    link.state = LinkState::Live;
    link.record_id = Some(fetched.record.id.clone());
    let mut master = replica(item, &item.user);
    // Whatever is hinted at next is looked at.
    master.etag = None;
    link.replicas = vec![master];
    link.ical_uid.clone_from(&item.ical_uid);
    link.outside = is_outside(context, item);
    if let Series::Occurrence { master, original_start } = &item.series {
        link.occurrence = Some((master.clone(), *original_start));
    }
    if !item.private || context.rules.private_events == PrivateEvents::Full {
        link.base = agreed(context, &link, fetched, item);
    }
    link
}

fn agreed(context: &Context, link: &Link, fetched: &Fetched, item: &Item) -> Base {
    let zone = context.owner().map_or(chrono_tz::Tz::UTC, |owner| owner.zone);
    let projection = Projection::new(zone, &context.rules);
    let record = record_as_seen(context, link.outside, fetched);
    let pair = |(field, espo): (&Field, &Value)| {
        let outlook = item.values.get(field)?;
        let same = agree(link.kind, field, espo, outlook, &projection);
        same.then(|| (field.clone(), Agreed { espo: espo.clone(), outlook: outlook.clone() }))
    };
    record.values.iter().filter_map(pair).collect()
}

impl Task<'_> {
    /// Rebuilds the link of an item whose marker this database has lost. None when no record is found by name or marker.
    pub(super) async fn lost_item(
        &self,
        context: &Context,
        item: &Item,
        marker: &str,
    ) -> Result<Option<String>, WorkError> {
        let place = Place { list: item.list.as_deref(), id: &item.id };
        let mailbox = context.mailbox()?;
        let named = match place.list {
            None => context.graph.record_of_event(&mailbox, place.id).await?,
            Some(list) => context.graph.record_of_task(&mailbox, list, place.id).await?,
        };
        let (client, schema) = (&context.espo.client, &context.schema);
        let fetched = match named {
            Some((kind, id)) => match client.record(schema, kind, &id, Acting::Connector).await? {
                Seen::Present(fetched) => Some(fetched),
                Seen::Gone | Seen::Unknown => None,
            },
            None => client.find_by_marker(schema, item.kind, marker).await?,
        };
        let ours = |fetched: &Fetched| fetched.record.owner.as_deref() == Some(&item.user) && fits(item, fetched);
        let Some(fetched) = fetched.filter(ours) else { return Ok(None) };
        let read = self.app.store().read();
        if links::by_record(read, fetched.record.kind, &fetched.record.id).await?.is_some()
            || !self.is_oldest(context, item, marker).await?
        {
            return Ok(None);
        }
        let link = rebuilt(context, marker, &fetched, item);
        tracing::info!(
            link.id = marker,
            record.id = fetched.record.id,
            item.id = item.id,
            "a link was rebuilt from its marker"
        );
        links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
        Ok(Some(link.id))
    }

    /// Rebuilds the link of a record that an item of the owner's mailbox names, where this database has lost it. Records that
    /// were just made cannot have been lost, and before a first synchronisation all links are rebuilt.
    pub(super) async fn lost_record(&self, context: &Context, fetched: &Fetched) -> Result<Option<String>, WorkError> {
        let record = &fetched.record;
        if self.cause == Cause::FirstSync || context.now() - record.created < JUST_MADE {
            return Ok(None);
        }
        let mailbox = context.mailbox()?;
        let name = (record.kind, record.id.clone());
        let items = if record.kind.is_event() {
            context.graph.events_of_record(&mailbox, &format!("{}:{}", record.kind, record.id)).await?
        } else {
            let all = context.graph.named_tasks(&mailbox, &items::list(context, &mailbox).await?).await?;
            all.into_iter().filter(|one| one.record.as_ref() == Some(&name)).map(|one| one.item).collect()
        };
        let Some(item) = items.into_iter().min_by_key(|item| item.created) else { return Ok(None) };
        let Some(marker) = item.marker.clone() else { return Ok(None) };
        let known = links::by_item(self.app.store().read(), &item.user, &item.id).await?.is_some();
        if known || !is_lost(self.app, &marker).await? {
            return Ok(None);
        }
        let link = rebuilt(context, &marker, fetched, &seen_by_owner(context, item));
        tracing::info!(
            link.id = link.id,
            record.id = record.id,
            "a link was rebuilt from the item that names the record"
        );
        links::save_alone(self.app.store(), &link, self.app.clock().now()).await?;
        Ok(Some(link.id))
    }

    /// Somebody may have copied the item, its marker with it.
    async fn is_oldest(&self, context: &Context, item: &Item, marker: &str) -> Result<bool, WorkError> {
        if item.list.is_some() {
            return Ok(true);
        }
        let all = context.graph.events_by_marker(&context.mailbox()?, marker).await?;
        Ok(all.iter().min_by_key(|one| one.created).is_none_or(|oldest| oldest.id == item.id))
    }
}
