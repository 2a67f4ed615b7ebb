//! Cron expressions in German words.

use croner::describe::Language;

#[derive(Debug, Clone, Copy)]
pub(super) struct German;

impl Language for German {
    fn every_minute(&self) -> &'static str {
        "jede Minute"
    }
    fn every_second_phrase(&self) -> &'static str {
        "jede Sekunde"
    }
    fn every_x_minutes(&self, step: u16) -> String {
        format!("alle {step} Minuten")
    }
    fn every_x_seconds(&self, step: u16) -> String {
        format!("alle {step} Sekunden")
    }
    fn every_x_hours(&self, step: u16) -> String {
        format!("alle {step} Stunden")
    }
    fn every_minute_of_every_x_hours(&self, step: u16) -> String {
        format!("jede Minute, alle {step} Stunden")
    }
    fn at_time(&self, time: &str) -> String {
        format!("um {time}")
    }
    fn at_time_and_every_x_seconds(&self, time: &str, step: u16) -> String {
        format!("um {time}, alle {step} Sekunden")
    }
    fn at_time_at_second(&self, time: &str, second: &str) -> String {
        format!("um {time}, in Sekunde {second}")
    }
    fn at_phrase(&self, phrase: &str) -> String {
        let repeats = phrase.starts_with("alle ") || phrase.starts_with("jede ");
        if repeats { phrase.to_owned() } else { format!("in {phrase}") }
    }
    fn on_phrase(&self, phrase: &str) -> String {
        format!("am {phrase}")
    }
    fn in_phrase(&self, phrase: &str) -> String {
        format!("im {phrase}")
    }
    fn second_phrase(&self, s: &str) -> String {
        format!("Sekunde {s}")
    }
    fn minute_phrase(&self, s: &str) -> String {
        format!("Minute {s}")
    }
    fn minute_past_every_hour_phrase(&self, s: &str) -> String {
        format!("Minute {s} jeder Stunde")
    }
    fn hour_phrase(&self, s: &str) -> String {
        format!("Stunde {s}")
    }
    fn year_phrase(&self, s: &str) -> String {
        format!("Jahr {s}")
    }
    fn day_phrase(&self, s: &str) -> String {
        format!("Tag {s}")
    }
    fn the_last_day_of_the_month(&self) -> &'static str {
        "letzten Tag des Monats"
    }
    fn the_weekday_nearest_day(&self, day: &str) -> String {
        format!("Werktag, der dem {day}. am nächsten ist")
    }
    fn the_last_weekday_of_the_month(&self, day: &str) -> String {
        format!("letzten {day} des Monats")
    }
    fn the_nth_weekday_of_the_month(&self, n: u8, day: &str) -> String {
        format!("{n}. {day} des Monats")
    }
    fn dom_and_dow_if_also(&self, dow: &str) -> String {
        format!("wenn es auch {dow} ist")
    }
    fn dom_and_dow_if_also_one_of(&self, dow: &str) -> String {
        format!("wenn es auch einer von {dow} ist")
    }
    fn list_conjunction_and(&self) -> &'static str {
        " und "
    }
    fn list_conjunction_or(&self) -> &'static str {
        " oder "
    }
    fn list_conjunction_and_comma(&self) -> &'static str {
        " und "
    }
    fn day_of_week_names(&self) -> [&'static str; 7] {
        ["Sonntag", "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag"]
    }
    fn month_names(&self) -> [&'static str; 12] {
        [
            "Januar",
            "Februar",
            "März",
            "April",
            "Mai",
            "Juni",
            "Juli",
            "August",
            "September",
            "Oktober",
            "November",
            "Dezember",
        ]
    }
    fn past_hour_phrase(&self, s: &str) -> String {
        format!("Stunde {s}")
    }
    fn every_past_phrase(&self, every: &str, hours: &str) -> String {
        format!("{every} in {hours}")
    }
    fn every_x_months(&self, step: u16) -> String {
        format!("alle {step} Monate")
    }
}
