//! Mistakes in the configuration are named, with the nearest right key.

use std::collections::BTreeMap;
use std::process::Output;

use crate::support::command;

fn run(args: &[&str], variables: &[(&str, &str)], toml: Option<&str>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}/x.db?mode=rwc", folder.path().display());
    let mut env: BTreeMap<String, String> = BTreeMap::from([("DATABASE__URL".to_owned(), database)]);
    env.extend(variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    if let Some(toml) = toml {
        std::fs::write(folder.path().join("given.toml"), toml).unwrap();
    }
    command(args, &env, folder.path())
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "it was accepted");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_unknown_variable_is_named_with_its_nearest_neighbour() {
    let text = complaint(&run(&["migrate", "status"], &[("SERVER__BNID", "127.0.0.1:1")], None));
    assert!(text.contains("ESPO_OUTLOOK_SERVER__BNID") && text.contains("server.bind"), "{text}");
}

#[test]
fn an_unknown_key_of_the_file_is_named_with_file_and_nearest_neighbour() {
    let toml = "[sync]\npol_interval = \"5s\"\n";
    let text = complaint(&run(&["--config", "given.toml", "migrate", "status"], &[], Some(toml)));
    assert!(
        text.contains("sync.pol_interval") && text.contains("sync.poll_interval") && text.contains("given.toml"),
        "{text}"
    );
}

#[test]
fn wrong_values_are_all_named_at_once_with_what_is_expected() {
    let toml = "[schedule]\nmeeting = \"every now and then\"\n[sync]\npoll_interval = \"soon\"\n";
    let variables = [("WORKER__CONCURRENCY", "many"), ("SERVER__PUBLIC_URL", "http://crm.example.com")];
    let text = complaint(&run(&["--config", "given.toml", "migrate", "status"], &variables, Some(toml)));
    for key in ["schedule.meeting", "sync.poll_interval", "worker.concurrency", "server.public_url"] {
        assert!(text.contains(key), "{key} is not named: {text}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    let text = complaint(&run(&["--config", "absent.toml", "migrate", "status"], &[], None));
    assert!(text.contains("absent.toml"), "{text}");
    let text = complaint(&run(&["--config", "given.toml", "migrate", "status"], &[], Some("[server\nbind")));
    assert!(text.contains("given.toml") && text.contains("TOML"), "{text}");
}

#[test]
fn secrets_are_not_repeated_in_a_complaint() {
    let variables = [("SECURITY__ENCRYPTION_KEY", "much-too-short-secret"), ("MICROSOFT__CLIENT_SECRET", "hush-hush")];
    let output = run(&["migrate", "up"], &variables, None);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("much-too-short-secret") && !text.contains("hush-hush"), "{text}");
}

#[test]
fn a_sound_configuration_is_accepted_and_the_schema_goes_up() {
    let toml = "[sync]\npoll_interval = \"5s\"\n";
    let output = run(&["--config", "given.toml", "migrate", "up"], &[], Some(toml));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
