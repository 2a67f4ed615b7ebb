//! The command line against a running service.

use serde_json::{Value, json};

use crate::support::{World, command};

fn output(world: &World, args: &[&str]) -> (bool, String, String) {
    let done = world.product.command(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.success(), text(&done.stdout), text(&done.stderr))
}

fn json_of(world: &World, args: &[&str]) -> Value {
    let (success, said, wrong) = output(world, args);
    assert!(success, "{args:?}: {wrong}");
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{args:?} prints no JSON: {said}"))
}

#[test]
fn commands_talk_to_the_running_service_and_print_tables_or_json() {
    let mut world = World::start();
    let (record, _) = world.pair("On the command line", json!({}));
    assert_eq!(json_of(&world, &["sync", "--dry-run", "--json"])["state"], "done");
    assert!(json_of(&world, &["messages", "--json"])["items"].as_array().is_some_and(|items| !items.is_empty()));
    let history = json_of(&world, &["history", "--record", &record, "--json"]);
    let entry = history["items"][0]["id"].as_str().unwrap().to_owned();
    let (success, table, _) = output(&world, &["history", "--record", &record]);
    assert!(success && table.starts_with("ID ") && table.contains(&record), "{table}");
    assert!(json_of(&world, &["explain", "meeting", &record, "--json"])["summary"].is_string());
    assert_eq!(json_of(&world, &["revert", &entry, "--json"])["skipped"], json!([]));
    let (success, said, _) = output(&world, &["replay", "--all-dead"]);
    assert!(success && said.contains('0'), "{said}");
    let (success, _, wrong) = output(&world, &["revert", "nothing-of-that-id"]);
    assert!(!success && wrong.contains("(404)"), "{wrong}");
    assert_eq!(output(&world, &["health"]).1.trim(), "ready");
    world.settle();
    assert!(world.product.stop());
    let (success, _, wrong) = output(&world, &["health"]);
    assert!(!success && wrong.contains("does not answer"), "{wrong}");
    let (success, _, wrong) = output(&world, &["history"]);
    assert!(!success && wrong.contains("espo-outlook serve"), "{wrong}");
}

#[test]
fn completions_and_exit_codes_are_there_without_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let done = command(&["completions", shell], &Default::default(), folder.path());
        let script = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && script.contains("espo-outlook") && script.contains("dry-run"), "{shell}");
    }
    let help = command(&["--help"], &Default::default(), folder.path());
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes:"));
    let wrong = command(&["sinc"], &Default::default(), folder.path());
    assert_eq!(wrong.status.code(), Some(2));
}
