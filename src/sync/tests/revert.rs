//! Taking changes back: what was changed is as it was, on both sides, and nothing travels afterwards.

#![expect(clippy::expect_used, reason = "a test that cannot build its world has failed")]

#[expect(dead_code, reason = "the laws use the rest of it")]
mod world;

use proptest::prelude::*;
use sync::{
    Action, Direction, Field, Importance, Kind, KindRules, Obstacle, Outcome, People, Priority, Projection, Rules,
    Side, Status, Undo, Value, Values, absorb, project, revert_create, revert_update, revived,
};
use world::{Edit, World, edits, plain, rules, side, values};

fn config() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let usual = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if asked { usual } else { ProptestConfig { cases: 1500, ..usual } }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn in_step(values: Values) -> World {
    let mut world = World::with_record(values);
    world.settle(&Rules::default());
    world
}

/// A step of a plan as history keeps it.
#[derive(Debug, Clone)]
struct Entry {
    written: Side,
    undo: Vec<Undo>,
}

/// Looks once and writes what is to be written. The entries of the updates, the newest last.
fn synchronise(world: &mut World, rules: &Rules) -> Vec<Entry> {
    let plan = world.plan(rules);
    carry_out(world, rules, &plan)
}

fn carry_out(world: &mut World, rules: &Rules, plan: &sync::Plan) -> Vec<Entry> {
    let before = world.link().clone();
    let outcomes: Vec<Outcome> = plan.steps.iter().map(|step| world.execute(&step.action)).collect();
    let link = world.look(rules, |view| absorb(before.clone(), view, plan, &outcomes));
    world.link = Some(link);
    let entry = |(step, outcome): (&sync::Step, &Outcome)| {
        let shown = match outcome {
            Outcome::Record(record) => &record.values,
            Outcome::Item(item) => &item.values,
            _ => return None,
        };
        let written = step.action.side();
        let undo = |(field, write): (&Field, &sync::Write)| Undo {
            field: field.clone(),
            old: write.old.clone(),
            new: shown.get(field).cloned(),
            other: before.base.get(field).map(|agreed| agreed.on(written.other()).clone()),
        };
        let is_update = matches!(step.action, Action::UpdateItem { .. } | Action::UpdateRecord { .. });
        is_update.then(|| Entry { written, undo: step.action.writes().into_iter().flatten().map(undo).collect() })
    };
    plan.steps.iter().zip(&outcomes).filter_map(entry).collect()
}

