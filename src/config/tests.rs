use std::io::Write as _;

use secrecy::ExposeSecret as _;

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn wrong(result: Result<Config, ConfigError>) -> String {
    result.expect_err("a wrong configuration").to_string()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = Config::defaults().unwrap();
    assert_eq!(config.server.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.max_body, 4 << 20);
    assert_eq!(config.database.url.expose_secret(), "sqlite://espo-outlook.db?mode=rwc");
    assert_eq!(config.queue.url.expose_secret(), "embedded:");
    assert_eq!(config.sync.poll_interval, Duration::from_secs(15));
    assert_eq!(config.sync.deletion_grace, Duration::from_secs(10));
    assert_eq!(config.worker.retry_max, Duration::from_secs(900));
    assert_eq!(config.worker.max_attempts, 12);
    assert_eq!(config.schedule.task, "*/10 * * * *");
    assert_eq!(config.microsoft.graph_url.as_str(), "https://graph.microsoft.com/v1.0");
}

#[test]
fn a_variable_goes_before_the_file() {
    let file = file("[server]\nbind = \"127.0.0.1:1111\"\n[sync]\nhorizon_days = 30\n");
    let config = load(Some(file.path()), variables(&[("ESPO_OUTLOOK_SERVER__BIND", "127.0.0.1:2222")])).unwrap();
    assert_eq!(config.server.bind.port(), 2222);
    assert_eq!(config.sync.horizon_days, 30);
}

#[test]
fn an_unknown_key_is_named_with_its_nearest_neighbour() {
    let file = file("[server]\nbnd = \"127.0.0.1:1111\"\n");
    let sentence = wrong(load(Some(file.path()), []));
    assert!(sentence.contains("unknown key server.bnd"), "{sentence}");
    assert!(sentence.contains("did you mean server.bind?"), "{sentence}");
}

#[test]
fn an_unknown_variable_is_named_with_its_nearest_neighbour() {
    let sentence = wrong(load(None, variables(&[("ESPO_OUTLOOK_SYNC__POL_INTERVAL", "1s")])));
    assert!(sentence.contains("sync.pol_interval from ESPO_OUTLOOK_SYNC__POL_INTERVAL"), "{sentence}");
    assert!(sentence.contains("sync.poll_interval?"), "{sentence}");
}

#[test]
fn a_variable_with_one_underscore_too_few_is_told_and_foreign_ones_are_let_be() {
    let sentence = wrong(load(None, variables(&[("ESPO_OUTLOOK_SERVER_BIND", "127.0.0.1:1")])));
    assert!(sentence.contains("ESPO_OUTLOOK_SERVER__BIND"), "{sentence}");
    assert!(load(None, variables(&[("ESPO_OUTLOOK_SERVICE_HOST", "10.0.0.1"), ("PATH", "/bin")])).is_ok());
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let pairs = [
        ("ESPO_OUTLOOK_SERVER__BIND", "here"),
        ("ESPO_OUTLOOK_SYNC__POLL_INTERVAL", "soon"),
        ("ESPO_OUTLOOK_SCHEDULE__CALL", "every day"),
        ("ESPO_OUTLOOK_ESPOCRM__ADMIN_USERNAME", "admin"),
    ];
    let sentence = wrong(load(None, variables(&pairs)));
    for key in ["server.bind", "sync.poll_interval", "schedule.call", "espocrm.admin_password"] {
        assert!(sentence.contains(key), "{key} is missing in: {sentence}");
    }
}

#[test]
fn an_empty_variable_counts_as_left_out() {
    let config = load(None, variables(&[("ESPO_OUTLOOK_SERVER__PUBLIC_URL", "")])).unwrap();
    assert!(config.server.public_url.is_none());
}

#[test]
fn plain_http_is_accepted_for_loopback_only() {
    assert!(parse::public_url("http://127.0.0.1:8080").is_ok());
    assert!(parse::public_url("http://localhost:8080").is_ok());
    assert!(parse::public_url("http://[::1]:8080").is_ok());
    assert!(parse::public_url("https://sync.example.com").is_ok());
    assert!(parse::public_url("http://sync.example.com").is_err());
    assert!(parse::public_url("http://localhost.example.com").is_err());
    assert!(parse::public_url("ftp://sync.example.com").is_err());
}

