//! Stories that once broke a law, shrunk.

use sync::{Attendees, Direction, Kind, Priority, Side};

use super::play::Mode;
use super::story::{Act, Meanwhile, Post, Run, Setting, Step, Story, What, Who, Word};
use super::{Law, Theatre, on_a_thread};

/// Tells a story to both kinds of EspoCRM.
fn holds(setting: Setting, steps: Vec<Step>) {
    holds_for(Law::Converges, 0, setting, steps);
}

/// The same of a law, and ending as that seed does.
fn holds_for(law: Law, seed: u64, setting: Setting, steps: Vec<Step>) {
    on_a_thread(async move {
        let story = Story { setting, steps };
        for equipped in [true, false] {
            let end = Theatre::open(equipped).await.tell(law, Mode::Both, seed, &story).await;
            assert!(end.is_ok(), "equipped {equipped}: {}\n{story}", end.unwrap_err());
        }
    });
}

/// The service works, and is killed after that request.
fn crash(units: u8, side: Side, skip: u8) -> Step {
    Step::Held { run: Run::Work(units), side, skip, after: true, meanwhile: Meanwhile::Crash }
}

fn edit(tag: u8, side: Side, what: What, value: u16) -> Step {
    Step::Act(Act::Edit { tag, side, what, value })
}

#[test]
fn what_was_edited_in_the_old_mailbox_goes_along_when_a_record_is_given_to_somebody_else() {
    for to in [Who::Boris, Who::Zoe] {
        let given = Step::Act(Act::Assign { tag: 1, to });
        holds(Setting::default(), vec![edit(1, Side::Outlook, What::Title, 11), given.clone()]);
        holds(Setting::default(), vec![given, edit(1, Side::Outlook, What::Day, 12)]);
    }
}

#[test]
fn without_invitations_no_answer_is_sent_from_a_private_copy() {
    let setting = Setting { attendees: Attendees::None, ..Setting::default() };
    holds(setting, vec![Step::Act(Act::Assign { tag: 1, to: Who::Boris })]);
}

#[test]
fn a_one_way_pair_that_moves_is_made_anew_from_the_record() {
    let setting = Setting { direction: Direction::EspoToOutlook, ..Setting::default() };
    let edited = edit(1, Side::Outlook, What::Title, 11);
    holds(setting, vec![edited, Step::Act(Act::Assign { tag: 1, to: Who::Boris })]);
}

#[test]
fn private_copies_follow_what_was_edited_in_outlook_at_once() {
    let setting = Setting { attendees: Attendees::None, ..Setting::default() };
    let invited = Step::Act(Act::Invite { tag: 1, side: Side::Espo, who: Who::Boris });
    holds(setting, vec![invited, edit(1, Side::Outlook, What::Title, 12)]);
}

#[test]
fn an_answer_given_before_the_invitation_is_out_is_sent_once_it_is() {
    let invited = Step::Act(Act::Invite { tag: 1, side: Side::Espo, who: Who::Boris });
    for word in [Word::Accept, Word::Tentative, Word::Decline] {
        let answered = Step::Act(Act::Answer { tag: 1, side: Side::Espo, who: Who::Boris, word });
        holds(Setting::default(), vec![invited.clone(), answered]);
    }
}

#[test]
fn a_task_deleted_before_the_list_was_read_again_is_missed_by_the_next_sweep() {
    let setting = Setting { all_kinds: true, ..Setting::default() };
    let (kind, by) = (Kind::Task, Who::Boris);
    let made = Step::Act(Act::Create { tag: 3, kind, by, side: Side::Espo, value: 12 });
    holds(setting, vec![made, Step::Settle, Step::Act(Act::Delete { tag: 3, side: Side::Outlook })]);
}

