//! Sentences that the rest of the service writes down in English (in the database, in answers of the API, in errors) in the
//! reader's language.
//!
//! A language other than English has a table of them ([`TABLE`]): an English sentence with `{}` for what varies, and its
//! translation with `{0}`, `{1}` for the same. What varies may itself be such a sentence, or the name of a field, a kind or a
//! system, and is translated too. An error with its causes (`what: why: why`) is translated part by part. What nobody has
//! translated, such as the words of another system, stays as it is: better than nothing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::lang::Lang;

static TABLE: LazyLock<Vec<Template>> = LazyLock::new(|| {
    // A test reads the file.
    let all: BTreeMap<String, String> =
        serde_json::from_str(include_str!("messages/sentences.de.json")).unwrap_or_default();
    let mut all: Vec<Template> = all.into_iter().map(|(english, german)| Template::new(&english, german)).collect();
    // The one that says most of the sentence itself is meant.
    all.sort_by_key(|template| std::cmp::Reverse(template.parts.iter().map(String::len).sum::<usize>()));
    all
});

/// Sentences within sentences within sentences.
const DEEPEST: usize = 4;

struct Template {
    /// What stands between the places.
    parts: Vec<String>,
    translated: String,
}

impl Template {
    fn new(english: &str, translated: String) -> Self {
        Self { parts: english.split("{}").map(str::to_owned).collect(), translated }
    }

    /// What stands in the places, when the sentence is of this form.
    fn places<'a>(&self, sentence: &'a str) -> Option<Vec<&'a str>> {
        let (first, rest) = self.parts.split_first()?;
        let mut left = sentence.strip_prefix(first.as_str())?;
        let Some((last, between)) = rest.split_last() else { return left.is_empty().then(Vec::new) };
        let mut places = Vec::new();
        for part in between {
            // Of two places side by side the second has it all.
            let (place, after) = if part.is_empty() { ("", left) } else { left.split_once(part.as_str())? };
            places.push(place);
            left = after;
        }
        places.push(left.strip_suffix(last.as_str())?);
        Some(places)
    }
}

/// The sentence in that language.
pub(in crate::http) fn in_language(lang: Lang, sentence: &str) -> String {
    match lang {
        Lang::En => sentence.to_owned(),
        Lang::De => translated(lang, sentence, DEEPEST),
    }
}

fn translated(lang: Lang, sentence: &str, depth: usize) -> String {
    if depth == 0 || sentence.is_empty() {
        return sentence.to_owned();
    }
    if let Some(whole) = as_one(lang, sentence, depth) {
        return whole;
    }
    // `what: why`, and several sentences in one line.
    for separator in [": ", ". ", "; "] {
        let parts: Vec<&str> = sentence.split(separator).collect();
        if parts.len() > 1 {
            let each: Vec<String> =
                parts.iter().map(|part| as_one(lang, part, depth).unwrap_or_else(|| (*part).to_owned())).collect();
            if each.iter().zip(&parts).any(|(after, before)| after != before) {
                return each.join(separator);
            }
        }
    }
    sentence.to_owned()
}

/// A sentence that is in the table as a whole: as it is, without its full stop, or with a small letter in front.
fn as_one(lang: Lang, sentence: &str, depth: usize) -> Option<String> {
    let bare = sentence.strip_suffix('.').filter(|bare| !bare.is_empty());
    let found = find(lang, sentence, depth).or_else(|| Some(format!("{}.", find(lang, bare?, depth)?)));
    found.or_else(|| {
        let mut letters = sentence.chars();
        let first = letters.next().filter(|first| first.is_uppercase())?;
        let small = format!("{}{}", first.to_lowercase(), letters.as_str());
        let bare = small.strip_suffix('.');
        let found = find(lang, &small, depth).or_else(|| Some(format!("{}.", find(lang, bare?, depth)?)))?;
        let mut letters = found.chars();
        let first = letters.next()?;
        Some(format!("{}{}", first.to_uppercase(), letters.as_str()))
    })
}

fn find(lang: Lang, sentence: &str, depth: usize) -> Option<String> {
    TABLE.iter().find_map(|template| {
        let places = template.places(sentence)?;
        let mut text = template.translated.clone();
        for (at, place) in places.iter().enumerate() {
            text = text.replace(&format!("{{{at}}}"), &named(lang, place, depth));
        }
        Some(text)
    })
}

