//! Stories: what people, messengers and misfortune do, drawn from a seed.

use std::fmt;

use simulators::plumbing::SimIds;
use sync::{Attendees, Direction, Kind, Priority, Side};

/// What a person changes about a meeting, call or task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Title,
    Body,
    Place,
    Time,
    /// The same as the time, made all-day.
    Day,
    /// Of a task.
    Status,
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A bound user, whose most things are.
    Anna,
    /// A bound user.
    Boris,
    /// A user who is not bound.
    Zoe,
    /// A contact.
    Carl,
    /// Somebody whom EspoCRM does not know; invited in Outlook only.
    Nina,
}

/// How hints arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// All, in order.
    All,
    /// All, shuffled.
    Shuffled,
    /// All, each twice, shuffled.
    Twice,
    /// The last one only; the others stay on their way.
    Last,
    /// All are lost.
    Lost,
}

/// What the service does for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// The worker takes so many units.
    Work(u8),
    /// Two tasks of the worker take so many units each, at the same time.
    WorkTwice(u8),
    /// One poll.
    Poll,
    /// One sweep.
    Sweep,
}

/// What happens while a request stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meanwhile {
    /// The service is killed.
    Crash,
    /// A person does something.
    Act(Box<Act>),
}

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    ServerError,
    Throttled,
    DropBefore,
    DropAfter,
}

/// How somebody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Accept,
    Tentative,
    Decline,
    /// Deletes one's own copy.
    Delete,
}

/// What a person does. `value` is different each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Create {
        tag: u8,
        kind: Kind,
        by: Who,
        side: Side,
        value: u16,
    },
    /// A weekly series is made in Outlook: its occurrences have the tags `tag`, `tag + 1` and `tag + 2`.
    Repeat {
        tag: u8,
        value: u16,
    },
    /// The whole series gets another title.
    Retitle {
        tag: u8,
        value: u16,
    },
    /// The whole series is deleted.
    End {
        tag: u8,
    },
    /// Somebody outside invites Anna. What is edited in Outlook of it, the organizer edits.
    Asked {
        tag: u8,
        value: u16,
    },
    /// The outside organizer cancels.
    CalledOff {
        tag: u8,
    },
    /// The record is given to somebody.
    Assign {
        tag: u8,
        to: Who,
    },
    /// The record's own switch.
    Switch {
        tag: u8,
        on: bool,
    },
    Edit {
        tag: u8,
        side: Side,
        what: What,
        value: u16,
    },
    Delete {
        tag: u8,
        side: Side,
    },
    Invite {
        tag: u8,
        side: Side,
        who: Who,
    },
    Uninvite {
        tag: u8,
        side: Side,
        who: Who,
    },
    Answer {
        tag: u8,
        side: Side,
        who: Who,
        word: Word,
    },
    /// Exchange touches the event for its own reasons.
    Touch {
        tag: u8,
    },
}

impl Act {
    /// What it is about.
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Create { tag, .. }
            | Self::Repeat { tag, .. }
            | Self::Retitle { tag, .. }
            | Self::End { tag }
            | Self::Asked { tag, .. }
            | Self::CalledOff { tag }
            | Self::Assign { tag, .. }
            | Self::Switch { tag, .. }
            | Self::Edit { tag, .. }
            | Self::Delete { tag, .. }
            | Self::Invite { tag, .. }
            | Self::Uninvite { tag, .. }
            | Self::Answer { tag, .. }
            | Self::Touch { tag } => *tag,
        }
    }
}

/// The rules under which a story is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    pub priority: Priority,
    pub direction: Direction,
    pub attendees: Attendees,
    /// Calls and tasks, too.
    pub all_kinds: bool,
}

impl Default for Setting {
    fn default() -> Self {
        let (priority, direction) = (Priority::Newest, Direction::Both);
        Self { priority, direction, attendees: Attendees::Invite, all_kinds: false }
    }
}

/// What happens, and under which rules.
#[derive(Debug, Clone)]
pub struct Story {
    pub setting: Setting,
    pub steps: Vec<Step>,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    {:?}", self.setting)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "    {step}"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Act(Act),
    Pass {
        seconds: i64,
    },
    Post(Post),
    Run(Run),
    /// The `skip`-th request to a side stands still, before it is handled or after.
    Held {
        run: Run,
        side: Side,
        skip: u8,
        after: bool,
        meanwhile: Meanwhile,
    },
    Trouble {
        side: Side,
        skip: u8,
        what: Trouble,
    },
    /// The service tells itself what is new, by the means of the law's mode, and works until it rests.
    Settle,
    /// The service tells itself what is new, by the means of the law's mode.
    Tell,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Act(act) => write!(f, "{act:?}"),
            Self::Held { run, side, skip, after, meanwhile } => {
                let when = if *after { "after" } else { "before" };
                write!(f, "{run:?}, and {when} request {skip} to {side:?}: {meanwhile:?}")
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// Dice.
pub struct Dice(SimIds);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // The sequences of neighbouring seeds must not be one sequence, begun at neighbouring places.
        let first = SimIds::new(seed).bytes(8).try_into().unwrap();
        Self(SimIds::new(u64::from_be_bytes(first)))
    }

    pub fn below(&self, n: usize) -> usize {
        usize::try_from(self.0.below(n as u64)).unwrap()
    }

    pub fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}
