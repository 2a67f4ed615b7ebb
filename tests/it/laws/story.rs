//! Stories: what people, messengers and misfortune do, drawn from a seed.

use std::fmt;

use simulators::plumbing::SimIds;
use sync::Side;

/// What a person changes about a meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Title,
    Body,
    Place,
    Time,
}

/// Who is asked to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A bound user.
    Boris,
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

/// What a person does. `value` is different each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Create {
        tag: u8,
        side: Side,
        value: u16,
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
        who: Who,
        word: &'static str,
    },
    /// Exchange touches the event for its own reasons.
    Touch {
        tag: u8,
    },
}

impl Act {
    /// The meeting that it is about.
    pub const fn tag(&self) -> u8 {
        match self {
            Self::Create { tag, .. }
            | Self::Edit { tag, .. }
            | Self::Delete { tag, .. }
            | Self::Invite { tag, .. }
            | Self::Uninvite { tag, .. }
            | Self::Answer { tag, .. }
            | Self::Touch { tag } => *tag,
        }
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
        Self(SimIds::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
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

const SIDES: [Side; 2] = [Side::Espo, Side::Outlook];
const WHATS: [What; 4] = [What::Title, What::Body, What::Place, What::Time];
/// Meetings 0 and 1 are there and in step when a story begins.
const KNOWN: u8 = 2;

struct Author<'a> {
    dice: &'a Dice,
    next_tag: u8,
    next_value: u16,
}

impl Author<'_> {
    fn value(&mut self) -> u16 {
        self.next_value += 1;
        self.next_value
    }

    fn tag(&self) -> u8 {
        u8::try_from(self.dice.below(usize::from(self.next_tag))).unwrap()
    }

    fn act(&mut self) -> Act {
        let dice = self.dice;
        let (tag, side) = (self.tag(), dice.pick(&SIDES));
        match dice.below(20) {
            0..=2 => {
                self.next_tag += 1;
                Act::Create { tag: self.next_tag - 1, side, value: self.value() }
            }
            3..=11 => Act::Edit { tag, side, what: dice.pick(&WHATS), value: self.value() },
            12..=13 => Act::Delete { tag, side },
            14..=16 => {
                let who = dice.pick(&[Who::Boris, Who::Carl, Who::Nina]);
                Act::Invite { tag, side: if who == Who::Nina { Side::Outlook } else { side }, who }
            }
            17 => Act::Uninvite { tag, side, who: dice.pick(&[Who::Boris, Who::Carl]) },
            18 => Act::Answer {
                tag,
                who: dice.pick(&[Who::Boris, Who::Carl]),
                word: dice.pick(&["accepted", "tentativelyAccepted", "declined"]),
            },
            _ => Act::Touch { tag },
        }
    }

    fn pass(&self) -> Step {
        Step::Pass { seconds: self.dice.pick(&[1, 1, 2, 3, 7, 20, 90, 700, 4000]) }
    }

    fn run(&self) -> Run {
        match self.dice.below(8) {
            0 => Run::Poll,
            1 => Run::Sweep,
            2 => Run::WorkTwice(2),
            n => Run::Work(u8::try_from(n).unwrap()),
        }
    }

    fn post(&self) -> Step {
        Step::Post(self.dice.pick(&[Post::All, Post::All, Post::Shuffled, Post::Twice, Post::Last, Post::Lost]))
    }
}

/// Law 6: edits, deletions, and what may happen to hints.
pub fn of_interleavings(dice: &Dice) -> Vec<Step> {
    let mut author = Author { dice, next_tag: KNOWN, next_value: 10 };
    let mut steps = Vec::new();
    for _ in 0..4 + dice.below(8) {
        steps.push(match dice.below(16) {
            0..=6 => Step::Act(author.act()),
            7..=8 => author.pass(),
            9..=11 => author.post(),
            12..=14 => Step::Run(author.run()),
            _ => {
                let (run, side) = (author.run(), dice.pick(&SIDES));
                let (skip, after) = (u8::try_from(dice.below(8)).unwrap(), dice.one_in(2));
                Step::Held { run, side, skip, after, meanwhile: Meanwhile::Act(Box::new(author.act())) }
            }
        });
    }
    steps
}

/// Law 7: the same with crashes, and requests that fail.
pub fn of_crashes(dice: &Dice) -> Vec<Step> {
    let mut author = Author { dice, next_tag: KNOWN, next_value: 10 };
    let mut steps = vec![Step::Act(author.act())];
    for _ in 0..4 + dice.below(7) {
        steps.push(match dice.below(16) {
            0..=4 => Step::Act(author.act()),
            5 => author.pass(),
            6..=8 => author.post(),
            9 => Step::Run(author.run()),
            10..=11 => {
                let what =
                    dice.pick(&[Trouble::ServerError, Trouble::Throttled, Trouble::DropBefore, Trouble::DropAfter]);
                Step::Trouble { side: dice.pick(&SIDES), skip: u8::try_from(dice.below(8)).unwrap(), what }
            }
            _ => {
                let (run, side) = (author.run(), dice.pick(&SIDES));
                let (skip, after) = (u8::try_from(dice.below(10)).unwrap(), dice.one_in(2));
                Step::Held { run, side, skip, after, meanwhile: Meanwhile::Crash }
            }
        });
    }
    steps
}

/// Law 8: no field is edited on both sides, and nothing is edited that is deleted elsewhere.
pub fn of_peace(dice: &Dice) -> Vec<Step> {
    let mut author = Author { dice, next_tag: KNOWN, next_value: 10 };
    let mut steps = Vec::new();
    for _ in 0..=dice.below(2) {
        author.next_tag += 1;
        steps.push(Step::Act(Act::Create { tag: author.next_tag - 1, side: dice.pick(&SIDES), value: author.value() }));
    }
    steps.push(Step::Settle);
    // Of each meeting one side is the only one to edit it, or each side has its own fields and nobody deletes.
    let manner: Vec<usize> = (0..author.next_tag).map(|_| dice.below(3)).collect();
    let mut deleted = Vec::new();
    for _ in 0..4 + dice.below(6) {
        let tag = author.tag();
        let what = dice.pick(&WHATS);
        let own = |what: What| if matches!(what, What::Title | What::Time) { Side::Espo } else { Side::Outlook };
        let side = SIDES.get(manner[usize::from(tag)]).copied();
        steps.push(match dice.below(12) {
            0..=5 if !deleted.contains(&tag) => {
                Step::Act(Act::Edit { tag, side: side.unwrap_or_else(|| own(what)), what, value: author.value() })
            }
            6 if side.is_some() && !deleted.contains(&tag) => {
                deleted.push(tag);
                Step::Act(Act::Delete { tag, side: side.unwrap_or(Side::Espo) })
            }
            7 if !deleted.contains(&tag) => {
                let who = dice.pick(&[Who::Boris, Who::Carl]);
                Step::Act(Act::Invite { tag, side: side.unwrap_or(Side::Outlook), who })
            }
            8 => author.pass(),
            9..=10 => Step::Tell,
            _ => Step::Run(Run::Work(u8::try_from(1 + dice.below(4)).unwrap())),
        });
    }
    steps
}
