//! A record, an item, the link between them, and the generators of what may happen to them.

use std::collections::BTreeSet;

use chrono::{DateTime, Duration, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;
use sync::{
    Action, Agreed, Answer, Day, Deletions, Direction, Field, File, Files, Importance, Item, Kind, KindRules, Link,
    NotHeld, Outcome, Owner, People, Person, Plan, Priority, Projection, Reason, Record, Role, Rules, Seen, Series,
    Side, Status, Value, Values, View, When, absorb, agree, decide, project,
};

pub const FUTURE: i64 = 1_800_000_000;
pub const PAST: i64 = 1_700_000_000;

#[derive(Debug, Clone)]
pub enum Edit {
    Set(Side, Field, Value),
    Invite(Side, String),
    Delete(Side),
}

/// Where a crash hits: the answer of the write, or what would have been remembered of it, is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    Never,
    BeforeTheWrite,
    AfterTheWrite,
}

#[derive(Debug, Clone)]
pub struct World {
    kind: Kind,
    now: DateTime<Utc>,
    pub record: Option<Record>,
    pub item: Option<Item>,
    pub link: Option<Link>,
    creations: usize,
    pub deletions: Deletions,
}

fn at(seconds: i64) -> DateTime<Utc> {
    Utc.timestamp_opt(seconds, 0).single().expect("a moment")
}

impl World {
    pub fn with_record(values: Values) -> Self {
        Self::of_kind(Kind::Meeting, values)
    }

    pub fn with_task(values: Values) -> Self {
        Self::of_kind(Kind::Task, values)
    }

    fn of_kind(kind: Kind, values: Values) -> Self {
        let now = at(1_790_000_000);
        let record = Record {
            id: "r1".into(),
            kind,
            owner: Some("anna".into()),
            switch: None,
            marker: None,
            modified: now,
            created: now,
            without_address: vec![],
            values,
        };
        Self { kind, now, record: Some(record), item: None, link: None, creations: 0, deletions: Deletions::default() }
    }

    fn tick(&mut self) -> DateTime<Utc> {
        self.now += Duration::seconds(2);
        self.now
    }

    pub fn pass_grace(&mut self) {
        self.now += Duration::seconds(60);
    }

    pub fn edit(&mut self, edit: &Edit) {
        let now = self.tick();
        let (record, item) = (self.record.as_mut(), self.item.as_mut());
        match edit {
            Edit::Delete(Side::Espo) => self.record = None,
            Edit::Delete(Side::Outlook) => self.item = None,
            Edit::Set(side, field, value) => {
                let set = |values: &mut Values, modified: &mut DateTime<Utc>| {
                    if values.contains_key(field) {
                        values.insert(field.clone(), value.clone());
                        *modified = now;
                    }
                };
                match (side, record, item) {
                    (Side::Espo, Some(record), _) => set(&mut record.values, &mut record.modified),
                    (Side::Outlook, _, Some(item)) => set(&mut item.values, &mut item.modified),
                    _ => {}
                }
            }
            Edit::Invite(side, address) => {
                let values = match (side, record, item) {
                    (Side::Espo, Some(record), _) => &mut record.values,
                    (Side::Outlook, _, Some(item)) => &mut item.values,
                    _ => return,
                };
                if let Some(Value::People(people)) = values.get_mut(&Field::Participants) {
                    people.0.insert(address.clone(), Person::default());
                }
            }
        }
    }

    pub fn plan(&self, rules: &Rules) -> Plan {
        self.look(rules, decide)
    }

