//! Where the configuration comes from, and what is wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{File, FileFormat};
use serde_json::Value;

use super::Config;

const PREFIX: &str = "ESPO_OUTLOOK_";

/// Every key there is.
pub const KEYS: &[&str] = &[
    "server.bind",
    "server.public_url",
    "server.admin_token",
    "server.max_body",
    "server.silence",
    "database.url",
    "queue.url",
    "queue.prefix",
    "security.encryption_key",
    "security.encryption_key_file",
    "security.previous_encryption_keys",
    "espocrm.url",
    "espocrm.api_key",
    "espocrm.secret_key",
    "espocrm.admin_username",
    "espocrm.admin_password",
    "espocrm.switch_field",
    "espocrm.marker_field",
    "espocrm.location_fields",
    "microsoft.tenant",
    "microsoft.client_id",
    "microsoft.client_secret",
    "microsoft.client_certificate",
    "microsoft.mode",
    "microsoft.authority",
    "microsoft.graph_url",
    "sync.events_per_iteration",
    "sync.poll_interval",
    "sync.horizon_days",
    "sync.deletion_grace",
    "sync.first_sync_hold_over",
    "sync.keep_messages",
    "sync.keep_audit",
    "sync.mailboxes_at_once",
    "sync.stream_notes",
    "schedule.meeting",
    "schedule.call",
    "schedule.task",
    "worker.concurrency",
    "worker.retry_base",
    "worker.retry_max",
    "worker.max_attempts",
    "circuit.failures",
    "circuit.pause",
    "circuit.longest_pause",
    "log.level",
    "log.filter",
    "log.format",
];

/// Keys whose value may also be the content of a file, named by the same key with `_file` behind it: as container platforms
/// hand out secrets.
const FROM_FILES: &[&str] = &[
    "server.admin_token",
    "database.url",
    "queue.url",
    "espocrm.api_key",
    "espocrm.secret_key",
    "espocrm.admin_password",
    "microsoft.client_secret",
];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("the configuration file {} is not valid TOML", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<config::ConfigError>,
    },
    /// Keys or values are wrong.
    #[error("the configuration is wrong: {}", .0.join("; "))]
    Wrong(Vec<String>),
}

/// Reads the file, if any, lays the variables over it and checks everything.
///
/// # Errors
///
/// A sentence for everything that is wrong.
pub fn load(file: Option<&Path>, variables: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
    let mut reader = Reader::default();
    if let Some(path) = file {
        reader.read_file(path)?;
    }
    reader.read_variables(variables);
    let config = Config::read(&mut reader);
    if config.as_ref().is_some_and(|c| c.espocrm.admin_username.is_some() != c.espocrm.admin_password.is_some()) {
        reader
            .wrong
            .push("espocrm.admin_username and espocrm.admin_password go together: give both or none".to_owned());
    }
    match config {
        Some(config) if reader.wrong.is_empty() => Ok(config),
        _ => Err(ConfigError::Wrong(reader.wrong)),
    }
}

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Variable(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Variable(name) => write!(f, "from {name}"),
        }
    }
}

/// Values by key, and what was found wrong.
#[derive(Debug, Default)]
pub(super) struct Reader {
    values: BTreeMap<String, (String, Source)>,
    pairs: Option<(Value, Source)>,
    wrong: Vec<String>,
}

