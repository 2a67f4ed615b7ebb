//! [`decide`]: what is to be done about one pair.
//!
//! The order is: does it take part at all; is an end missing; and only then field by field. Whatever is left undone leaves
//! a [`Reason`].

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::merge::Terms;
use crate::{
    Action, Agreed, Answer, Attendees, Base, Cancelled, Day, Direction, Field, Item, Link, LinkState, NotHeld, Plan,
    Priority, PrivateEvents, Projection, Reason, Record, Role, Rules, Seen, Series, Side, Status, Step, Value, Values,
    Verdict, When, Write, Writes, merge_field, project, text,
};

/// The bound user whose mailbox holds, or is to hold, the master copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// EspoCRM id.
    pub user: String,
    /// Address of the mailbox, lower case.
    pub address: String,
    /// The binding's start date.
    pub start_date: NaiveDate,
    /// Zone of the mailbox.
    pub zone: Tz,
    /// Enabled and authorised.
    pub active: bool,
    /// The first synchronisation is done or under way: until then nothing is taken in, for it may be held.
    pub taking_in: bool,
}

/// Deletions of the owner's pairs that wait together, for the brake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deletions {
    /// Pairs of this user that are gone on one side and wait, this one included, within ten minutes.
    pub waiting: u64,
    /// All live pairs of this user.
    pub links: u64,
    /// A hold that was raised for them is not decided yet, however long ago that was.
    pub held: bool,
    /// An administrator has confirmed this one.
    pub confirmed: bool,
}

/// Deletions of one user within ten minutes beyond which a hold is raised.
const BRAKE: u64 = 20;
/// A quarter of all pairs raises one too, from this many on.
const BRAKE_SHARE_FROM: u64 = 10;
/// Swings of one field within an hour beyond which it is frozen.
pub(crate) const SWINGS: usize = 3;

/// Everything that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The link, when there is one.
    pub link: Option<&'a Link>,
    /// What was seen of the record.
    pub record: &'a Seen<Record>,
    /// What was seen of the item: the master copy, else the copy that the hint named.
    pub item: &'a Seen<Item>,
    /// The owner, when bound.
    pub owner: Option<&'a Owner>,
    /// The owner's effective rules.
    pub rules: &'a Rules,
    /// The connector's own per-record switch.
    pub switched_on: bool,
    /// Addresses of all bound mailboxes, lower case.
    pub bound: &'a BTreeSet<String>,
    /// Deletions that wait.
    pub deletions: Deletions,
    /// How long a deletion waits.
    pub grace: Duration,
    /// Occurrences of series that start later are left out.
    pub horizon: DateTime<Utc>,
    /// The time.
    pub now: DateTime<Utc>,
}

/// Decides what is to be done. Pure; the same view makes the same plan.
#[must_use]
pub fn decide(view: &View<'_>) -> Plan {
    if let Some(link) = view.link
        && link.is_buried()
    {
        return Plan::nothing(Verdict::LeaveAlone(Reason::Buried));
    }
    if let Some(reason) = excluded(view) {
        return Plan::nothing(Verdict::LeaveAlone(reason));
    }
    let mut plan = of_ends(view);
    for (field, agreed) in arrived(view) {
        plan.agreed.entry(field).or_insert(agreed);
    }
    plan
}