    pub fn look<T>(&self, rules: &Rules, then: impl FnOnce(&View<'_>) -> T) -> T {
        let known = self.link.is_some();
        let owner = Owner {
            user: "anna".into(),
            address: "anna@contoso.example".into(),
            start_date: NaiveDate::from_ymd_opt(2020, 1, 1).expect("a date"),
            zone: Tz::UTC,
            active: true,
            taking_in: true,
        };
        let missing = |known: bool| known;
        let record = self.record.clone().map_or(if missing(known) { Seen::Gone } else { Seen::Unknown }, Seen::Present);
        let item = self.item.clone().map_or(if missing(known) { Seen::Gone } else { Seen::Unknown }, Seen::Present);
        let bound = BTreeSet::from(["anna@contoso.example".to_owned()]);
        then(&View {
            link: self.link.as_ref(),
            record: &record,
            item: &item,
            owner: Some(&owner),
            rules,
            switched_on: true,
            bound: &bound,
            deletions: self.deletions,
            grace: Duration::seconds(10),
            horizon: self.now + Duration::days(90),
            now: self.now,
        })
    }

    /// One look and its writes, as a worker does it: the intent is stored before a creation.
    pub fn reconcile(&mut self, rules: &Rules, crash: Crash) {
        self.tick();
        let plan = self.plan(rules);
        if self.link.is_none() {
            let creates =
                plan.steps.iter().any(|s| matches!(s.action, Action::CreateItem { .. } | Action::CreateRecord { .. }));
            if !creates {
                return;
            }
            self.link = Some(self.new_link());
        }
        if crash == Crash::BeforeTheWrite {
            return;
        }
        let outcomes: Vec<Outcome> = plan.steps.iter().map(|step| self.execute(&step.action)).collect();
        if crash == Crash::AfterTheWrite {
            return;
        }
        let link = self.link.clone().expect("a link");
        // The view is the one that was decided on; only its clock and link matter to absorb here.
        let link = self.look(rules, |view| absorb(link, view, &plan, &outcomes));
        self.link = Some(link);
    }

    fn new_link(&self) -> Link {
        let link = Link::intent("l1".into(), self.kind, "anna".into(), Side::Outlook, String::new(), self.now);
        Link { record_id: self.record.as_ref().map(|record| record.id.clone()), ..link }
    }

    pub fn execute(&mut self, action: &Action) -> Outcome {
        let (now, kind) = (self.tick(), self.kind);
        let put = |values: &mut Values, target: Side, action: &Action| {
            for (field, write) in action.writes().into_iter().flatten() {
                let shown = project(kind, field, &write.value, target, &Projection::default());
                // Exchange sets the answers itself.
                values.insert(field.clone(), shown);
            }
        };
        match action {
            Action::CreateItem { .. } => {
                self.creations += 1;
                let mut values = if kind == Kind::Task {
                    plain_task("")
                } else {
                    Values::from([
                        (Field::Title, Value::Text(String::new())),
                        (Field::Body, Value::Text(String::new())),
                        (Field::Status, Value::Status(Status::Active)),
                        (Field::Participants, Value::People(People::default())),
                    ])
                };
                put(&mut values, Side::Outlook, action);
                self.item = Some(Item { kind, ..item(format!("i{}", self.creations), now, values) });
                Outcome::Item(Box::new(self.item.clone().expect("an item")))
            }
            Action::UpdateItem { .. } => {
                let item = self.item.as_mut().expect("an item");
                let answers = item.values.get(&Field::Participants).cloned();
                put(&mut item.values, Side::Outlook, action);
                if let (Some(Value::People(old)), Some(Value::People(new))) =
                    (answers, item.values.get_mut(&Field::Participants))
                {
                    for (address, person) in &mut new.0 {
                        person.answer = old.0.get(address).map_or(Answer::None, |known| known.answer);
                    }
                }
                item.modified = now;
                Outcome::Item(Box::new(item.clone()))
            }
            Action::DeleteItem => {
                self.item = None;
                Outcome::Deleted
            }
            Action::CreateRecord { .. } => {
                self.creations += 1;
                let values = if kind == Kind::Task { plain_task("") } else { plain("", "") };
                let mut record = World::of_kind(kind, values).record.expect("a record");
                record.id = format!("r-new{}", self.creations);
                put(&mut record.values, Side::Espo, action);
                record.modified = now;
                self.record = Some(record);
                Outcome::Record(Box::new(self.record.clone().expect("a record")))
            }
            Action::UpdateRecord { .. } => {
                let record = self.record.as_mut().expect("a record");
                put(&mut record.values, Side::Espo, action);
                record.modified = now;
                Outcome::Record(Box::new(record.clone()))
            }
            Action::DeleteRecord => {
                self.record = None;
                Outcome::Deleted
            }
            Action::Respond { .. } => unreachable!("only the owner is bound in this world"),
        }
    }

    /// Looks until nothing is left to do, graces passed.
    pub fn settle(&mut self, rules: &Rules) {
        for _ in 0..6 {
            self.reconcile(rules, Crash::Never);
            self.pass_grace();
        }
    }

    pub fn link(&self) -> &Link {
        self.link.as_ref().expect("a link")
    }

    pub fn created(&self) -> usize {
        self.creations
    }

    pub fn is_empty(&self) -> bool {
        self.record.is_none() && self.item.is_none()
    }

    pub fn record_values(&self) -> Option<&Values> {
        self.record.as_ref().map(|record| &record.values)
    }

    pub fn item_values(&self) -> Option<&Values> {
        self.item.as_ref().map(|item| &item.values)
    }

    pub fn ends(&self) -> Option<(Values, Values)> {
        Some((self.record_values()?.clone(), self.item_values()?.clone()))
    }

    pub fn espo(&self, field: &Field) -> Option<&Value> {
        self.record_values()?.get(field)
    }

    pub fn outlook(&self, field: &Field) -> Option<&Value> {
        self.item_values()?.get(field)
    }

    /// The field is as it should be: the two sides agree, or the base says that they may differ as they do.
    pub fn agrees(&self, field: &Field, rules: &Rules) -> bool {
        let (Some(espo), Some(outlook)) = (self.espo(field), self.outlook(field)) else { return true };
        let pair = Agreed { espo: espo.clone(), outlook: outlook.clone() };
        agree(self.kind, field, espo, outlook, &Projection::new(Tz::UTC, rules))
            || self.link.as_ref().is_some_and(|link| link.base.get(field) == Some(&pair))
    }

    pub fn in_step(&self, rules: &Rules) -> bool {
        match (&self.record, &self.item) {
            (None, None) => true,
            (Some(record), Some(_)) => record.values.keys().all(|field| {
                // Answers given in EspoCRM wait for the participant's own mailbox.
                let people = *field == Field::Participants
                    && matches!((self.espo(field), self.outlook(field)), (Some(Value::People(a)), Some(Value::People(b))) if a.same_addresses(b));
                // An end before the start is not written.
                let wrong = *field == Field::Time && matches!(self.espo(field), Some(Value::Time(when)) if when.ends_before_it_starts());
                // Nothing uncancels an event.
                let status = *field == Field::Status && self.kind.is_event();
                people || wrong || status || self.agrees(field, rules)
            }),
            _ => false,
        }
    }
}

fn item(id: String, now: DateTime<Utc>, values: Values) -> Item {
    Item {
        id,
        user: "anna".into(),
        list: None,
        ical_uid: Some("uid".into()),
        etag: None,
        kind: Kind::Meeting,
        role: Role::Organizer,
        series: Series::Single,
        private: false,
        marker: Some("l1".into()),
        modified: now,
        created: now,
        own_answer: Answer::None,
        organizer_name: None,
        resources: vec![],
        body_is_rich: false,
        values,
    }
}

/// True when a reason is about a field, or about the whole pair.
pub fn names(reason: &Reason, field: &Field) -> bool {
    match reason {
        Reason::DirectionOff { field: Some(named), .. } | Reason::Conflict { field: named, .. } => named == field,
        Reason::Frozen { field: named } | Reason::CannotRead { field: named, .. } => named == field,
        Reason::AnswerNeedsOwnMailbox { .. } | Reason::AnswerKept { .. } | Reason::AttendeesLeftOut { .. } => {
            *field == Field::Participants
        }
        Reason::EndsBeforeItStarts => *field == Field::Time,
        Reason::Cancelled => *field == Field::Status,
        _ => false,
    }
}

pub fn plain_task(title: &str) -> Values {
    Values::from([
        (Field::Title, Value::Text(title.to_owned())),
        (Field::Body, Value::Text(String::new())),
        (Field::Time, Value::Time(When::Due { due: None, start: None })),
        (Field::Status, Value::Status(Status::NotStarted)),
        (Field::Importance, Value::Importance(Importance::Normal)),
        (Field::Attachments, Value::Files(Files::default())),
    ])
}

pub fn plain(title: &str, body: &str) -> Values {
    Values::from([
        (Field::Title, Value::Text(title.to_owned())),
        (Field::Body, Value::Text(body.to_owned())),
        (Field::Time, Value::Time(When::Timed { start: at(FUTURE), end: Some(at(FUTURE + 3600)) })),
        (Field::Status, Value::Status(Status::Planned)),
        (Field::Participants, Value::People(People::default())),
    ])
}

pub fn with_people(address: &str, start: i64) -> Values {
    let mut values = plain("visit", "");
    values.insert(Field::Participants, Value::People(People::of([address])));
    values.insert(Field::Time, Value::Time(When::Timed { start: at(start), end: Some(at(start + 3600)) }));
    values
}

pub fn mirrored(rules: &Rules) -> Rules {
    let direction = match rules.meeting.direction {
        Direction::EspoToOutlook => Direction::OutlookToEspo,
        Direction::OutlookToEspo => Direction::EspoToOutlook,
        other => other,
    };
    let priority = match rules.meeting.priority {
        Priority::Espo => Priority::Outlook,
        Priority::Outlook => Priority::Espo,
        Priority::Newest => Priority::Newest,
    };
    Rules { meeting: KindRules { direction, priority }, ..rules.clone() }
}

pub fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Espo), Just(Side::Outlook)]
}

