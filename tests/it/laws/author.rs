//! Who writes the stories: the dice decide what happens, and how often.

use sync::{Attendees, Direction, Kind, Priority, Side};

use super::ends::{OCCURRENCES, SERIES};
use super::story::{Act, Dice, Meanwhile, Post, Run, Setting, Step, Story, Trouble, What, Who, Word};

const SIDES: [Side; 2] = [Side::Espo, Side::Outlook];
const WORDS: [Word; 4] = [Word::Accept, Word::Tentative, Word::Decline, Word::Delete];
/// Meetings 0 and 1 are there and in step when a story begins.
const KNOWN: u8 = 2;
/// More series than these would share days.
const MOST_SERIES: u8 = 3;

struct Author<'a> {
    dice: &'a Dice,
    setting: Setting,
    /// What each tag is, and in whose calendar.
    things: Vec<(Kind, Who)>,
    series: u8,
    outside: Vec<u8>,
    next_value: u16,
}

impl<'a> Author<'a> {
    fn new(dice: &'a Dice, setting: Setting) -> Self {
        let things = vec![(Kind::Meeting, Who::Anna); usize::from(KNOWN)];
        Self { dice, setting, things, series: 0, outside: Vec::new(), next_value: 10 }
    }

    fn value(&mut self) -> u16 {
        self.next_value += 1;
        self.next_value
    }

    fn next_tag(&mut self, kind: Kind, by: Who) -> u8 {
        self.things.push((kind, by));
        u8::try_from(self.things.len() - 1).unwrap()
    }

    /// Something that is there, as far as the author remembers; an occurrence at times.
    fn tag(&self) -> u8 {
        let occurrences = usize::from(self.series * OCCURRENCES);
        let n = self.dice.below(self.things.len() + occurrences.min(3));
        if n < self.things.len() {
            return u8::try_from(n).unwrap();
        }
        self.occurrence()
    }

    fn occurrence(&self) -> u8 {
        let of = u8::try_from(self.dice.below(usize::from(self.series))).unwrap();
        SERIES + 4 * of + u8::try_from(self.dice.below(usize::from(OCCURRENCES))).unwrap()
    }

    fn kind_of(&self, tag: u8) -> Kind {
        self.things.get(usize::from(tag)).map_or(Kind::Meeting, |(kind, _)| *kind)
    }

    fn what(&self, tag: u8) -> What {
        match self.kind_of(tag) {
            Kind::Task => self.dice.pick(&[What::Title, What::Body, What::Time, What::Status]),
            Kind::Call => self.dice.pick(&[What::Title, What::Body, What::Time]),
            Kind::Meeting if tag >= SERIES => self.dice.pick(&[What::Title, What::Body, What::Place, What::Time]),
            Kind::Meeting => {
                self.dice.pick(&[What::Title, What::Title, What::Body, What::Place, What::Time, What::Time, What::Day])
            }
        }
    }

    fn create(&mut self, side: Side) -> Act {
        let kind = if self.setting.all_kinds {
            self.dice.pick(&[Kind::Meeting, Kind::Call, Kind::Task, Kind::Task])
        } else {
            Kind::Meeting
        };
        let by = self.dice.pick(&[Who::Anna, Who::Anna, Who::Boris]);
        Act::Create { tag: self.next_tag(kind, by), kind, by, side, value: self.value() }
    }

    fn edit(&mut self) -> Act {
        let tag = self.tag();
        let (side, what) = (self.dice.pick(&SIDES), self.what(tag));
        Act::Edit { tag, side, what, value: self.value() }
    }

    fn act(&mut self) -> Act {
        let (tag, side) = (self.tag(), self.dice.pick(&SIDES));
        match self.dice.below(26) {
            0..=2 => self.create(side),
            3..=11 => self.edit(),
            12..=13 => Act::Delete { tag, side },
            14..=16 => {
                let who = self.dice.pick(&[Who::Anna, Who::Boris, Who::Boris, Who::Carl, Who::Nina]);
                Act::Invite { tag, side: if who == Who::Nina { Side::Outlook } else { side }, who }
            }
            17 => Act::Uninvite { tag, side, who: self.dice.pick(&[Who::Anna, Who::Boris, Who::Carl]) },
            18 => Act::Answer { tag, side: Side::Outlook, who: Who::Carl, word: self.dice.pick(&WORDS[..3]) },
            19 => {
                let words = if side == Side::Espo { &WORDS[..3] } else { &WORDS };
                Act::Answer { tag, side, who: Who::Boris, word: self.dice.pick(words) }
            }
            20 => Act::Touch { tag },
            21 => Act::Assign { tag, to: self.dice.pick(&[Who::Anna, Who::Boris, Who::Boris, Who::Zoe]) },
            22 => Act::Switch { tag, on: self.dice.one_in(2) },
            _ => self.rare(),
        }
    }

