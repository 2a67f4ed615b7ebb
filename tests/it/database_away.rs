//! The database server is killed and comes back. PostgreSQL, or MariaDB when `TEST_DATABASE_URL` names one; a server of the
//! test's own, as the others would miss theirs.

use serde_json::json;

use crate::support::{Server, Setup, World, without_servers};

/// The state of `/readyz`, and of the database in it.
fn readiness(world: &World) -> (u16, String) {
    let (status, _, text) = world.http("GET", "/readyz", &[], None);
    let body: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    (status, body["parts"]["database"]["state"].as_str().unwrap_or_default().to_owned())
}

/// Kills and restarts the server while people work; whatever processes there are, nothing of theirs is restarted.
fn killed_and_restarted(setup: Setup) {
    let server = Server::start();
    let world = setup.server(&server.url).start();
    let (record, event) = world.pair("Before", json!({}));
    for n in 0..8 {
        world.espo_create("anna", &format!("E{n}"), json!({}));
        world.outlook_create("anna", &format!("O{n}"), json!({}));
    }
    server.kill();
    world.eventually("readyz says so", || readiness(&world) == (503, "failed".to_owned()));
    // EspoCRM and Microsoft try again later what was answered with 503.
    world.espo_update(&record, json!({ "name": "Meanwhile" }));
    world.espo_create("anna", "Made meanwhile", json!({}));
    world.eventually("a webhook is refused for now", || {
        world.espo.deliveries().iter().any(|delivery| delivery.status == 503)
    });
    world.never("it ends", 2, || world.http("GET", "/healthz", &[], None).0 != 200);
    server.start_again();
    world.eventually("readyz says so", || readiness(&world).0 == 200);
    world.eventually("what was changed arrives", || world.event("anna", &event)["subject"] == "Meanwhile");
    for name in (0..8).map(|n| format!("E{n}")).chain(["Made meanwhile".to_owned()]) {
        world.one_event("anna", &name);
    }
    for n in 0..8 {
        world.one_record(&format!("O{n}"));
    }
    world.settle_within(90);
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (18, 18));
    world.is_at_rest();
    // The server is to go after those who use it.
    drop(world);
    drop(server);
}

#[test]
fn a_database_that_is_killed_and_restarted_loses_nothing_and_nobody_has_to_help() {
    if !without_servers() {
        killed_and_restarted(Setup::default());
    }
}

#[test]
fn so_it_is_with_three_processes() {
    if !without_servers() {
        let processes = &["receiver", "worker,scheduler", "worker,scheduler"];
        killed_and_restarted(Setup::default().processes(processes).env("SERVER__SILENCE", "5s"));
    }
}

#[test]
fn without_a_database_it_says_at_the_start_which_setting_to_look_at() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = |scheme: &str| {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("{scheme}://nobody:hush@127.0.0.1:{port}/nothing");
        let env = [("DATABASE__URL".to_owned(), url), ("SERVER__BIND".to_owned(), "127.0.0.1:0".to_owned())].into();
        let done = crate::support::command(&["serve"], &env, folder.path());
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains("database.url") && !said.contains("hush"), "{said}");
    };
    // It waits a while for a server that may be starting as well.
    std::thread::scope(|scope| {
        scope.spawn(|| start("postgres"));
        scope.spawn(|| start("mysql"));
    });
}