#[test]
fn an_echo_that_comes_after_an_edit_does_not_hide_it() {
    let posted = Step::Post(Post::Shuffled);
    let carried = vec![edit(0, Side::Espo, What::Body, 11), Step::Run(Run::Poll), Step::Run(Run::Work(7))];
    let edited = vec![edit(0, Side::Outlook, What::Title, 12), Step::Run(Run::Sweep), posted];
    holds(Setting::default(), [carried, edited].concat());
}

#[test]
fn what_was_edited_while_a_record_was_switched_off_is_merged_when_it_is_switched_on() {
    let switched = |on| Step::Act(Act::Switch { tag: 1, on });
    let looked = [Step::Post(Post::All), Step::Run(Run::Work(5))];
    let mut steps = vec![switched(false), edit(1, Side::Outlook, What::Title, 11)];
    steps.extend(looked.clone());
    steps.push(switched(true));
    holds(Setting::default(), steps);
}

#[test]
fn an_answer_is_sent_after_a_crash_at_any_request_of_a_move_to_another_mailbox() {
    for skip in 0..10 {
        let given = Step::Act(Act::Assign { tag: 0, to: Who::Boris });
        let crash = crash(2, Side::Outlook, skip);
        // A seed whose hints of what the end itself gives rise to are lost.
        holds_for(Law::SurvivesCrashes, 4, Setting::default(), vec![given, Step::Run(Run::Poll), crash]);
    }
}

#[test]
fn what_is_edited_in_the_new_mailbox_after_a_crash_is_known_from_what_was_written_there() {
    for skip in 0..10 {
        let given = Step::Act(Act::Assign { tag: 0, to: Who::Boris });
        let setting = Setting { priority: Priority::Espo, ..Setting::default() };
        let edited = edit(0, Side::Outlook, What::Title, 12);
        let steps = vec![given, Step::Post(Post::All), crash(2, Side::Outlook, skip), edited];
        holds_for(Law::SurvivesCrashes, 4, setting, steps);
    }
}

#[test]
fn what_is_deleted_while_it_is_switched_off_leaves_the_event_alone() {
    let switched = Step::Act(Act::Switch { tag: 0, on: false });
    let deleted = Step::Act(Act::Delete { tag: 0, side: Side::Espo });
    let looked = [Step::Post(Post::All), Step::Run(Run::Work(2))];
    holds(Setting::default(), [vec![switched], looked.to_vec(), vec![deleted]].concat());
}

#[test]
fn an_answer_is_sent_from_the_invitation_though_there_is_a_private_copy_beside_it() {
    for skip in 0..10 {
        let invited = Step::Act(Act::Invite { tag: 1, side: Side::Outlook, who: Who::Boris });
        let word = Word::Tentative;
        let answered = Step::Act(Act::Answer { tag: 1, side: Side::Espo, who: Who::Boris, word });
        let setting = Setting { attendees: Attendees::None, ..Setting::default() };
        holds_for(
            Law::SurvivesCrashes,
            2,
            setting,
            vec![invited, Step::Post(Post::All), crash(3, Side::Outlook, skip), answered],
        );
    }
}

#[test]
fn what_the_service_has_made_and_never_heard_of_is_made_again_when_it_was_deleted() {
    let created = Step::Act(Act::Create { tag: 2, kind: Kind::Meeting, by: Who::Anna, side: Side::Outlook, value: 11 });
    let deleted = Step::Act(Act::Delete { tag: 2, side: Side::Espo });
    for skip in 0..10 {
        let steps = vec![created.clone(), Step::Post(Post::All), crash(4, Side::Espo, skip), deleted.clone()];
        holds_for(Law::SurvivesCrashes, 0, Setting::default(), steps);
    }
}

#[test]
fn who_declines_before_there_is_a_private_copy_gets_none() {
    let invited = Step::Act(Act::Invite { tag: 1, side: Side::Espo, who: Who::Boris });
    let answered = Step::Act(Act::Answer { tag: 1, side: Side::Espo, who: Who::Boris, word: Word::Decline });
    holds(Setting { attendees: Attendees::None, ..Setting::default() }, vec![invited, answered]);
}
