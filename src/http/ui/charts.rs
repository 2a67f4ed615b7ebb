//! Charts, as numbers for an SVG: no script, no style attributes.

use chrono::{DateTime, TimeDelta, Utc};
use store::messages::{Fate, MessageState};

/// Minutes of a chart.
const MINUTES: usize = 60;
/// Its height in its own units; a minute is ten wide.
const HEIGHT: u64 = 80;

/// A bar: where it begins, how high it is, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    pub x: usize,
    pub y: u64,
    pub height: u64,
    pub label: String,
}

/// The last hour by minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chart {
    pub bars: Vec<Bar>,
    /// The highest value.
    pub top: String,
    /// The latest values together, or the latest one.
    pub now: String,
}

fn chart(values: &[Option<u64>], shown: impl Fn(u64) -> String, now: u64) -> Chart {
    let top = values.iter().flatten().copied().max().unwrap_or_default();
    let bars = values.iter().enumerate().filter_map(|(minute, value)| {
        let value = (*value)?;
        // Something is never drawn as nothing.
        let height = (value * HEIGHT).div_ceil(top.max(1)).max(u64::from(value > 0) * 2).min(HEIGHT);
        Some(Bar { x: minute * 10, y: HEIGHT - height, height, label: shown(value) })
    });
    Chart { bars: bars.collect(), top: shown(top), now: shown(now) }
}

/// How many were done with in each minute, and how long the slowest of them had taken. Of more than `limit` only the latest are
/// told: nobody knows of the minutes before.
pub fn of(fates: &[Fate], limit: u64, now: DateTime<Utc>) -> (Chart, Chart) {
    let is_cut = fates.len() as u64 >= limit;
    let known_from = fates.iter().map(|fate| fate.received).min().filter(|_| is_cut);
    let is_known = |minute: usize| {
        let end = now - TimeDelta::minutes(i64::try_from(MINUTES - 1 - minute).unwrap_or_default());
        known_from.is_none_or(|from| end > from)
    };
    let mut count: [Option<u64>; MINUTES] = std::array::from_fn(|minute| is_known(minute).then_some(0));
    let mut lag: [Option<u64>; MINUTES] = [None; MINUTES];
    let begin = now - TimeDelta::minutes(60);
    for fate in fates.iter().filter(|fate| matches!(fate.state, MessageState::Done | MessageState::Superseded)) {
        let Some(finished) = fate.finished.filter(|at| *at >= begin) else { continue };
        let minute = usize::try_from((finished - begin).num_minutes()).unwrap_or_default().min(MINUTES - 1);
        let took = u64::try_from((finished - fate.received).num_milliseconds()).unwrap_or_default();
        if let (Some(count), Some(lag)) = (count.get_mut(minute), lag.get_mut(minute)) {
            *count = count.map(|count| count + 1);
            *lag = Some(lag.unwrap_or_default().max(took));
        }
    }
    let total: u64 = count.iter().flatten().sum();
    let last = lag.iter().rev().flatten().next().copied().unwrap_or_default();
    let mut count = chart(&count, |n| n.to_string(), total);
    if is_cut {
        count.now.push('+');
    }
    (count, chart(&lag, duration, last))
}

/// Milliseconds in words.
pub fn duration(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        60_000..3_600_000 => format!("{} min", millis / 60_000),
        _ => format!("{} h", millis / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_stands_in_its_minute_with_the_slowest_lag() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let fate = |ago: i64, took: i64, state| {
            let finished = now - TimeDelta::seconds(ago);
            Fate { received: finished - TimeDelta::milliseconds(took), finished: Some(finished), state }
        };
        let fates = [
            fate(5, 300, MessageState::Done),
            fate(6, 1500, MessageState::Done),
            fate(90, 10, MessageState::Done),
            fate(10, 9999, MessageState::Dead),
            fate(4000, 10, MessageState::Done),
        ];
        let (count, lag) = of(&fates, 10, now);
        assert_eq!((count.now.as_str(), count.top.as_str()), ("3", "2"));
        assert_eq!((lag.now.as_str(), lag.top.as_str()), ("1.5 s", "1.5 s"));
        assert_eq!(lag.bars.len(), 2);
        assert_eq!((count.bars[59].height, count.bars[58].height, count.bars[0].height), (80, 40, 0));
        // Of more than can be told the chart begins where they begin.
        let (count, _) = of(&fates[..3], 3, now);
        assert_eq!((count.now.as_str(), count.bars.len()), ("3+", 2));
    }
}