fn of_ends(view: &View<'_>) -> Plan {
    let one_gone = matches!((view.record, view.item), (Seen::Gone, _) | (_, Seen::Gone));
    if one_gone && view.link.is_some() && view.owner.is_some_and(|owner| !owner.taking_in) {
        // The mailbox may be another one than the pair was made in.
        return Plan::nothing(Verdict::LeaveAlone(Reason::FirstSyncPending));
    }
    match (view.record, view.item) {
        (Seen::Present(record), Seen::Present(item)) => both(view, record, item),
        (Seen::Present(record), Seen::Gone) => match view.link {
            None | Some(Link { state: LinkState::Creating { side: Side::Outlook, .. }, .. }) => new_item(view, record),
            Some(link) if link.outside && is_own_matter(view, link, record) => own_copy_gone(view, link, record),
            Some(link) => gone(view, link, Side::Outlook, record.modified, &record.values),
        },
        (Seen::Gone, Seen::Present(item)) => match view.link {
            None | Some(Link { state: LinkState::Creating { side: Side::Espo, .. }, .. }) => new_record(view, item),
            Some(link) => gone(view, link, Side::Espo, item.modified, &item.values),
        },
        (Seen::Gone, Seen::Gone) => Plan::nothing(Verdict::Bury(Reason::Deleted { side: Side::Espo })),
        (Seen::Present(record), Seen::Unknown) if view.link.is_none() => new_item(view, record),
        (Seen::Unknown, Seen::Present(item)) if view.link.is_none() => new_record(view, item),
        (_, Seen::Unknown) => Plan::nothing(Verdict::LeaveAlone(Reason::CannotSee { side: Side::Outlook })),
        (Seen::Unknown, _) => Plan::nothing(Verdict::LeaveAlone(Reason::CannotSee { side: Side::Espo })),
    }
}

/// What was sent without an answer and is seen to have arrived: it is agreed, as if the answer had been seen.
fn arrived(view: &View<'_>) -> Base {
    let mut base = Base::new();
    if let Some(link) = view.link.filter(|link| !link.sent.is_empty()) {
        let own = |(field, agreed): (&Field, &Agreed)| (field.clone(), agreed.clone());
        if let Some(record) = view.record.present() {
            base.extend(link.arrived(Side::Espo, &record.values).map(own));
        }
        if let Some(item) = view.item.present() {
            base.extend(link.arrived(Side::Outlook, &masked(item, view.rules)).map(own));
        }
    }
    base
}

/// The base, with what has arrived since.
fn base_of(view: &View<'_>) -> Base {
    let mut base = view.link.map_or_else(Base::new, |link| link.base.clone());
    base.extend(arrived(view));
    base
}

/// Why a pair takes no part at all, linked or not.
fn excluded(view: &View<'_>) -> Option<Reason> {
    let kind = match (view.link, view.record.present(), view.item.present()) {
        (Some(link), ..) => link.kind,
        (_, Some(record), _) => record.kind,
        (.., Some(item)) => item.kind,
        _ => return None,
    };
    if view.rules.of(kind).direction == Direction::Disabled {
        return Some(Reason::DirectionOff { field: None, to: Side::Outlook });
    }
    if !view.owner.is_some_and(|owner| owner.active) {
        return Some(Reason::NotBound);
    }
    let field_off = match view.record.present() {
        Some(record) => record.switch == Some(false),
        None => view.link.is_some_and(|link| link.switched_off),
    };
    if field_off || !view.switched_on {
        return Some(Reason::SwitchedOff);
    }
    let item = view.item.present()?;
    if item.private && view.rules.private_events == PrivateEvents::None {
        return Some(Reason::Private);
    }
    None
}

/// Why an end that has no pair yet gets none.
fn not_yet(view: &View<'_>, kind: crate::Kind, to: Side, values: &Values, created: DateTime<Utc>) -> Option<Reason> {
    if !view.rules.of(kind).direction.allows_to(to) {
        return Some(Reason::DirectionOff { field: None, to });
    }
    if view.owner.is_some_and(|owner| !owner.taking_in) {
        return Some(Reason::FirstSyncPending);
    }
    let when = values.get(&Field::Time).and_then(Value::as_when);
    if when.is_some_and(When::ends_before_it_starts) {
        return Some(Reason::EndsBeforeItStarts);
    }
    let first_day = when.and_then(When::first_day).unwrap_or_else(|| created.date_naive());
    let start_date = view.owner.map(|owner| owner.start_date)?;
    (first_day < start_date).then_some(Reason::BeforeStartDate { start_date })
}