impl Reader {
    /// The value of a key, else a default, which is written as it would be in the file; none if the default is wrong.
    pub(super) fn or<T>(&mut self, key: &str, default: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        if let Some(value) = self.maybe(key, parse) {
            return Some(value);
        }
        match parse(default) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.wrong.push(format!("the default of {key} is wrong: {expected}"));
                None
            }
        }
    }

    /// The value of a key.
    pub(super) fn maybe<T>(&mut self, key: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let (text, source) = self.values.get(key)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.wrong.push(format!("{key} {source}: {expected}"));
                None
            }
        }
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let file = |source| ConfigError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let toml = |source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) };
        let tree: BTreeMap<String, Value> = config::Config::builder()
            .add_source(File::from_str(&text, FileFormat::Toml))
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(toml)?;
        let source = Source::File(path.to_owned());
        for (section, value) in tree {
            match value {
                value if section == "pairs" => self.pairs = Some((value, source.clone())),
                Value::Object(keys) => {
                    for (key, value) in keys {
                        self.take(&format!("{section}.{key}"), &value, &source);
                    }
                }
                value => self.take(&section, &value, &source),
            }
        }
        Ok(())
    }

    fn read_variables(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let source = Source::Variable(name.clone());
            if rest == "PAIRS" {
                self.take_pairs(&value, source);
                continue;
            }
            if let Some((section, key)) = rest.split_once("__") {
                let key = format!("{}.{}", section.to_ascii_lowercase(), key.to_ascii_lowercase());
                self.take(&key, &Value::String(value), &source);
            } else if let Some((section, key)) = rest.split_once('_') {
                // Kubernetes sets variables like ESPO_OUTLOOK_SERVICE_HOST: only what looks like one of our keys is wrong.
                let known = format!("{}.{}", section.to_ascii_lowercase(), key.to_ascii_lowercase());
                if KEYS.contains(&known.as_str()) {
                    self.wrong.push(format!("{name} needs two underscores: {PREFIX}{section}__{key}"));
                }
            }
        }
    }

    /// The configured pairs of fields.
    pub(super) fn pairs(&mut self) -> Vec<sync::Pair> {
        let Some((value, source)) = &self.pairs else { return Vec::new() };
        super::pairs::parse(value).unwrap_or_else(|wrong| {
            self.wrong.extend(wrong.into_iter().map(|why| format!("{why} ({source})")));
            Vec::new()
        })
    }

    fn take_pairs(&mut self, text: &str, source: Source) {
        if text.trim().is_empty() {
            return;
        }
        match serde_json::from_str(text) {
            Ok(value) => self.pairs = Some((value, source)),
            Err(error) => self.wrong.push(format!("pairs {source}: expected JSON: {error}")),
        }
    }

    /// The content of a file as the value of a key.
    fn take_content(&mut self, key: &str, path: &Value, source: &Source) {
        match path.as_str().map(str::trim) {
            None => self.wrong.push(format!("{key}_file {source}: expected the path of a file")),
            Some("") => {}
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => self.take(key, &Value::String(text), source),
                Err(error) => self.wrong.push(format!("{key}_file {source}: {path} cannot be read: {error}")),
            },
        }
    }

    fn take(&mut self, key: &str, value: &Value, source: &Source) {
        if let Some(of_file) = key.strip_suffix("_file").filter(|key| FROM_FILES.contains(key)) {
            return self.take_content(of_file, value, source);
        }
        if !KEYS.contains(&key) {
            let near = nearest(key);
            self.wrong.push(format!("unknown key {key} {source}; did you mean {near}?"));
            return;
        }
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            Value::Null | Value::Array(_) | Value::Object(_) => {
                self.wrong.push(format!("{key} {source}: expected one value"));
                return;
            }
        };
        // An empty text is how compose files leave a variable out.
        if text.is_empty() {
            self.values.remove(key);
        } else {
            self.values.insert(key.to_owned(), (text, source.clone()));
        }
    }
}

/// The known key with the fewest edits.
pub(crate) fn nearest(key: &str) -> &'static str {
    nearest_of(key, KEYS).unwrap_or("server.bind")
}

/// The word with the fewest edits.
pub(crate) fn nearest_of<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known.iter().copied().min_by_key(|candidate| distance(word, candidate))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX - 1);
            let cost = (diagonal + usize::from(ca != *cb)).min(left + 1).min(above + 1);
            diagonal = above;
            if let Some(slot) = row.get_mut(j) {
                *slot = left;
            }
            left = cost;
        }
        if let Some(slot) = row.last_mut() {
            *slot = left;
        }
    }
    row.last().copied().unwrap_or_default()
}
