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

/// Runs a command that must succeed; gives what it says.
fn said(world: &World, args: &[&str]) -> String {
    let (success, said, wrong) = output(world, args);
    assert!(success, "{args:?}: {wrong}");
    said
}

#[test]
fn whatever_the_pages_decide_the_command_line_decides_too() {
    let world = World::start();
    let anna = world.id("anna");
    // Settings, with a secret from a file; rules of everybody and of one; schedules; roles.
    let secret = world.folder().join("new-key");
    std::fs::write(&secret, "a-new-key\n").unwrap();
    let table = said(&world, &["settings", "set", "events_per_iteration=7", "microsoft.secret_expires=2030-01-31"]);
    assert!(table.contains("events_per_iteration") && table.contains("2030-01-31"), "{table}");
    assert_eq!(world.get("/settings")["events_per_iteration"], 7);
    let file = format!("espocrm.secret_key=@{}", secret.display());
    assert!(!said(&world, &["settings", "set", &file]).contains("a-new-key"));
    assert_eq!(world.get("/settings")["secrets"]["espocrm.secret_key"], true);
    said(&world, &["settings", "set", "espocrm.secret_key="]);
    assert_eq!(world.get("/settings")["secrets"]["espocrm.secret_key"], false);
    said(&world, &["rules", "set", "meeting.priority=espo", "own_domains=contoso.example,fabrikam.example"]);
    assert_eq!(world.get("/rules")["own_domains"], json!(["contoso.example", "fabrikam.example"]));
    let table = said(&world, &["rules", "set", "call.priority=outlook", "--user", &anna]);
    assert!(table.lines().any(|line| line.starts_with("call.priority") && line.ends_with("user")), "{table}");
    said(&world, &["rules", "reset", "--user", &anna]);
    assert_eq!(json_of(&world, &["rules", "--user", &anna, "--json"])["overrides"], json!({}));
    assert!(said(&world, &["schedules", "set", "task=0 5 * * *"]).contains("0 5 * * *"));
    let (success, _, wrong) = output(&world, &["schedules", "set", "task=never"]);
    assert!(!success && wrong.contains("(400)"), "{wrong}");
    said(&world, &["roles", "set", "some-role", "access=edit", "token=no"]);
    assert_eq!(world.items("/roles")[0]["fields"], json!({ "token": "no" }));
    said(&world, &["roles", "set", "some-role", "token="]);
    assert_eq!(json_of(&world, &["roles", "--json"])["items"][0], json!({ "role_id": "some-role", "access": "edit" }));
    said(&world, &["roles", "forget", "some-role"]);
    assert_eq!(world.items("/roles").len(), 0);
    // People.
    let table = said(&world, &["users", "--state", "active"]);
    assert!(table.contains(&anna) && table.contains("anna@contoso.example"), "{table}");
    let lists = json_of(&world, &["users", &anna, "--lists", "--json"])["todo_lists"].clone();
    assert!(lists.as_array().is_some_and(|lists| lists.iter().any(|list| list["is_default"] == true)), "{lists}");
    said(&world, &["bind", &anna, "--enabled", "false"]);
    assert_eq!(world.user("anna")["state"], "paused");
    said(&world, &["bind", &anna, "--sync-from", "2026-11-01"]);
    assert_eq!(world.user("anna")["sync_from"], "2026-11-01");
    assert!(said(&world, &["authorize", &anna]).contains("/oauth/microsoft/start?ticket="));
    said(&world, &["unbind", &anna]);
    assert_eq!(world.user("anna")["state"], "unbound");
    // All of it is noted, and everybody who is signed in is listed.
    let audit = said(&world, &["audit", "--action", "rules.update"]);
    assert!(audit.contains("meeting.priority") || audit.contains("priority=espo"), "{audit}");
    let _site = world.admin_site();
    let session = json_of(&world, &["sessions", "--json"])["items"][0]["id"].as_str().unwrap().to_owned();
    said(&world, &["sessions", "end", &session]);
    assert_eq!(world.items("/sessions").len(), 0);
}

#[test]
fn what_happened_is_looked_at_and_taken_back_on_the_command_line() {
    let world = World::start();
    let (record, _) = world.pair("First", json!({}));
    for name in ["Second", "Third"] {
        world.espo_update(&record, json!({ "name": name }));
        world.one_event("anna", name);
        world.settle();
    }
    let entries = world.history(&format!("record_id={record}&type=update"));
    let (newest, oldest) = (entries[0]["id"].as_str().unwrap(), entries[1]["id"].as_str().unwrap());
    let shown = said(&world, &["history", newest]);
    assert!(shown.contains("title") && shown.contains("Second") && shown.contains("Third"), "{shown}");
    let since = entries[1]["at"].as_str().unwrap();
    // By itself the older one was changed since; together they would be taken back, the newest first.
    let (success, _, wrong) = output(&world, &["revert", oldest]);
    assert!(!success && wrong.contains("changed"), "{wrong}");
    let range = ["revert", "--record", &record, "--since", since, "--dry-run", "--json"];
    let would = json_of(&world, &range);
    assert_eq!(would["preview"].as_array().unwrap().len(), 2, "{would}");
    assert_eq!((&would["reverted"], &would["skipped"]), (&json!([]), &json!([])), "{would}");
    assert_eq!(world.espo.get_record("Meeting", &record).unwrap()["name"], "Third", "nothing was done");
    let done = json_of(&world, &["revert", "--record", &record, "--since", since, "--json"]);
    assert_eq!(done["skipped"], json!([]), "{done}");
    world.one_event("anna", "First");
    let (success, _, wrong) = output(&world, &["revert", "--until", "2026-11-22"]);
    assert!(!success && wrong.contains("required"), "{wrong}");
    // A preview as a table, runs, the state of the parts, subscriptions, the switch, the log.
    assert!(said(&world, &["sync", "--dry-run"]).contains("CREATE"));
    assert!(said(&world, &["jobs"]).contains("dry_run=true"));
    let status = said(&world, &["status"]);
    assert!(status.contains("espocrm") && status.contains("client_secret") && status.contains("requests"), "{status}");
    assert!(said(&world, &["subscriptions"]).contains("active"));
    assert!(said(&world, &["renew"]).contains("being renewed"));
    said(&world, &["switch", "meeting", &record, "off"]);
    assert_eq!(world.get(&format!("/records/meeting/{record}"))["enabled"], false);
    assert!(said(&world, &["log"]).contains("INFO"));
    assert!(said(&world, &["holds"]).starts_with("ID"));
    let message = world.items("/messages?state=done")[0]["id"].as_str().unwrap().to_owned();
    assert!(said(&world, &["messages", &message]).contains("attempts"));
    assert_eq!(json_of(&world, &["replay", &message, "--json"])["replayed"], 1);
    assert_eq!(json_of(&world, &["replay", "--since", "2020-01-01", "--until", "2020-01-02", "--json"])["replayed"], 0);
    said(&world, &["discard", &message]);
    assert_eq!(world.call("GET", &format!("/messages/{message}"), None).0, 404);
    let (success, _, wrong) = output(&world, &["discard", &message]);
    assert!(!success && wrong.contains("not there"), "{wrong}");
    assert_eq!(json_of(&world, &["discard", "--all-dead", "--json"])["discarded"], 0);
    assert!(json_of(&world, &["migrate", "status", "--json"]).as_array().is_some_and(|all| !all.is_empty()));
    assert_eq!(json_of(&world, &["health", "--json"])["status"], "ready");
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