fn new_item(view: &View<'_>, record: &Record) -> Plan {
    if let Some(reason) = not_yet(view, record.kind, Side::Outlook, &record.values, record.created) {
        return Plan::nothing(Verdict::LeaveAlone(reason));
    }
    let not_held = record.values.get(&Field::Status) == Some(&Value::Status(Status::NotHeld));
    if not_held && view.rules.not_held == NotHeld::Cancel {
        return Plan::nothing(Verdict::LeaveAlone(Reason::NotHeld));
    }
    let mut notes = Vec::new();
    let mut writes = all(view, record.kind, &record.values, Side::Outlook);
    // A status as such is not written to an event; to a To Do task it is.
    if record.kind.is_event() {
        writes.remove(&Field::Status);
    }
    let some = |write: &Write| write.value.as_people().is_some_and(|people| !people.0.is_empty());
    if let Some(reason) = attendees_left_out(view, record)
        && writes.remove(&Field::Participants).as_ref().is_some_and(some)
    {
        notes.push(reason);
    }
    notes.extend(about_people(record));
    notes.extend(files_left_out(Side::Espo, &record.values));
    Plan { notes, ..Plan::one(Action::CreateItem { writes }, Reason::NewRecord) }
}

fn new_record(view: &View<'_>, item: &Item) -> Plan {
    if let Some(reason) = item_excluded(view, item) {
        return Plan::nothing(Verdict::LeaveAlone(reason));
    }
    let values = masked(item, view.rules);
    if let Some(reason) = not_yet(view, item.kind, Side::Espo, &values, item.created) {
        return Plan::nothing(Verdict::LeaveAlone(reason));
    }
    let notes = files_left_out(Side::Outlook, &values).into_iter().chain(resources(item)).collect();
    let writes = all(view, item.kind, &values, Side::Espo);
    Plan { notes, ..Plan::one(Action::CreateRecord { kind: item.kind, writes }, Reason::NewItem) }
}

/// Why an item that has no record gets none.
fn item_excluded(view: &View<'_>, item: &Item) -> Option<Reason> {
    if let Role::Attendee { organizer } = &item.role
        && view.bound.contains(&text::address(organizer))
    {
        return Some(Reason::CopyOfBoundOrganizer { organizer: organizer.clone() });
    }
    if item.series == Series::Master {
        return Some(Reason::SeriesMaster);
    }
    if item.values.get(&Field::Status) == Some(&Value::Status(Status::Cancelled)) {
        return Some(Reason::AlreadyCancelled);
    }
    let starts = match item.values.get(&Field::Time).and_then(Value::as_when) {
        Some(When::Timed { start, .. }) => Some(*start),
        Some(When::AllDay { first, .. }) => first.and_hms_opt(0, 0, 0).map(|at| at.and_utc()),
        _ => None,
    };
    let occurrence = matches!(item.series, Series::Occurrence { .. });
    (occurrence && starts.is_some_and(|start| start > view.horizon)).then_some(Reason::BeyondHorizon)
}

/// All fields of one end, as the other is to have them.
fn all(view: &View<'_>, kind: crate::Kind, values: &Values, target: Side) -> Writes {
    let projection = projection(view);
    let write = |(field, source): (&Field, &Value)| {
        let value = project(kind, field, source, target, &projection);
        (field.clone(), Write { value, source: source.clone(), old: None, lost: None })
    };
    let wanted = |(field, value): &(&Field, &Value)| match field {
        Field::Reminder => view.rules.reminders,
        Field::Attachments => value.as_files().is_some_and(|files| !files.is_empty()),
        Field::Extra(_) => view.rules.fields.narrow(kind, field, Direction::Both).allows_to(target),
        _ => true,
    };
    values.iter().filter(wanted).map(write).collect()
}

pub(crate) fn projection(view: &View<'_>) -> Projection {
    Projection::new(view.owner.map_or(Tz::UTC, |owner| owner.zone), view.rules)
}

