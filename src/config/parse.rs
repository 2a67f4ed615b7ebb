//! Texts of the configuration as values. Each function says in its error what it expects; the reader adds the key.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use graph::certificate::Certificate;
use secrecy::SecretString;
use url::{Host, Url};

use super::{LogFormat, Mode};
use crate::vault::Vault;

type Parsed<T> = Result<T, String>;

/// Any text.
pub fn text(text: &str) -> Parsed<String> {
    Ok(text.to_owned())
}

/// A text that nobody should read.
pub fn secret(text: &str) -> Parsed<SecretString> {
    Ok(SecretString::from(text))
}

/// A key that seals secrets.
pub fn encryption_key(text: &str) -> Parsed<SecretString> {
    let key = SecretString::from(text);
    match Vault::with_key(&key) {
        Ok(_) => Ok(key),
        Err(_) => Err("expected 32 bytes in base64; make a key with `openssl rand -base64 32`".to_owned()),
    }
}

/// Several of them, with commas in between.
pub fn encryption_keys(text: &str) -> Parsed<Vec<SecretString>> {
    list(text)?.iter().map(|key| encryption_key(key)).collect()
}

/// A bearer token: it travels in a header.
pub fn admin_token(text: &str) -> Parsed<SecretString> {
    if text.len() < 8 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected at least 8 visible ASCII characters without spaces".to_owned());
    }
    secret(text)
}

/// A PEM file that holds a certificate and its private key, or its text.
pub fn certificate(text: &str) -> Parsed<Certificate> {
    let expected = |why: &dyn std::fmt::Display| {
        format!("expected a PEM file that holds the certificate and its RSA private key ({why})")
    };
    let pem = match text.starts_with("-----BEGIN") {
        true => text.as_bytes().to_vec(),
        false => std::fs::read(text).map_err(|error| expected(&error))?,
    };
    Certificate::from_pem(&pem).map_err(|error| expected(&error))
}

/// A path.
pub fn path(text: &str) -> Parsed<PathBuf> {
    Ok(PathBuf::from(text))
}

/// A list, separated by commas.
pub fn list(text: &str) -> Parsed<Vec<String>> {
    Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
}

/// A number.
pub fn number<T: FromStr>(text: &str) -> Parsed<T> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

/// A number above zero.
pub fn positive<T: FromStr + Default + PartialOrd>(text: &str) -> Parsed<T> {
    number(text)
        .ok()
        .filter(|number| *number > T::default())
        .ok_or_else(|| "expected a whole number above 0".to_owned())
}

/// `true` or `false`.
pub fn yes_or_no(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| "expected true or false".to_owned())
}

/// `250ms`, `1s`, `15m`, `2h`, `14d`.
pub fn duration(text: &str) -> Parsed<Duration> {
    let expected = || "expected a duration like 250ms, 1s, 15m, 2h or 14d".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let millis = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(expected)
}

/// A duration above zero.
pub fn pause(text: &str) -> Parsed<Duration> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("expected a duration above zero".to_owned()) } else { Ok(duration) }
}

/// A duration that a busy machine does not exceed between two signs of life.
pub fn silence(text: &str) -> Parsed<Duration> {
    let duration = duration(text)?;
    if duration < Duration::from_secs(2) { Err("expected a duration of at least 2s".to_owned()) } else { Ok(duration) }
}

/// `4MiB`, `512KiB`, `1GiB`, `4MB`, `1048576`.
pub fn size(text: &str) -> Parsed<usize> {
    let expected = || "expected a size like 4MiB, 512KiB or 1048576".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let number: usize = number.parse().map_err(|_| expected())?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(expected()),
    };
    number.checked_mul(factor).filter(|size| *size > 0).ok_or_else(expected)
}

/// An address to listen on.
pub fn address(text: &str) -> Parsed<SocketAddr> {
    let expected = || "expected an address and a port like 127.0.0.1:8080".to_owned();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    text.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(expected)
}

/// An `http` or `https` address.
pub fn url(text: &str) -> Parsed<Url> {
    let expected = || "expected an address like https://crm.example.com".to_owned();
    let url = Url::parse(text).map_err(|_| expected())?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() { Ok(url) } else { Err(expected()) }
}

/// True for an address of this machine only.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// The public address: https, or http on loopback (EspoCRM and Microsoft send secrets to it).
pub fn public_url(text: &str) -> Parsed<Url> {
    let url = url(text)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err("expected an https address; plain http is accepted for loopback addresses only".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected an address without a query and without a fragment".to_owned());
    }
    Ok(url)
}

/// The address of a database.
pub fn database_url(text: &str) -> Parsed<SecretString> {
    const KNOWN: [&str; 5] = ["sqlite:", "postgres:", "postgresql:", "mysql:", "mariadb:"];
    if KNOWN.iter().any(|scheme| text.starts_with(scheme)) {
        return secret(text);
    }
    Err("expected an address that begins with sqlite://, postgres:// or mysql://".to_owned())
}

/// The address of a queue.
pub fn queue_url(text: &str) -> Parsed<SecretString> {
    let is_broker = text.starts_with("amqp://") || text.starts_with("amqps://");
    if text == "embedded:" || (is_broker && text.parse::<lapin::uri::AMQPUri>().is_ok()) {
        return secret(text);
    }
    // The value is not repeated: it may hold a password.
    Err("expected embedded:, or the address of a RabbitMQ like amqp://user:password@host:5672/vhost (amqps:// with TLS; \
         special characters in user, password and vhost as %2F and the like)"
        .to_owned())
}

/// The beginning of names of queues.
pub fn queue_prefix(text: &str) -> Parsed<String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=100).contains(&text.len()) && text.bytes().all(is_word) && !text.starts_with("amq.") {
        return Ok(text.to_owned());
    }
    Err("expected up to 100 letters, digits, `-`, `_` and `.`, not beginning with `amq.`".to_owned())
}

/// `delegated` or `application`.
pub fn mode(text: &str) -> Parsed<Mode> {
    match text {
        "delegated" => Ok(Mode::Delegated),
        "application" => Ok(Mode::Application),
        _ => Err("expected delegated or application".to_owned()),
    }
}

/// `error`, `warn`, `info`, `debug` or `trace`.
pub fn log_level(text: &str) -> Parsed<String> {
    let level = text.to_ascii_lowercase();
    if ["error", "warn", "info", "debug", "trace"].contains(&level.as_str()) {
        return Ok(level);
    }
    Err("expected error, warn, info, debug or trace".to_owned())
}

/// `auto`, `text` or `json`.
pub fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected auto, text or json".to_owned()),
    }
}

/// A cron expression of 5 fields, or of 6 with the seconds first.
///
/// # Errors
///
/// A sentence that says what is wrong with it.
pub fn cron(text: &str) -> Parsed<Cron> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| format!("expected a cron expression like */10 * * * * ({error})"))
}

/// A cron expression that is kept as text.
pub fn cron_text(text: &str) -> Parsed<String> {
    cron(text).map(|_| text.to_owned())
}
