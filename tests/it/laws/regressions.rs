//! Stories that once broke a law, shrunk.

use sync::{Attendees, Direction, Side};

use super::play::Mode;
use super::story::{Act, Setting, Step, Story, What, Who};
use super::{Law, Theatre, on_a_thread};

/// Tells a story to both kinds of EspoCRM.
fn holds(setting: Setting, steps: Vec<Step>) {
    on_a_thread(async move {
        let story = Story { setting, steps };
        for equipped in [true, false] {
            let end = Theatre::open(equipped).await.tell(Law::Converges, Mode::Both, 0, &story).await;
            assert!(end.is_ok(), "equipped {equipped}: {}\n{story}", end.unwrap_err());
        }
    });
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