#[test]
fn durations_have_units() {
    assert_eq!(parse::duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(parse::duration("1s"), Ok(Duration::from_secs(1)));
    assert_eq!(parse::duration("15m"), Ok(Duration::from_secs(900)));
    assert_eq!(parse::duration("2h"), Ok(Duration::from_secs(7200)));
    assert_eq!(parse::duration("14d"), Ok(Duration::from_secs(14 * 86_400)));
    for text in ["15", "s", "", "-1s", "1.5s", "1w", "99999999999999999999d", "18446744073709551615d"] {
        assert!(parse::duration(text).is_err(), "{text}");
    }
    assert!(parse::pause("0s").is_err());
}

#[test]
fn sizes_have_units() {
    assert_eq!(parse::size("4MiB"), Ok(4 << 20));
    assert_eq!(parse::size("512KiB"), Ok(512 << 10));
    assert_eq!(parse::size("1048576"), Ok(1 << 20));
    for text in ["", "MiB", "0", "4 MiBs", "-1"] {
        assert!(parse::size(text).is_err(), "{text}");
    }
}

#[test]
fn cron_has_five_fields_or_six() {
    assert!(parse::cron("*/10 * * * *").is_ok());
    assert!(parse::cron("0 */10 * * * *").is_ok());
    assert!(parse::cron("* * * *").is_err());
    assert!(parse::cron("0 0 0 1 1 1 2027").is_err());
    assert!(parse::cron("61 * * * *").is_err());
}

#[test]
fn the_debug_form_shows_no_secret() {
    let pairs = [
        ("ESPO_OUTLOOK_SERVER__ADMIN_TOKEN", "hush-admin"),
        ("ESPO_OUTLOOK_DATABASE__URL", "postgres://u:hush@db/x"),
        ("ESPO_OUTLOOK_QUEUE__URL", "amqp://u:hush@mq"),
        ("ESPO_OUTLOOK_SECURITY__ENCRYPTION_KEY", "hushAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("ESPO_OUTLOOK_ESPOCRM__API_KEY", "hush"),
        ("ESPO_OUTLOOK_ESPOCRM__SECRET_KEY", "hush"),
        ("ESPO_OUTLOOK_ESPOCRM__ADMIN_USERNAME", "admin"),
        ("ESPO_OUTLOOK_ESPOCRM__ADMIN_PASSWORD", "hush"),
        ("ESPO_OUTLOOK_MICROSOFT__CLIENT_SECRET", "hush"),
    ];
    let shown = format!("{:?}", load(None, variables(&pairs)).unwrap());
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn every_key_is_read_by_something() {
    // A key that nobody reads would accept any text: each refuses a list of tables, and most refuse nonsense.
    for key in KEYS {
        let (section, name) = key.split_once('.').unwrap();
        let file = file(&format!("[{section}]\n{name} = [[1]]\n"));
        let sentence = wrong(load(Some(file.path()), []));
        assert!(sentence.contains(key), "{key}: {sentence}");
    }
}

#[test]
fn pairs_come_from_the_file_or_as_json_from_a_variable() {
    let file = file("[[pairs]]\nkind = \"meeting\"\nespo = \"cCode\"\noutlook = \"property:Code\"\n");
    assert_eq!(load(Some(file.path()), []).unwrap().pairs[0].espo, "cCode");
    let json = r#"[{"kind": "call", "espo": "cVip", "outlook": "category:VIP"}]"#;
    let config = load(Some(file.path()), variables(&[("ESPO_OUTLOOK_PAIRS", json)])).unwrap();
    assert_eq!((config.pairs.len(), config.pairs[0].espo.as_str()), (1, "cVip"));
    let sentence = wrong(load(None, variables(&[("ESPO_OUTLOOK_PAIRS", r#"[{"kin": "call"}]"#)])));
    assert!(sentence.contains("did you mean kind?") && sentence.contains("ESPO_OUTLOOK_PAIRS"), "{sentence}");
}