/// The values of an item as this user lets them be seen: of a busy block, the times only.
#[must_use]
pub fn masked(item: &Item, rules: &Rules) -> Values {
    if !busy(item, rules) {
        return item.values.clone();
    }
    let mut values: Values = item
        .values
        .iter()
        .filter(|(field, _)| matches!(field, Field::Time | Field::Status))
        .map(|(f, v)| (f.clone(), v.clone()))
        .collect();
    values.insert(Field::Title, Value::Text(text::PRIVATE.to_owned()));
    // What was told before it became private is taken back.
    for field in [Field::Body, Field::Location] {
        if item.values.contains_key(&field) {
            values.insert(field, Value::Text(String::new()));
        }
    }
    values
}

fn busy(item: &Item, rules: &Rules) -> bool {
    item.private && rules.private_events == PrivateEvents::Busy
}

/// Both ends are there: field by field.
fn both(view: &View<'_>, record: &Record, item: &Item) -> Plan {
    let kind = view.link.map_or(record.kind, |link| link.kind);
    if let Some(plan) = cancelled(view, record, item) {
        return plan;
    }
    let outside = is_outside(view, item);
    let rules = view.rules.of(kind);
    let newest = if item.modified > record.modified { Side::Outlook } else { Side::Espo };
    let projection = projection(view);
    let base = base_of(view);
    let outlook_values = masked(item, view.rules);
    let mut plan = Plan::nothing(Verdict::InStep);
    let (mut to_espo, mut to_outlook) = (Writes::new(), Writes::new());
    let fields: BTreeSet<&Field> = record.values.keys().chain(outlook_values.keys()).collect();
    for field in fields {
        let (Some(espo), Some(outlook)) = (record.values.get(field), outlook_values.get(field)) else {
            unreadable(&mut plan, &base, field, record);
            continue;
        };
        if !view.rules.reminders && *field == Field::Reminder {
            continue;
        }
        let direction = if outside { one_way(rules.direction) } else { rules.direction };
        let direction = view.rules.fields.narrow(kind, field, direction);
        let terms = Terms { kind, direction, priority: rules.priority, newest, projection: &projection };
        let mut merged = merge_field(field, base.get(field), espo, outlook, &terms);
        restrain(view, record, item, field, &mut merged, outside);
        if kind == crate::Kind::Call && merged.to_espo.as_ref().is_some_and(lasts_all_day) {
            merged.to_espo = None;
            merged.lost = None;
            merged.notes.push(Reason::AllDayCall);
        }
        keep_due(item, espo, outlook, &mut merged);
        if frozen(view, field) && (merged.to_espo.is_some() || merged.to_outlook.is_some()) {
            plan.notes.push(Reason::Frozen { field: field.clone() });
            continue;
        }
        for note in std::mem::take(&mut merged.notes) {
            match respond(view, rules.direction, (espo, outlook), &note) {
                Some(step) => plan.steps.push(step),
                None => plan.notes.push(note),
            }
        }
        if let Some(agreed) = merged.rebase.take() {
            plan.agreed.insert(field.clone(), agreed);
        }
        let lost = merged.lost;
        let lost_on = |side: Side| lost.as_ref().filter(|(loser, _)| *loser == side).map(|(_, value)| value.clone());
        if let Some(value) = merged.to_espo {
            let write = Write { value, source: outlook.clone(), old: Some(espo.clone()), lost: lost_on(Side::Espo) };
            to_espo.insert(field.clone(), write);
        }
        if let Some(value) = merged.to_outlook {
            let write = Write { value, source: espo.clone(), old: Some(outlook.clone()), lost: lost_on(Side::Outlook) };
            to_outlook.insert(field.clone(), write);
        }
    }
    plan.notes.extend(about_people(record));
    plan.notes.extend(resources(item));
    if rules.direction.allows_to(Side::Outlook) && has_no_due(&record.values) && keeps_due(item) {
        plan.notes.push(Reason::RepeatingTask);
    }
    plan.notes.extend(files_left_out(Side::Espo, &record.values));
    plan.notes.extend(files_left_out(Side::Outlook, &outlook_values));
    plan.notes.extend(files_not_taken(&base, &record.values, &outlook_values));
    push_updates(&mut plan, to_espo, to_outlook);
    plan
}

