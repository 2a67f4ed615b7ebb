//! Languages: one file of messages each.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use actix_web::HttpRequest;
use actix_web::http::header::ACCEPT_LANGUAGE;

use super::view::LANG_COOKIE;

type Messages = BTreeMap<&'static str, &'static str>;

fn parse(text: &'static str) -> Messages {
    // A test reads both files.
    let all: BTreeMap<String, String> = serde_json::from_str(text).unwrap_or_default();
    all.into_iter().map(|(key, message)| (&*key.leak(), &*message.leak())).collect()
}

static EN: LazyLock<Messages> = LazyLock::new(|| parse(include_str!("messages/en.json")));
static DE: LazyLock<Messages> = LazyLock::new(|| parse(include_str!("messages/de.json")));

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// German.
    De,
}

impl Lang {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::En, Self::De];

    /// The one that a person has chosen, or else the browser.
    pub fn of_request(request: &HttpRequest) -> Self {
        let chosen = request.cookie(LANG_COOKIE).and_then(|cookie| Self::of_code(cookie.value()));
        let asked = request.headers().get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        chosen.unwrap_or_else(|| Self::accepted(asked))
    }

    /// Its code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    /// Its own name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::De => "Deutsch",
        }
    }

    /// The language of a code like `de-AT`.
    pub fn of_code(code: &str) -> Option<Self> {
        let code = code.split(['-', '_']).next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|lang| lang.code().eq_ignore_ascii_case(code))
    }

    /// The first language of ours that the browser asks for (RFC 9110, 12.5.4).
    pub fn accepted(header: &str) -> Self {
        let weight = |part: &str| {
            let given = part.split(';').skip(1).find_map(|more| more.trim().strip_prefix("q="));
            given.map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0))
        };
        let mut wanted: Vec<(f32, &str)> = header.split(',').map(|part| (weight(part), part)).collect();
        wanted.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let known = wanted.into_iter().filter(|(q, _)| *q > 0.0);
        known.filter_map(|(_, part)| Self::of_code(part.split(';').next()?)).next().unwrap_or_default()
    }

    fn messages(self) -> &'static Messages {
        match self {
            Self::En => &EN,
            Self::De => &DE,
        }
    }

    /// A message; what is missing shows its key.
    pub fn t(self, key: &str) -> &'static str {
        self.find(key).unwrap_or("?")
    }

    /// A message, if there is one.
    pub fn find(self, key: &str) -> Option<&'static str> {
        self.messages().get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_first_known_language_of_the_browser_is_taken() {
        for (header, wanted) in [
            ("de-AT,de;q=0.9,en;q=0.8", Lang::De),
            ("fr,en;q=0.3,de;q=0.7", Lang::De),
            ("fr", Lang::En),
            ("", Lang::En),
            ("de;q=0,en", Lang::En),
        ] {
            assert_eq!(Lang::accepted(header), wanted, "{header}");
        }
    }

    fn sources(folder: &Path, into: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "html") {
                into.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    fn is_key(text: &str) -> bool {
        text.contains('.') && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._".contains(&b))
    }

    /// Keys that are put together from a word of the program, and their beginnings.
    const FAMILIES: &[&str] = &[
        "access.",
        "action.",
        "cause.",
        "change.",
        "check.",
        "copy.",
        "direction.",
        "doctor.check.",
        "expiring.",
        "field.",
        "hold.",
        "job.",
        "kind.",
        "kinds.",
        "line.",
        "mode.",
        "preference.",
        "preview.",
        "rule.",
        "side.",
        "state.",
        "step.",
        "subscription.",
        "system.",
        "theme.",
    ];

    #[test]
    fn every_message_is_there_in_every_language_and_every_one_is_used() {
        let (en, de): (BTreeSet<_>, BTreeSet<_>) = (EN.keys().collect(), DE.keys().collect());
        assert!(!en.is_empty());
        assert_eq!(en.symmetric_difference(&de).collect::<Vec<_>>(), Vec::<&&&str>::new(), "not in both");
        let mut text = String::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/ui"), &mut text);
        let quoted: BTreeSet<&str> = text.split('"').filter(|part| is_key(part)).collect();
        let missing: Vec<_> = text
            .match_indices("t(\"")
            .chain(text.match_indices("f1(\""))
            .chain(text.match_indices("f2(\""))
            .filter_map(|(at, start)| text[at + start.len()..].split('"').next())
            .filter(|key| is_key(key) && !EN.contains_key(key))
            .collect();
        assert!(missing.is_empty(), "not in the files: {missing:?}");
        let family = |key: &str| FAMILIES.iter().any(|start| key.starts_with(start));
        // What is said of one thing.
        let is_singular = |key: &str| key.strip_suffix(".one").is_some_and(|key| quoted.contains(key));
        let unused: Vec<_> =
            EN.keys().filter(|key| !quoted.contains(**key) && !family(key) && !is_singular(key)).collect();
        assert!(unused.is_empty(), "in no page: {unused:?}");
    }

    #[test]
    fn places_for_values_are_the_same_in_every_language() {
        for (key, text) in EN.iter() {
            for place in ["{0}", "{1}", "{2}"] {
                assert_eq!(text.contains(place), DE[key].contains(place), "{key}");
            }
        }
    }
}
