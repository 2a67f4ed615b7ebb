//! The laws of the core, one property each. A world is a record, an item and the link between them; the remote systems are
//! played by applying a plan's writes to the two ends.

#![expect(clippy::expect_used, reason = "a test that cannot build its world has failed")]

mod world;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use sync::{
    Action, Attendees, Direction, Field, Kind, KindRules, Priority, Projection, Reason, Rules, Side, Value, Verdict,
    project,
};
use world::{Crash, Edit, World, edits, rules, task_edits, task_values, values};

/// In an ordinary run; `PROPTEST_CASES` asks for another number, for a soak.
const CASES: u32 = 2000;

fn config() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let usual = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if asked { usual } else { ProptestConfig { cases: CASES, ..usual } }
}

fn both_ways() -> Rules {
    Rules::default()
}

/// Edits and deletions, each looked at or not, lead to one state, and a further look is idle.
fn converges(mut world: World, edits: &[Edit], looks: &[bool]) -> Result<(), TestCaseError> {
    let rules = both_ways();
    world.settle(&rules);
    for (edit, look) in edits.iter().zip(looks) {
        world.edit(edit);
        if *look {
            world.reconcile(&rules, Crash::Never);
        }
    }
    world.settle(&rules);
    prop_assert!(world.in_step(&rules), "{world:#?}");
    prop_assert!(world.plan(&rules).is_idle());
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    /// Law 1.
    #[test]
    fn nothing_changed_means_nothing_to_do(espo in values(Side::Espo), rules in rules()) {
        let mut world = World::with_record(espo);
        world.settle(&both_ways());
        let plan = world.plan(&rules);
        prop_assert!(plan.steps.is_empty(), "{plan:?}");
    }

    /// Law 2.
    #[test]
    fn our_own_write_is_not_a_change(espo in values(Side::Espo), edits in edits(4), rules in rules()) {
        let mut world = World::with_record(espo);
        world.settle(&both_ways());
        for edit in edits {
            world.edit(&edit);
            world.reconcile(&rules, Crash::Never);
            let again = world.plan(&rules);
            prop_assert!(again.steps.is_empty(), "{edit:?} comes back: {again:?}");
        }
    }

    /// Law 3: what one side may do, the other may, for values that look the same on both.
    #[test]
    fn mirrored_worlds_get_mirrored_plans(
        title in "[a-z]{1,12}", body in "[a-z]{0,12}", new_title in proptest::option::of("[A-Z]{1,12}"),
        new_body in proptest::option::of("[A-Z]{1,12}"), rules in rules(),
    ) {
        let mut rules = rules;
        rules.not_held = sync::NotHeld::Keep;
        let plan_of = |side: Side, rules: &Rules| {
            let mut world = World::with_record(world::plain(&title, &body));
            world.settle(&both_ways());
            for (field, new) in [(Field::Title, &new_title), (Field::Body, &new_body)] {
                if let Some(new) = new {
                    world.edit(&Edit::Set(side, field, Value::Text(new.clone())));
                }
            }
            let plan = world.plan(rules);
            plan.steps.iter().map(|step| (step.action.side(), step.action.writes().cloned())).collect::<Vec<_>>()
        };
        let from_espo = plan_of(Side::Espo, &rules);
        let from_outlook = plan_of(Side::Outlook, &world::mirrored(&rules));
        let flipped: Vec<_> = from_outlook.into_iter().map(|(side, writes)| (side.other(), writes)).collect();
        prop_assert_eq!(from_espo, flipped);
    }

    /// Law 4: an edit lands, or a reason names it, or it is kept as the loser of a conflict.
    #[test]
    fn no_edit_is_lost_in_silence(espo in values(Side::Espo), edits in edits(5), rules in rules()) {
        let mut world = World::with_record(espo);
        world.settle(&both_ways());
        let before = world.clone();
        for edit in &edits {
            world.edit(edit);
        }
        let Some((record, item)) = world.ends() else { return Ok(()); };
        let changed: Vec<(Side, Field)> = record.iter().filter(|(f, v)| before.espo(f) != Some(*v)).map(|(f, _)| (Side::Espo, f.clone()))
            .chain(item.iter().filter(|(f, v)| before.outlook(f) != Some(*v)).map(|(f, _)| (Side::Outlook, f.clone()))).collect();
        let plan = world.plan(&rules);
        world.reconcile(&rules, Crash::Never);
        let excluded = matches!(plan.verdict, Verdict::LeaveAlone(_));
        for (side, field) in changed {
            let agreed = world.agrees(&field, &rules);
            let named = plan.notes.iter().any(|note| world::names(note, &field));
            prop_assert!(agreed || named || excluded, "{field} changed in {side:?}; {plan:?}");
        }
    }

    /// Law 5.
    #[test]
    fn priority_decides_conflicts_and_nothing_else(espo in values(Side::Espo), edit in edits(1), rules in rules()) {
        let mut world = World::with_record(espo);
        world.settle(&both_ways());
        for edit in &edit {
            world.edit(edit);
        }
        let plans: Vec<_> = [Priority::Espo, Priority::Outlook, Priority::Newest].into_iter().map(|priority| {
            let mut rules = rules.clone();
            rules.meeting.priority = priority;
            world.plan(&rules).steps
        }).collect();
        prop_assert_eq!(&plans[0], &plans[1]);
        prop_assert_eq!(&plans[1], &plans[2]);
    }

    /// Law 5, the other half: with both sides changed, the side with priority is what both show in the end.
    #[test]
    fn a_conflict_ends_as_the_priority_says(a in "[a-z]{1,9}", b in "[A-Z]{1,9}", c in "[0-9]{1,9}", outlook_first in any::<bool>(), priority in world::priority()) {
        let rules = Rules { meeting: KindRules { direction: Direction::Both, priority }, ..Rules::default() };
        let mut world = World::with_record(world::plain(&a, ""));
        world.settle(&rules);
        let mut two = vec![Edit::Set(Side::Espo, Field::Title, Value::Text(b.clone())), Edit::Set(Side::Outlook, Field::Title, Value::Text(c.clone()))];
        if outlook_first { two.reverse(); }
        for edit in &two { world.edit(edit); }
        world.settle(&rules);
        let expected = match priority {
            Priority::Espo => &b,
            Priority::Outlook => &c,
            Priority::Newest => if outlook_first { &b } else { &c },
        };
        prop_assert_eq!(world.espo(&Field::Title), Some(&Value::Text(expected.clone())));
        prop_assert_eq!(world.outlook(&Field::Title), Some(&Value::Text(expected.clone())));
    }

    /// Law 5: an echo resurrects nothing.
    #[test]
    fn a_tombstone_is_never_resurrected(espo in values(Side::Espo), from in world::side(), rules in rules()) {
        let mut world = World::with_record(espo);
        world.settle(&both_ways());
        world.edit(&Edit::Delete(from));
        world.settle(&both_ways());
        prop_assert!(world.ends().is_none() && world.is_empty());
        prop_assert!(world.link().is_buried());
        prop_assert!(world.plan(&rules).steps.is_empty());
    }

    /// Law 6, in the core: any edits and deletions, looked at or not in between, converge, and a further look is idle.
    #[test]
    fn any_interleaving_converges(espo in values(Side::Espo), edits in edits(8), looks in proptest::collection::vec(any::<bool>(), 8)) {
        converges(World::with_record(espo), &edits, &looks)?;
    }

    /// Law 7, in the core: a crash before or after any write loses nothing and doubles nothing.
    #[test]
    fn a_crash_after_any_action_loses_and_doubles_nothing(espo in values(Side::Espo), edits in edits(6), crashes in proptest::collection::vec(world::crash(), 6)) {
        let rules = both_ways();
        let mut calm = World::with_record(espo);
        let mut rough = calm.clone();
        rough.reconcile(&rules, Crash::AfterTheWrite);
        calm.settle(&rules);
        rough.settle(&rules);
        for (edit, crash) in edits.iter().zip(crashes) {
            calm.edit(edit);
            rough.edit(edit);
            rough.reconcile(&rules, crash);
            calm.settle(&rules);
            rough.settle(&rules);
        }
        prop_assert_eq!(rough.created(), calm.created());
        prop_assert_eq!(rough.ends(), calm.ends());
    }

    /// Law 9.
    #[test]
    fn a_direction_that_is_off_means_hands_off(espo in values(Side::Espo), edits in edits(5), direction in world::direction()) {
        let mut rules = Rules::default();
        let mut world = World::with_record(espo);
        world.settle(&rules);
        rules.meeting.direction = direction;
        for edit in &edits { world.edit(edit); }
        let before = world.clone();
        world.settle(&rules);
        if !direction.allows_to(Side::Espo) { prop_assert_eq!(world.record_values(), before.record_values()); }
        if !direction.allows_to(Side::Outlook) { prop_assert_eq!(world.item_values(), before.item_values()); }
    }

    /// Law 10: put then get changes nothing.
    #[test]
    fn projecting_twice_is_projecting_once(espo in values(Side::Espo), outlook in values(Side::Outlook)) {
        let with = Projection::default();
        for kind in [Kind::Meeting, Kind::Call] {
            for (field, value) in espo.iter().chain(outlook.iter()) {
                for side in [Side::Espo, Side::Outlook] {
                    let once = project(kind, field, value, side, &with);
                    prop_assert_eq!(&project(kind, field, &once, side, &with), &once);
                }
            }
        }
    }

    /// Law 2, for tasks.
    #[test]
    fn our_own_write_of_a_task_is_not_a_change(espo in task_values(Side::Espo), edits in task_edits(4), rules in rules()) {
        let mut world = World::with_task(espo);
        world.settle(&both_ways());
        for edit in edits {
            world.edit(&edit);
            world.reconcile(&rules, Crash::Never);
            let again = world.plan(&rules);
            prop_assert!(again.steps.is_empty(), "{edit:?} comes back: {again:?}");
        }
    }

    /// Law 4, for tasks.
    #[test]
    fn no_edit_of_a_task_is_lost_in_silence(espo in task_values(Side::Espo), edits in task_edits(5), rules in rules()) {
        let mut world = World::with_task(espo);
        world.settle(&both_ways());
        let before = world.clone();
        for edit in &edits {
            world.edit(edit);
        }
        let Some((record, item)) = world.ends() else { return Ok(()); };
        let changed: Vec<Field> = record.iter().filter(|(f, v)| before.espo(f) != Some(*v))
            .chain(item.iter().filter(|(f, v)| before.outlook(f) != Some(*v))).map(|(f, _)| f.clone()).collect();
        let plan = world.plan(&rules);
        world.reconcile(&rules, Crash::Never);
        let excluded = matches!(plan.verdict, Verdict::LeaveAlone(_));
        for field in changed {
            let named = plan.notes.iter().any(|note| world::names(note, &field));
            prop_assert!(world.agrees(&field, &rules) || named || excluded, "{field} changed; {plan:?}");
        }
    }

    /// Law 4, for files: whatever was added on one side is on both in the end, and what was removed on one is on neither.
    #[test]
    fn files_are_merged_one_by_one(before in world::files(), espo in world::files(), outlook in world::files(), rules in rules()) {
        let mut values = world::plain_task("files");
        values.insert(Field::Attachments, Value::Files(before.clone()));
        let mut world = World::with_task(values);
        world.settle(&both_ways());
        world.edit(&Edit::Set(Side::Espo, Field::Attachments, Value::Files(espo.clone())));
        world.edit(&Edit::Set(Side::Outlook, Field::Attachments, Value::Files(outlook.clone())));
        world.settle(&rules);
        let of = |value: Option<&Value>| value.and_then(Value::as_files).cloned().unwrap_or_default();
        let (in_espo, in_outlook) = (of(world.espo(&Field::Attachments)), of(world.outlook(&Field::Attachments)));
        if rules.task.direction != Direction::Both {
            return Ok(());
        }
        prop_assert_eq!(&in_espo, &in_outlook);
        for file in before.iter().chain(espo.iter()).chain(outlook.iter()) {
            let removed = before.get(file).is_some() && (espo.get(file).is_none() || outlook.get(file).is_none());
            prop_assert_eq!(in_espo.get(file).is_some(), !removed, "{:?}", file);
        }
    }

    /// Law 6, in the core, for tasks.
    #[test]
    fn any_interleaving_of_edits_of_a_task_converges(espo in task_values(Side::Espo), edits in task_edits(8), looks in proptest::collection::vec(any::<bool>(), 8)) {
        converges(World::with_task(espo), &edits, &looks)?;
    }

    /// Law 9, for tasks.
    #[test]
    fn a_direction_that_is_off_means_hands_off_tasks(espo in task_values(Side::Espo), edits in task_edits(5), direction in world::direction()) {
        let mut rules = Rules::default();
        let mut world = World::with_task(espo);
        world.settle(&rules);
        rules.task.direction = direction;
        for edit in &edits { world.edit(edit); }
        let before = world.clone();
        world.settle(&rules);
        if !direction.allows_to(Side::Espo) { prop_assert_eq!(world.record_values(), before.record_values()); }
        if !direction.allows_to(Side::Outlook) { prop_assert_eq!(world.item_values(), before.item_values()); }
    }

    /// Law 10, for tasks.
    #[test]
    fn projecting_a_task_twice_is_projecting_it_once(espo in task_values(Side::Espo), outlook in task_values(Side::Outlook)) {
        let with = Projection { zone: chrono_tz::Tz::Pacific__Kiritimati, ..Projection::default() };
        for (field, value) in espo.iter().chain(outlook.iter()) {
            for side in [Side::Espo, Side::Outlook] {
                let once = project(Kind::Task, field, value, side, &with);
                prop_assert_eq!(&project(Kind::Task, field, &once, side, &with), &once);
            }
        }
    }

    /// Law 10, for text: out as HTML and back is the same text.
    #[test]
    fn a_body_that_went_out_as_html_comes_back_unchanged(body in world::body()) {
        let plain = sync::text::plain(&body);
        prop_assert_eq!(sync::text::from_html(&sync::text::to_html(&plain)), plain);
    }

    /// A name is always one that EspoCRM accepts.
    #[test]
    fn a_projected_title_is_one_that_espocrm_accepts(title in ".{0,400}") {
        let name = sync::text::espo_name(&title);
        prop_assert!(!name.is_empty() && name.chars().count() <= 255 && !name.contains(['<', '>', '=']));
    }
}