pub fn priority() -> impl Strategy<Value = Priority> {
    prop_oneof![Just(Priority::Espo), Just(Priority::Outlook), Just(Priority::Newest)]
}

pub fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![
        Just(Direction::Both),
        Just(Direction::EspoToOutlook),
        Just(Direction::OutlookToEspo),
        Just(Direction::Disabled)
    ]
}

pub fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![Just(Crash::Never), Just(Crash::BeforeTheWrite), Just(Crash::AfterTheWrite)]
}

pub fn rules() -> impl Strategy<Value = Rules> {
    (direction(), priority(), any::<bool>()).prop_map(|(direction, priority, invite)| Rules {
        meeting: KindRules { direction, priority },
        task: KindRules { direction, priority },
        attendees: if invite { sync::Attendees::Invite } else { sync::Attendees::None },
        not_held: NotHeld::Keep,
        ..Rules::default()
    })
}

/// Text with the characters that have made trouble: markup, entities, blanks in a row, line ends, other scripts.
pub fn body() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            4 => "[a-zA-Z0-9.,]{1,8}", 1 => Just(" ".to_owned()), 1 => Just("  ".to_owned()), 1 => Just("\n".to_owned()),
            1 => Just("\r\n".to_owned()), 1 => Just("<b>&amp;".to_owned()), 1 => Just("& < > \"".to_owned()), 1 => Just("ü é 漢字".to_owned()),
            1 => Just("*x* _y_ [z](w)".to_owned()), 1 => Just("\u{a0}".to_owned()), 1 => Just("\0".to_owned()),
        ],
        0..8,
    )
    .prop_map(|parts| parts.concat())
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        (0..400_i64, proptest::option::of(-1..9_i64)).prop_map(|(day, hours)| {
            let start = at(FUTURE + day * 3600);
            When::Timed { start, end: hours.map(|hours| start + Duration::hours(hours)) }
        }),
        (0..400_u64, 0..4_u64).prop_map(|(day, length)| {
            let first = NaiveDate::from_ymd_opt(2027, 1, 1).expect("a date") + chrono::Days::new(day);
            When::AllDay { first, last: first + chrono::Days::new(length) }
        }),
    ]
}