/// Exchange takes no more attendees of one event.
const ATTENDEES_MAX: usize = 500;

/// Participants of a record who cannot be in Outlook.
fn about_people(record: &Record) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !record.without_address.is_empty() {
        reasons.push(Reason::WithoutAddress { names: record.without_address.clone() });
    }
    let count = record.values.get(&Field::Participants).and_then(Value::as_people).map_or(0, |people| people.0.len());
    if count > ATTENDEES_MAX {
        reasons.push(Reason::TooManyAttendees { count });
    }
    reasons
}

fn resources(item: &Item) -> Option<Reason> {
    (!item.resources.is_empty()).then(|| Reason::Resources { names: item.resources.clone() })
}

/// Files that do not travel at all.
fn files_left_out(side: Side, values: &Values) -> Option<Reason> {
    let files = values.get(&Field::Attachments)?.as_files()?;
    let names: Vec<String> = files.left_out.values().map(|file| file.name.clone()).collect();
    let too_large = files.left_out.values().any(crate::LeftOut::is_too_large);
    (!names.is_empty()).then_some(Reason::FilesLeftOut { side, names, too_large })
}

/// Files that only one side has, which has been settled: the other did not take them.
fn files_not_taken(base: &Base, espo: &Values, outlook: &Values) -> Vec<Reason> {
    let files = |values: &Values| values.get(&Field::Attachments).and_then(Value::as_files).cloned();
    let (Some(agreed), Some(espo), Some(outlook)) = (base.get(&Field::Attachments), files(espo), files(outlook)) else {
        return Vec::new();
    };
    let only = |side: Side, here: &crate::Files, there: &crate::Files| {
        let settled = |file: &&crate::File| {
            let on = |side: Side| agreed.on(side).as_files().is_some_and(|files| files.get(file).is_some());
            there.id_of(&file.hash).is_none() && on(side) && !on(side.other())
        };
        let names: Vec<String> = here.without(there).filter(settled).map(|file| file.name.clone()).collect();
        (!names.is_empty()).then_some(Reason::FilesNotTaken { side, names })
    };
    only(Side::Espo, &espo, &outlook).into_iter().chain(only(Side::Outlook, &outlook, &espo)).collect()
}

/// An answer that can be sent, because the participant's mailbox is bound and has an invitation.
fn respond(view: &View<'_>, direction: Direction, (espo, outlook): (&Value, &Value), note: &Reason) -> Option<Step> {
    let Reason::AnswerNeedsOwnMailbox { address } = note else { return None };
    let answer = espo.as_people()?.0.get(address)?.answer;
    let invited = outlook.as_people()?.0.contains_key(address) && view.bound.contains(address);
    if answer == Answer::None || !invited || !direction.allows_to(Side::Outlook) {
        return None;
    }
    let action = Action::Respond { address: address.clone(), answer };
    Some(Step { action, reason: Reason::Answered { address: address.clone() } })
}

fn push_updates(plan: &mut Plan, to_espo: Writes, to_outlook: Writes) {
    let fields = |writes: &Writes| writes.keys().cloned().collect::<Vec<_>>();
    if !to_outlook.is_empty() {
        let reason = Reason::Changed { side: Side::Espo, fields: fields(&to_outlook) };
        plan.steps.push(Step { action: Action::UpdateItem { writes: to_outlook }, reason });
    }
    if !to_espo.is_empty() {
        let reason = Reason::Changed { side: Side::Outlook, fields: fields(&to_espo) };
        plan.steps.push(Step { action: Action::UpdateRecord { writes: to_espo }, reason });
    }
    if !plan.steps.is_empty() {
        plan.verdict = Verdict::Write;
    }
}