fn take_back(world: &mut World, rules: &Rules, entry: &Entry, force: bool) -> Result<Vec<Entry>, Obstacle> {
    let plan = world.look(rules, |view| revert_update(view, entry.written, &entry.undo, force))?;
    Ok(carry_out(world, rules, &plan))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_taken_back_does_not_travel(espo in values(Side::Espo), edits in edits(3), rules in rules()) {
        let mut world = in_step(espo);
        let mut entries = Vec::new();
        for edit in edits.iter().filter(|edit| !matches!(edit, Edit::Delete(_))) {
            world.edit(edit);
            entries.extend(synchronise(&mut world, &rules));
        }
        for entry in entries.iter().rev() {
            let before = (world.record_values().cloned(), world.item_values().cloned());
            let idle = world.plan(&rules).steps.is_empty();
            match take_back(&mut world, &rules, entry, true) {
                Ok(_) => {}
                Err(Obstacle::NothingToDo) => prop_assert_eq!(before, (world.record_values().cloned(), world.item_values().cloned())),
                Err(other) => prop_assert!(false, "{other}"),
            }
            let plan = world.plan(&rules);
            prop_assert!(!idle || plan.steps.is_empty(), "{entry:?} comes back: {plan:?}");
        }
    }

    #[test]
    fn both_sides_are_as_they_were(espo in values(Side::Espo), edit in edits(1), priority in world::priority()) {
        let rules = Rules { meeting: KindRules { direction: Direction::Both, priority }, ..Rules::default() };
        let mut world = in_step(espo);
        let before = world.ends().expect("both ends");
        prop_assume!(!matches!(edit.first(), Some(Edit::Delete(_))));
        edit.iter().for_each(|edit| world.edit(edit));
        for entry in synchronise(&mut world, &rules) {
            let new = take_back(&mut world, &rules, &entry, false);
            prop_assert!(!matches!(new, Err(Obstacle::ChangedSince { .. } | Obstacle::Gone(_))), "{new:?}");
            // Nothing uncancels an event, and nobody is invited to or taken off what is over.
            for one in entry.undo.iter().filter(|one| !matches!(one.field, Field::Status | Field::Participants)) {
                prop_assert_eq!(world.espo(&one.field), before.0.get(&one.field));
                prop_assert_eq!(world.outlook(&one.field), before.1.get(&one.field));
            }
        }
    }

    #[test]
    fn a_revert_can_be_taken_back(
        title in "[a-z]{1,9}", new in "[A-Z]{1,9}", side in side(), priority in world::priority(),
    ) {
        let rules = Rules { meeting: KindRules { direction: Direction::Both, priority }, ..Rules::default() };
        let mut world = in_step(plain(&title, ""));
        world.edit(&Edit::Set(side, Field::Title, text(&new)));
        let entries = synchronise(&mut world, &rules);
        let reverts = take_back(&mut world, &rules, &entries[0], false).expect("it is as it was written");
        prop_assert_eq!(reverts.len(), 2, "both sides are written");
        prop_assert_eq!(reverts[0].written, entries[0].written, "the written side first");
        take_back(&mut world, &rules, &reverts[0], false).expect("it is as it was written");
        prop_assert_eq!(world.espo(&Field::Title), Some(&text(&new)));
        prop_assert_eq!(world.outlook(&Field::Title), Some(&text(&new)));
        prop_assert_eq!(take_back(&mut world, &rules, &reverts[0], false).expect_err("done"), Obstacle::NothingToDo);
    }

    #[test]
    fn what_was_changed_since_is_refused_unless_forced(
        title in "[a-z]{1,9}", new in "[A-Z]{1,9}", since in "[0-9]{1,9}", side in side(), later in side(),
    ) {
        let rules = Rules::default();
        let mut world = in_step(plain(&title, ""));
        world.edit(&Edit::Set(side, Field::Title, text(&new)));
        let entries = synchronise(&mut world, &rules);
        world.edit(&Edit::Set(later, Field::Title, text(&since)));
        synchronise(&mut world, &rules);
        let refusal = take_back(&mut world, &rules, &entries[0], false).expect_err("it was changed");
        prop_assert_eq!(refusal, Obstacle::ChangedSince { side: side.other(), fields: vec![Field::Title] });
        prop_assert_eq!(world.espo(&Field::Title), Some(&text(&since)), "a refusal changes nothing");
        take_back(&mut world, &rules, &entries[0], true).expect("it is forced");
        prop_assert_eq!(world.espo(&Field::Title), Some(&text(&title)));
        prop_assert_eq!(world.outlook(&Field::Title), Some(&text(&title)));
        prop_assert!(world.plan(&rules).steps.is_empty());
    }
}

#[test]
fn a_conflict_that_is_taken_back_brings_the_lost_value_to_both_sides() {
    let rules =
        Rules { meeting: KindRules { direction: Direction::Both, priority: Priority::Outlook }, ..Rules::default() };
    let mut world = in_step(plain("agreed", ""));
    world.edit(&Edit::Set(Side::Espo, Field::Title, text("lost")));
    world.edit(&Edit::Set(Side::Outlook, Field::Title, text("won")));
    let entries = synchronise(&mut world, &rules);
    assert_eq!(world.espo(&Field::Title), Some(&text("won")));
    take_back(&mut world, &rules, &entries[0], false).expect("it is as it was written");
    assert_eq!((world.espo(&Field::Title), world.outlook(&Field::Title)), (Some(&text("lost")), Some(&text("lost"))));
    assert!(world.plan(&rules).steps.is_empty());
}