    /// Series, and what others organise.
    fn rare(&mut self) -> Act {
        let whole = |author: &Self| SERIES + 4 * u8::try_from(author.dice.below(usize::from(author.series))).unwrap();
        match self.dice.below(6) {
            0 => {
                let tag = self.next_tag(Kind::Meeting, Who::Anna);
                self.outside.push(tag);
                Act::Asked { tag, value: self.value() }
            }
            1 if !self.outside.is_empty() => Act::CalledOff { tag: self.dice.pick(&self.outside) },
            2 if self.series > 0 => Act::Retitle { tag: whole(self), value: self.value() },
            3 if self.series > 0 => Act::End { tag: whole(self) },
            4 if self.series > 0 => Act::Delete { tag: self.occurrence(), side: self.dice.pick(&SIDES) },
            _ if self.series < MOST_SERIES && self.dice.one_in(2) => {
                self.series += 1;
                Act::Repeat { tag: SERIES + 4 * (self.series - 1), value: self.value() }
            }
            _ => self.edit(),
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

fn setting(dice: &Dice) -> Setting {
    Setting {
        priority: dice.pick(&[Priority::Newest, Priority::Newest, Priority::Espo, Priority::Outlook]),
        direction: if dice.one_in(8) {
            dice.pick(&[Direction::EspoToOutlook, Direction::OutlookToEspo])
        } else {
            Direction::Both
        },
        attendees: if dice.one_in(6) { Attendees::None } else { Attendees::Invite },
        all_kinds: dice.one_in(3),
    }
}

/// Law 6: edits, deletions, and what may happen to hints.
pub fn of_interleavings(dice: &Dice) -> Story {
    let mut author = Author::new(dice, setting(dice));
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
    Story { setting: author.setting, steps }
}

/// Law 7: the same with crashes, and requests that fail.
pub fn of_crashes(dice: &Dice) -> Story {
    let mut author = Author::new(dice, setting(dice));
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
    Story { setting: author.setting, steps }
}

/// Law 8: no field is edited on both sides, and nothing is edited that is deleted elsewhere.
pub fn of_peace(dice: &Dice) -> Story {
    let setting = Setting { all_kinds: dice.one_in(3), ..Setting::default() };
    let mut author = Author::new(dice, setting);
    let mut steps = Vec::new();
    for _ in 0..=dice.below(2) {
        let act = author.create(dice.pick(&SIDES));
        steps.push(Step::Act(act));
    }
    steps.push(Step::Settle);
    // Of each thing one side is the only one to edit it, or each side has its own fields and nobody deletes.
    let manner: Vec<usize> = author.things.iter().map(|_| dice.below(3)).collect();
    let mut deleted = Vec::new();
    for _ in 0..4 + dice.below(6) {
        let tag = author.tag();
        let what = author.what(tag);
        let own = |what: What| if matches!(what, What::Body | What::Place) { Side::Outlook } else { Side::Espo };
        let side = SIDES.get(manner[usize::from(tag)]).copied();
        let event = author.kind_of(tag).is_event();
        steps.push(match dice.below(12) {
            0..=5 if !deleted.contains(&tag) => {
                Step::Act(Act::Edit { tag, side: side.unwrap_or_else(|| own(what)), what, value: author.value() })
            }
            6 if side.is_some() && !deleted.contains(&tag) => {
                deleted.push(tag);
                Step::Act(Act::Delete { tag, side: side.unwrap_or(Side::Espo) })
            }
            7 if event && !deleted.contains(&tag) => {
                let who = dice.pick(&[Who::Boris, Who::Carl]);
                Step::Act(Act::Invite { tag, side: side.unwrap_or(Side::Outlook), who })
            }
            8 => author.pass(),
            9..=10 => Step::Tell,
            _ => Step::Run(Run::Work(u8::try_from(1 + dice.below(4)).unwrap())),
        });
    }
    Story { setting, steps }
}
