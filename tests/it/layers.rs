//! Who may use whom, held against the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Modules by name, and what each may never use. The crate's own packages are others' matter.
const NEVER: &[(&str, &[&str])] = &[
    ("main", &["app", "http", "work", "schedule"]),
    ("app", &["cli"]),
    ("http", &["cli"]),
    ("work", &["http", "cli"]),
    ("schedule", &["http", "cli"]),
    ("queue", &["app", "http", "work", "schedule", "cli"]),
    ("config", &["app", "http", "work", "schedule", "cli"]),
    ("vault", &["app", "http", "work", "schedule", "cli"]),
    ("clock", &["app", "http", "work", "schedule", "cli"]),
    ("id", &["app", "http", "work", "schedule", "cli"]),
    ("trace", &["app", "http", "work", "schedule", "cli"]),
    ("telemetry", &["app", "http", "work", "schedule", "cli"]),
];

/// Packages of their own below `src`.
const PACKAGES: [&str; 5] = ["sync", "circuit", "store", "espocrm", "graph"];

/// The modules that a source names below `crate::` (or below the crate's name), comments left out.
fn used(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut found = BTreeSet::new();
    for prefix in ["crate::", "espo_outlook::"] {
        for (at, _) in code.match_indices(prefix) {
            let rest = &code[at + prefix.len()..];
            let name =
                |text: &str| text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
            match rest.strip_prefix('{') {
                None => drop(found.insert(name(rest))),
                Some(group) => {
                    let mut depth = 0;
                    let mut start = true;
                    for (at, c) in group.char_indices() {
                        if start && c.is_ascii_alphabetic() {
                            found.insert(name(&group[at..]));
                            start = false;
                        }
                        match c {
                            '{' => depth += 1,
                            '}' if depth == 0 => break,
                            '}' => depth -= 1,
                            ',' if depth == 0 => start = true,
                            _ => {}
                        }
                    }
                }
            }
        }
    }
    found
}

fn sources(folder: &Path, module: Option<&str>, into: &mut BTreeMap<String, Vec<(String, String)>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let module = module.unwrap_or(&stem);
        if path.is_dir() && !(folder.ends_with("src") && PACKAGES.contains(&stem.as_str())) {
            sources(&path, Some(module), into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            into.entry(module.to_owned()).or_default().push((path.display().to_string(), text));
        }
    }
}

#[test]
fn the_modules_use_each_other_only_as_the_table_says() {
    let mut modules = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut modules);
    for name in ["main", "app", "http", "work", "schedule", "cli"] {
        assert!(modules.contains_key(name), "there is no module {name}: {:?}", modules.keys());
    }
    let mut wrong = Vec::new();
    for (module, never) in NEVER {
        for (path, text) in modules.get(*module).into_iter().flatten() {
            let uses = used(text);
            wrong.extend(never.iter().filter(|name| uses.contains(**name)).map(|name| format!("{path} uses {name}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(modules["http"].iter().any(|(_, text)| used(text).contains("app")), "nothing is read from the sources");
}

#[test]
fn uses_are_found_in_every_form() {
    let source =
        "use crate::http::x;\nuse crate::{cli::Cli, work::{a, schedule}};\n// crate::queue\nfn f() { crate::app::g() }";
    let wanted = ["app", "cli", "http", "work"].map(str::to_owned);
    assert_eq!(used(source), BTreeSet::from(wanted));
}