/// A field that only one side shows. Silence is right where the field never was in step, such as a location without a place.
fn unreadable(plan: &mut Plan, base: &Base, field: &Field, record: &Record) {
    if base.contains_key(field) {
        let side = if record.values.contains_key(field) { Side::Outlook } else { Side::Espo };
        plan.notes.push(Reason::CannotRead { field: field.clone(), side });
    }
}

/// An event of an outside organizer takes nothing from us.
pub(crate) const fn one_way(direction: Direction) -> Direction {
    match direction {
        Direction::Both | Direction::OutlookToEspo => Direction::OutlookToEspo,
        Direction::EspoToOutlook | Direction::Disabled => Direction::Disabled,
    }
}

fn lasts_all_day(value: &Value) -> bool {
    matches!(value, Value::Time(When::AllDay { .. }))
}

fn due_of(values: &Values) -> Option<Option<Day>> {
    match values.get(&Field::Time) {
        Some(Value::Time(When::Due { due, .. })) => Some(*due),
        _ => None,
    }
}

fn has_no_due(values: &Values) -> bool {
    due_of(values) == Some(None)
}

/// True for a To Do task whose due date To Do does not let go: one that repeats.
pub(crate) fn keeps_due(item: &Item) -> bool {
    item.series == Series::Repeating && due_of(&item.values).flatten().is_some()
}

/// A due date that was removed in EspoCRM stays in a task that repeats. What else is said of its time is written; where that is
/// nothing, both sides are agreed as they are, so that either may change it again.
fn keep_due(item: &Item, espo: &Value, outlook: &Value, merged: &mut crate::Merged) {
    let Some(Value::Time(When::Due { due: None, start })) = merged.to_outlook else { return };
    if !keeps_due(item) {
        return;
    }
    let kept = Value::Time(When::Due { due: due_of(&item.values).flatten(), start });
    merged.lost = None;
    if kept == *outlook {
        merged.to_outlook = None;
        merged.rebase = Some(Agreed { espo: espo.clone(), outlook: outlook.clone() });
    } else {
        merged.to_outlook = Some(kept);
    }
}

/// Takes back writes to Outlook that the item does not bear.
fn restrain(view: &View<'_>, record: &Record, item: &Item, field: &Field, merged: &mut crate::Merged, outside: bool) {
    if merged.to_outlook.is_none() {
        if outside && merged.notes.iter().any(|note| matches!(note, Reason::DirectionOff { to: Side::Outlook, .. })) {
            merged.notes = vec![Reason::OrganizedOutside];
        }
        return;
    }
    let refusal = barred(view, record, item, field);
    if let Some(reason) = refusal {
        merged.to_outlook = None;
        merged.lost = None;
        merged.notes.push(reason);
    }
}

/// True for a copy of an event that nobody bound organises.
pub(crate) fn is_outside(view: &View<'_>, item: &Item) -> bool {
    matches!(&item.role, Role::Attendee { organizer } if !view.bound.contains(&text::address(organizer)))
}

/// Why an item does not bear a write to a field.
pub(crate) fn barred(view: &View<'_>, record: &Record, item: &Item, field: &Field) -> Option<Reason> {
    match field {
        Field::Participants => attendees_left_out(view, record),
        // isCancelled is read-only: cancelling is a deletion, decided before, and nothing uncancels.
        Field::Status if item.kind.is_event() => Some(Reason::Cancelled),
        Field::Time if record_time_is_wrong(record) => Some(Reason::EndsBeforeItStarts),
        Field::Title | Field::Body | Field::Location | Field::Reminder | Field::Extra(_) if busy(item, view.rules) => {
            Some(Reason::BusyBlock { field: field.clone() })
        }
        _ => None,
    }
}