#[test]
fn nobody_is_invited_to_what_is_over_or_where_the_rule_says_none() {
    let mut rules = Rules::default();
    let mut past = World::with_record(world::with_people("boris@contoso.example", world::PAST));
    past.settle(&rules);
    assert!(past.outlook(&Field::Participants).is_none_or(|v| v.as_people().is_some_and(|p| p.0.is_empty())));
    rules.attendees = Attendees::None;
    let mut none = World::with_record(world::with_people("boris@contoso.example", world::FUTURE));
    none.settle(&rules);
    assert!(none.outlook(&Field::Participants).is_none_or(|v| v.as_people().is_some_and(|p| p.0.is_empty())));
    let mut invited = World::with_record(world::with_people("boris@contoso.example", world::FUTURE));
    invited.settle(&Rules::default());
    assert!(invited.outlook(&Field::Participants).is_some_and(|v| v.as_people().is_some_and(|p| p.0.len() == 1)));
}

#[test]
fn people_added_on_both_sides_at_once_are_both_there_in_the_end() {
    let rules = Rules::default();
    let mut world = World::with_record(world::with_people("boris@contoso.example", world::FUTURE));
    world.settle(&rules);
    world.edit(&Edit::Invite(Side::Espo, "carla@contoso.example".to_owned()));
    world.edit(&Edit::Invite(Side::Outlook, "dora@partner.example".to_owned()));
    world.settle(&rules);
    let addresses =
        |value: Option<&Value>| value.and_then(Value::as_people).map(|p| p.0.keys().cloned().collect::<Vec<_>>());
    let all = Some(vec![
        "boris@contoso.example".to_owned(),
        "carla@contoso.example".to_owned(),
        "dora@partner.example".to_owned(),
    ]);
    assert_eq!(addresses(world.espo(&Field::Participants)), all);
    assert_eq!(addresses(world.outlook(&Field::Participants)), all);
}