fn people() -> impl Strategy<Value = People> {
    let answer =
        prop_oneof![Just(Answer::None), Just(Answer::Accepted), Just(Answer::Tentative), Just(Answer::Declined)];
    proptest::collection::btree_map("[a-d]@x\\.example", answer, 0..4).prop_map(|map| {
        People(map.into_iter().map(|(address, answer)| (address, Person { name: None, answer })).collect())
    })
}

fn status(side: Side) -> impl Strategy<Value = Status> {
    match side {
        Side::Espo => prop_oneof![Just(Status::Planned), Just(Status::Held), Just(Status::NotHeld)].boxed(),
        Side::Outlook => prop_oneof![3 => Just(Status::Active), 1 => Just(Status::Cancelled)].boxed(),
    }
}

pub fn values(side: Side) -> impl Strategy<Value = Values> {
    (".{0,20}", body(), when(), status(side), people(), proptest::option::of(0..90_u32)).prop_map(
        move |(title, body, time, status, people, reminder)| {
            let title =
                if side == Side::Espo { sync::text::espo_name(&title) } else { sync::text::outlook_subject(&title) };
            Values::from([
                (Field::Title, Value::Text(title)),
                (Field::Body, Value::Text(sync::text::plain(&body))),
                (
                    Field::Time,
                    Value::Time(if time.ends_before_it_starts() {
                        When::Timed { start: at(FUTURE), end: None }
                    } else {
                        time
                    }),
                ),
                (Field::Status, Value::Status(status)),
                (Field::Participants, Value::People(people)),
                (Field::Reminder, Value::Reminder(reminder)),
            ])
        },
    )
}