fn record_time_is_wrong(record: &Record) -> bool {
    record.values.get(&Field::Time).and_then(Value::as_when).is_some_and(When::ends_before_it_starts)
}

/// Nobody is surprised by mail: no attendees by rule, none on what is over.
fn attendees_left_out(view: &View<'_>, record: &Record) -> Option<Reason> {
    if view.rules.attendees == Attendees::None {
        return Some(Reason::AttendeesLeftOut { past: false });
    }
    let over = match record.values.get(&Field::Time).and_then(Value::as_when) {
        Some(When::Timed { start, end }) => end.unwrap_or(*start) < view.now,
        Some(When::AllDay { last, .. }) => *last < view.now.date_naive(),
        _ => false,
    };
    over.then_some(Reason::AttendeesLeftOut { past: true })
}

fn frozen(view: &View<'_>, field: &Field) -> bool {
    view.link.is_some_and(|link| {
        let fresh = |since: &DateTime<Utc>| view.now - *since < Duration::hours(1);
        link.frozen.get(field).is_some_and(fresh)
    })
}

/// Cancellations that delete the other end by rule.
fn cancelled(view: &View<'_>, record: &Record, item: &Item) -> Option<Plan> {
    let item_cancelled = item.values.get(&Field::Status) == Some(&Value::Status(Status::Cancelled));
    let direction = view.rules.of(record.kind).direction;
    if item_cancelled && view.rules.cancelled == Cancelled::Delete && direction.allows_to(Side::Espo) {
        return Some(Plan::one(Action::DeleteRecord, Reason::Cancelled));
    }
    let not_held = record.values.get(&Field::Status) == Some(&Value::Status(Status::NotHeld));
    let ours = item.role == Role::Organizer && item.kind.is_event();
    if not_held
        && ours
        && !item_cancelled
        && view.rules.not_held == NotHeld::Cancel
        && direction.allows_to(Side::Outlook)
    {
        return Some(Plan::one(Action::DeleteItem, Reason::NotHeld));
    }
    None
}

/// One end of a pair is gone. `values` and `modified` are those of the end that is left.
fn gone(view: &View<'_>, link: &Link, side: Side, modified: DateTime<Utc>, values: &Values) -> Plan {
    let left = side.other();
    let rules = view.rules.of(link.kind);
    if !rules.direction.allows_to(left) {
        return Plan::nothing(Verdict::Bury(Reason::DirectionOff { field: None, to: left }));
    }
    if side == Side::Espo && link.outside {
        return Plan::nothing(Verdict::Bury(Reason::OrganizedOutside));
    }
    if edited_since(view, link, left, modified, values)
        && edit_wins(rules.priority, side)
        && rules.direction.allows_to(side)
    {
        return recreate(view, link, side);
    }
    let since = match link.state {
        LinkState::Deleting { gone, since } if gone == side => since,
        _ => view.now,
    };
    let until = since + view.grace;
    if view.now < until {
        return Plan::nothing(Verdict::Wait { gone: side, until });
    }
    if brake(view.deletions) {
        return Plan::nothing(Verdict::Hold(Reason::MassDeletion { waiting: view.deletions.waiting }));
    }
    let action = if left == Side::Outlook { Action::DeleteItem } else { Action::DeleteRecord };
    Plan::one(action, Reason::Deleted { side })
}

/// True when only the mailbox's owner can have removed the copy. An occurrence that is gone may have been cancelled, or its
/// series shortened, by the organizer: then it follows, unless it was declined before.
fn is_own_matter(view: &View<'_>, link: &Link, record: &Record) -> bool {
    let people = record.values.get(&Field::Participants).and_then(Value::as_people);
    let own = view.owner.and_then(|owner| people?.0.get(&owner.address));
    link.occurrence.is_none() || own.is_some_and(|person| person.answer == Answer::Declined)
}