#[test]
fn a_field_that_two_parties_fight_over_is_frozen_and_the_rest_goes_on() {
    let rules = Rules::default();
    let mut world = World::with_record(world::plain("start", "body"));
    world.settle(&rules);
    for turn in 0..12 {
        let side = if turn % 2 == 0 { Side::Espo } else { Side::Outlook };
        world.edit(&Edit::Set(side, Field::Title, Value::Text(format!("turn {turn}"))));
        world.reconcile(&rules, Crash::Never);
    }
    world.edit(&Edit::Set(Side::Espo, Field::Title, Value::Text("once more".into())));
    world.edit(&Edit::Set(Side::Espo, Field::Body, Value::Text("goes on".into())));
    let plan = world.plan(&rules);
    assert!(plan.notes.contains(&Reason::Frozen { field: Field::Title }), "{plan:?}");
    let written: Vec<Field> =
        plan.steps.iter().filter_map(|s| s.action.writes()).flat_map(|w| w.keys().cloned()).collect();
    assert_eq!(written, vec![Field::Body]);
}

#[test]
fn files_may_come_from_both_sides_in_turns_but_one_that_comes_and_goes_is_left_alone() {
    let rules = Rules::default();
    let file = |name: String| sync::File { name, hash: "1".into(), size: 1, ids: [].into() };
    let files = |world: &World, side: Side| {
        let value =
            if side == Side::Espo { world.espo(&Field::Attachments) } else { world.outlook(&Field::Attachments) };
        value.and_then(Value::as_files).cloned().unwrap_or_default()
    };
    let mut world = World::with_task(world::plain_task("files"));
    world.settle(&rules);
    for turn in 0..10 {
        let side = if turn % 2 == 0 { Side::Espo } else { Side::Outlook };
        let mut all = files(&world, side);
        all.insert(file(format!("{turn}.txt")));
        world.edit(&Edit::Set(side, Field::Attachments, Value::Files(all)));
        world.reconcile(&rules, Crash::Never);
    }
    assert_eq!(files(&world, Side::Espo).iter().count(), 10);
    assert_eq!(files(&world, Side::Outlook), files(&world, Side::Espo));
    for turn in 0..12 {
        let side = if turn % 2 == 0 { Side::Espo } else { Side::Outlook };
        let mut all = files(&world, side);
        if turn % 2 == 0 {
            all.insert(file("fight".into()))
        } else {
            all.remove(&file("fight".into()))
        }
        world.edit(&Edit::Set(side, Field::Attachments, Value::Files(all)));
        world.reconcile(&rules, Crash::Never);
    }
    assert!(world.link().frozen.contains_key(&Field::Attachments));
}