fn due(side: Side) -> impl Strategy<Value = Option<Day>> {
    let on = (0..400_u64)
        .prop_map(|day| Day::On(NaiveDate::from_ymd_opt(2027, 1, 1).expect("a date") + chrono::Days::new(day)));
    let day = match side {
        Side::Espo => prop_oneof![on, (0..9000_i64).prop_map(|hour| Day::At(at(FUTURE + hour * 3600)))].boxed(),
        Side::Outlook => on.boxed(),
    };
    proptest::option::of(day)
}

/// Few names and few contents, so that the same file, another one of its name, and it under another name are met.
pub fn files() -> impl Strategy<Value = Files> {
    proptest::collection::vec(("[ab]\\.txt", "[123]", "[0-9]{1,3}"), 0..4).prop_map(|files| {
        let file = |(name, hash, id): (String, String, String)| File { name, hash, size: 1, ids: BTreeSet::from([id]) };
        files.into_iter().map(file).collect()
    })
}

fn task_status(side: Side) -> impl Strategy<Value = Status> {
    let own = match side {
        Side::Espo => Status::Canceled,
        Side::Outlook => Status::Waiting,
    };
    prop_oneof![
        Just(Status::NotStarted),
        Just(Status::Started),
        Just(Status::Completed),
        Just(Status::Deferred),
        Just(own)
    ]
}

fn importance(side: Side) -> impl Strategy<Value = Importance> {
    let highest = if side == Side::Espo { Importance::Urgent } else { Importance::High };
    prop_oneof![Just(Importance::Low), Just(Importance::Normal), Just(Importance::High), Just(highest)]
}

pub fn task_values(side: Side) -> impl Strategy<Value = Values> {
    (".{0,20}", body(), (due(side), due(side)), task_status(side), importance(side), files()).prop_map(
        move |(title, body, (due, start), status, importance, files)| {
            let title =
                if side == Side::Espo { sync::text::espo_name(&title) } else { sync::text::outlook_subject(&title) };
            Values::from([
                (Field::Title, Value::Text(title)),
                (Field::Body, Value::Text(sync::text::plain(&body))),
                (Field::Time, Value::Time(When::Due { due, start })),
                (Field::Status, Value::Status(status)),
                (Field::Importance, Value::Importance(importance)),
                (Field::Attachments, Value::Files(files)),
            ])
        },
    )
}

/// Edits of tasks that a person can make on a side.
pub fn task_edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let set = side().prop_flat_map(|side| {
        task_values(side).prop_flat_map(move |values| {
            let pairs: Vec<(Field, Value)> = values.into_iter().collect();
            (0..pairs.len()).prop_map(move |index| Edit::Set(side, pairs[index].0.clone(), pairs[index].1.clone()))
        })
    });
    let of_files = (side(), files()).prop_map(|(side, files)| Edit::Set(side, Field::Attachments, Value::Files(files)));
    let one = prop_oneof![9 => set, 4 => of_files, 1 => side().prop_map(Edit::Delete)];
    proptest::collection::vec(one, 1..=most)
}

/// Edits that a person can make on a side: values as that side holds them.
pub fn edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let set = side().prop_flat_map(|side| {
        values(side).prop_flat_map(move |values| {
            let pairs: Vec<(Field, Value)> = values.into_iter().collect();
            (0..pairs.len()).prop_map(move |index| Edit::Set(side, pairs[index].0.clone(), pairs[index].1.clone()))
        })
    });
    let one = prop_oneof![
        12 => set,
        1 => side().prop_map(Edit::Delete),
        2 => (side(), "[a-d]@x\\.example").prop_map(|(side, address)| Edit::Invite(side, address)),
    ];
    proptest::collection::vec(one, 1..=most)
}