#[test]
fn a_one_way_source_is_not_written() {
    let rules = Rules {
        meeting: KindRules { direction: Direction::EspoToOutlook, priority: Priority::Newest },
        ..Rules::default()
    };
    let mut world = in_step(plain("right", ""));
    world.edit(&Edit::Set(Side::Espo, Field::Title, text("wrong")));
    let entries = synchronise(&mut world, &rules);
    take_back(&mut world, &rules, &entries[0], false).expect("it is as it was written");
    assert_eq!((world.espo(&Field::Title), world.outlook(&Field::Title)), (Some(&text("wrong")), Some(&text("right"))));
    assert!(world.plan(&rules).steps.is_empty(), "the next edit of the source travels, not this one");
    assert!(world.plan(&Rules::default()).steps.is_empty(), "nor does it when both ways are allowed");
}

#[test]
fn what_an_interrupted_revert_left_is_finished_by_the_next() {
    let rules = Rules::default();
    let mut world = in_step(plain("right", ""));
    world.edit(&Edit::Set(Side::Espo, Field::Title, text("wrong")));
    let entries = synchronise(&mut world, &rules);
    let entry = &entries[0];
    let plan = world.look(&rules, |view| revert_update(view, entry.written, &entry.undo, false)).expect("a plan");
    world.execute(&plan.steps[0].action);
    take_back(&mut world, &rules, entry, false).expect("half of it is left");
    assert_eq!((world.espo(&Field::Title), world.outlook(&Field::Title)), (Some(&text("right")), Some(&text("right"))));
    assert!(world.plan(&rules).steps.is_empty());
}

#[test]
fn an_end_that_is_gone_is_named() {
    let mut world = in_step(plain("right", ""));
    world.edit(&Edit::Set(Side::Espo, Field::Title, text("wrong")));
    let entries = synchronise(&mut world, &Rules::default());
    world.edit(&Edit::Delete(Side::Outlook));
    let refusal = take_back(&mut world, &Rules::default(), &entries[0], true).expect_err("the item is gone");
    assert_eq!(refusal, Obstacle::Gone(Side::Outlook));
}

#[test]
fn what_was_created_is_deleted_only_as_it_was_created() {
    let undo = vec![
        Undo { field: Field::Title, old: None, new: Some(text("made")), other: None },
        Undo { field: Field::Reminder, old: None, new: Some(Value::Reminder(None)), other: None },
        Undo {
            field: Field::Participants,
            old: None,
            new: Some(Value::People(People::of(["a@x.example"]))),
            other: None,
        },
    ];
    let mut now = plain("made", "");
    let mut people = People::of(["a@x.example"]);
    people.0.values_mut().for_each(|person| person.answer = sync::Answer::Accepted);
    now.insert(Field::Participants, Value::People(people));
    now.insert(Field::Reminder, Value::Reminder(Some(15)));
    let plan = revert_create(&[(Side::Outlook, &now, &undo)], false).expect("answers and reminders are no edits");
    assert_eq!(plan.steps.iter().map(|step| &step.action).collect::<Vec<_>>(), [&Action::DeleteItem]);
    now.insert(Field::Title, text("edited"));
    let refusal = revert_create(&[(Side::Outlook, &now, &undo)], false).expect_err("the title was edited");
    assert_eq!(refusal, Obstacle::ChangedSince { side: Side::Outlook, fields: vec![Field::Title] });
    assert!(revert_create(&[(Side::Outlook, &now, &undo)], true).is_ok());
}

#[test]
fn a_record_comes_back_as_its_own_side_had_it() {
    let undo = vec![
        Undo {
            field: Field::Importance,
            old: Some(Value::Importance(Importance::High)),
            new: None,
            other: Some(Value::Importance(Importance::Urgent)),
        },
        Undo { field: Field::Status, old: Some(Value::Status(Status::Waiting)), new: None, other: None },
    ];
    let with = Projection::default();
    let writes = revived(Kind::Task, Side::Outlook, &undo, &with);
    let value = |field| &writes.get(field).expect("a write").value;
    assert_eq!(
        value(&Field::Importance),
        &Value::Importance(Importance::Urgent),
        "richer than what Outlook could tell"
    );
    let status = project(Kind::Task, &Field::Status, &Value::Status(Status::Waiting), Side::Espo, &with);
    assert_eq!(value(&Field::Status), &status);
}