#[test]
fn many_deletions_at_once_raise_a_hold_and_a_confirmed_one_goes_on() {
    let rules = Rules::default();
    let mut world = World::with_record(world::plain("gone", ""));
    world.settle(&rules);
    world.edit(&Edit::Delete(Side::Espo));
    world.reconcile(&rules, Crash::Never);
    world.pass_grace();
    world.deletions = sync::Deletions { waiting: 21, links: 1000, held: false, confirmed: false };
    assert!(matches!(world.plan(&rules).verdict, Verdict::Hold(Reason::MassDeletion { waiting: 21 })));
    world.deletions.confirmed = true;
    assert!(matches!(world.plan(&rules).steps.first().map(|s| &s.action), Some(Action::DeleteItem)));
    world.deletions = sync::Deletions { waiting: 10, links: 39, held: false, confirmed: false };
    assert!(matches!(world.plan(&rules).verdict, Verdict::Hold(_)), "a quarter and at least ten");
    world.deletions = sync::Deletions { waiting: 9, links: 9, held: false, confirmed: false };
    assert!(matches!(world.plan(&rules).verdict, Verdict::Write), "fewer than ten are never held");
    world.deletions.held = true;
    assert!(
        matches!(world.plan(&rules).verdict, Verdict::Hold(_)),
        "an open hold keeps them, however late it is decided"
    );
}

#[test]
fn deleted_on_one_side_and_edited_on_the_other_the_priority_decides() {
    for (priority, gone, survives) in [
        (Priority::Espo, Side::Espo, false),
        (Priority::Outlook, Side::Espo, true),
        (Priority::Newest, Side::Espo, true),
        (Priority::Espo, Side::Outlook, true),
        (Priority::Outlook, Side::Outlook, false),
        (Priority::Newest, Side::Outlook, true),
    ] {
        let mut rules = Rules::default();
        rules.meeting.priority = priority;
        let mut world = World::with_record(world::plain("before", ""));
        world.settle(&rules);
        world.edit(&Edit::Set(gone.other(), Field::Title, Value::Text("edited".into())));
        world.edit(&Edit::Delete(gone));
        world.settle(&rules);
        assert_eq!(!world.is_empty(), survives, "{priority:?}, deleted in {gone:?}");
        if survives {
            assert!(world.in_step(&rules));
        }
    }
}