/// The copy of a meeting organised outside is gone from the mailbox: its owner has declined, unless it was cancelled. The
/// record stays.
fn own_copy_gone(view: &View<'_>, link: &Link, record: &Record) -> Plan {
    let buried = || Plan::nothing(Verdict::Bury(Reason::OwnCopyGone));
    let cancelled = link.base.get(&Field::Status).is_some_and(|agreed| {
        agreed.outlook == Value::Status(Status::Cancelled) && view.rules.cancelled == Cancelled::NotHeld
    });
    let people = record.values.get(&Field::Participants).and_then(Value::as_people);
    let (Some(people), Some(owner)) = (people, view.owner) else { return buried() };
    if cancelled || !view.rules.of(link.kind).direction.allows_to(Side::Espo) {
        return buried();
    }
    let mut declined = people.clone();
    match declined.0.get_mut(&owner.address) {
        Some(person) if person.answer != Answer::Declined => person.answer = Answer::Declined,
        _ => return buried(),
    }
    let value = Value::People(declined);
    let old = Some(Value::People(people.clone()));
    let write = Write { source: value.clone(), value, old, lost: None };
    let action = Action::UpdateRecord { writes: Writes::from([(Field::Participants, write)]) };
    Plan { steps: vec![Step { action, reason: Reason::OwnCopyGone }], ..buried() }
}

/// The end that was edited brings the other back.
fn recreate(view: &View<'_>, link: &Link, gone: Side) -> Plan {
    let reason = Reason::EditBeatsDelete { gone };
    match (gone, view.record.present(), view.item.present()) {
        (Side::Espo, _, Some(item)) => {
            let writes = all(view, link.kind, &masked(item, view.rules), Side::Espo);
            Plan::one(Action::CreateRecord { kind: link.kind, writes }, reason)
        }
        (Side::Outlook, Some(record), _) => {
            let mut plan = new_item(view, record);
            if let Some(step) = plan.steps.first_mut() {
                step.reason = reason;
            }
            plan
        }
        _ => Plan::nothing(Verdict::LeaveAlone(Reason::CannotSee { side: gone })),
    }
}

/// True when the end that is left differs from the base in a field that is kept in step.
fn edited_since(view: &View<'_>, link: &Link, left: Side, modified: DateTime<Utc>, values: &Values) -> bool {
    let touched = link.reconciled.is_none_or(|at| modified + Duration::seconds(1) >= at) || left == Side::Espo;
    let shown;
    let values = match (left, view.item.present()) {
        (Side::Outlook, Some(item)) => {
            shown = masked(item, view.rules);
            &shown
        }
        _ => values,
    };
    let base = base_of(view);
    touched
        && base.iter().any(|(field, agreed)| {
            // Answers of others are no edit, and a reminder is everybody's own.
            !matches!(field, Field::Participants | Field::Reminder)
                && !is_mask(view, &base, field)
                && values.get(field).is_some_and(|value| value != agreed.on(left))
        })
}

/// True for the texts of a busy block: one of one's own in EspoCRM never reaches the private event, so it keeps nothing alive.
fn is_mask(view: &View<'_>, base: &Base, field: &Field) -> bool {
    view.rules.private_events == PrivateEvents::Busy
        && matches!(field, Field::Title | Field::Body | Field::Location)
        && base.get(&Field::Title).is_some_and(|title| title.outlook.as_text() == Some(text::PRIVATE))
}

/// Deleted on `gone`, edited on the other side. The time of a deletion is nowhere to be read, so `newest` keeps the edit.
const fn edit_wins(priority: Priority, gone: Side) -> bool {
    match priority {
        Priority::Espo => matches!(gone, Side::Outlook),
        Priority::Outlook => matches!(gone, Side::Espo),
        Priority::Newest => true,
    }
}

const fn brake(deletions: Deletions) -> bool {
    let share = deletions.waiting >= BRAKE_SHARE_FROM && deletions.waiting * 4 > deletions.links;
    !deletions.confirmed && (deletions.held || deletions.waiting > BRAKE || share)
}