/// What stands in a place: names of fields, kinds and actions, or a sentence.
fn named(lang: Lang, place: &str, depth: usize) -> String {
    let word = |word: &str| {
        ["field", "kind", "preference", "rule"].iter().find_map(|family| lang.find(&format!("{family}.{word}")))
    };
    let all: Option<Vec<&str>> = place.split(", ").map(word).collect();
    all.map_or_else(|| translated(lang, place, depth - 1), |all| all.join(", "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn de(sentence: &str) -> String {
        in_language(Lang::De, sentence)
    }

    #[test]
    fn sentences_are_told_with_what_varies_and_with_their_causes() {
        assert_eq!(de("In step."), "Im Abgleich.");
        assert_eq!(de("Changed in Outlook: title, time."), "Geändert in Outlook: Titel, Zeit.");
        let within = de("Not synchronised: Synchronisation is switched off for this record.");
        assert_eq!(within, "Nicht abgeglichen: Der Abgleich ist für diesen Datensatz ausgeschaltet.");
        let chain = de("the stored tokens cannot be read or written: the database failed: disk full");
        assert_eq!(
            chain,
            "die gespeicherten Tokens können nicht gelesen oder geschrieben werden: die Datenbank ist ausgefallen: disk full"
        );
        let people =
            de("Left out, because nobody in EspoCRM has these addresses and the rule makes nobody: x@y.de, z@y.de.");
        assert_eq!(
            people,
            "Weggelassen, weil niemand in EspoCRM diese Adressen hat und die Regel niemanden anlegt: x@y.de, z@y.de."
        );
        assert_eq!(de("Words of another system"), "Words of another system");
        assert_eq!(in_language(Lang::En, "In step."), "In step.");
    }

    #[test]
    fn a_sentence_whose_first_letter_or_full_stop_was_added_is_known_too() {
        assert_eq!(de("the database cannot be used"), "die Datenbank kann nicht benutzt werden");
        assert_eq!(de("The database cannot be used."), "Die Datenbank kann nicht benutzt werden.");
    }

    fn table() -> BTreeMap<String, String> {
        serde_json::from_str(include_str!("messages/sentences.de.json")).unwrap()
    }

    #[test]
    fn a_translation_has_the_places_of_its_sentence() {
        for (english, german) in table() {
            let count = english.matches("{}").count();
            for at in 0..count {
                assert!(german.contains(&format!("{{{at}}}")), "{english}: {german}");
            }
            assert!(!german.contains(&format!("{{{count}}}")), "{english}: {german}");
        }
    }

    /// Where sentences are that people read: files below the folder of the package.
    const FILES: &[&str] = &[
        "src/app/doctor",
        "src/app/provision.rs",
        "src/app/tokens.rs",
        "src/espocrm/src/error.rs",
        "src/graph/src/auth.rs",
        "src/graph/src/error.rs",
        "src/http/access.rs",
        "src/http/api/bindings.rs",
        "src/http/api/history.rs",
        "src/http/api/messages.rs",
        "src/http/api/records.rs",
        "src/http/api/settings.rs",
        "src/http/api/sync.rs",
        "src/http/api/users.rs",
        "src/http/oauth.rs",
        "src/schedule/first.rs",
        "src/schedule/subscriptions.rs",
        "src/schedule/tend.rs",
        "src/sync/src/plan.rs",
        "src/sync/src/revert.rs",
        "src/work/error.rs",
        "src/work/inspect.rs",
        "src/work/people.rs",
        "src/work/revert",
    ];

    /// Not for the pages.
    const NOT_SHOWN: &[&str] = &[
        "doctor: hello",
        "seconds of a week",
        "it describes the JSON that crate::work::inspect makes",
        "it describes what a map by kind is in JSON",
    ];

    fn texts(path: &Path, into: &mut Vec<(String, String)>) {
        if path.is_dir() {
            let mut all: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            all.sort();
            all.iter().for_each(|path| texts(path, into));
            return;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        // What is logged is for operators, in English.
        let mut is_logged = false;
        let lines = text.lines().filter(|line| {
            let line = line.trim_start();
            is_logged |= line.starts_with("tracing::");
            let is_left_out = is_logged || line.starts_with("//") || line.starts_with("#[utoipa");
            is_logged &= !line.ends_with(';');
            !is_left_out
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                // A quotation mark as a character begins no text.
                '\'' if letters.peek() == Some(&'"') => drop(letters.next()),
                '"' => into.push((file.clone(), literal(&mut letters))),
                _ => {}
            }
        }
    }

    /// The rest of a literal, with `{}` for what is put in.
    fn literal(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> String {
        let mut text = String::new();
        while let Some(letter) = letters.next() {
            match letter {
                '"' => break,
                '\\' => match letters.next() {
                    Some('\n') => while letters.next_if(|next| next.is_whitespace()).is_some() {},
                    Some('n') => text.push('\n'),
                    Some(other) => text.push(other),
                    None => {}
                },
                '{' => {
                    let doubled = letters.next_if_eq(&'{').is_some();
                    while !doubled && letters.next().is_some_and(|next| next != '}') {}
                    text.push_str(if doubled { "{" } else { "{}" });
                }
                other => text.push(other),
            }
        }
        text
    }

    /// At least two words, which tells sentences from names and paths.
    fn is_sentence(text: &str) -> bool {
        let words = text.split(' ').filter(|word| word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase()));
        !text.contains('\n') && words.count() >= 2 || text.ends_with('.') && text.contains(' ')
    }

    #[test]
    fn every_sentence_of_the_service_is_translated() {
        let mut found = Vec::new();
        for file in FILES {
            texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &mut found);
        }
        assert!(found.len() > 300, "{}", found.len());
        let table = table();
        let missing: Vec<_> = found
            .iter()
            .filter(|(_, text)| is_sentence(text) && !NOT_SHOWN.contains(&text.as_str()))
            .filter(|(_, text)| !table.contains_key(text))
            .collect();
        assert!(missing.is_empty(), "not in messages/sentences.de.json: {missing:#?}");
    }
}
