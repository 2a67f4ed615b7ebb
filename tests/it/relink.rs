//! Links that are rebuilt after a lost database, and the dry run that only tells which.

use serde_json::{Value, json};

use crate::support::{Setup, World};

fn relink(world: &World, args: &[&str]) -> Value {
    let args = [&["relink", "--json"], args].concat();
    let done = world.product.command(&args);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// A world of pairs whose links are lost, and in which nobody has looked since.
fn lost() -> World {
    let mut world = Setup::default()
        .seeds(|espo, _| {
            for kind in ["Meeting", "Call", "Task"] {
                espo.add_field(kind, "cOutlookMarker", "varchar", &Value::Null);
            }
        })
        .start();
    world.pair("Meeting here", json!({}));
    world.make("Task", "anna", "Task here", json!({}));
    world.one_task("Task here");
    world.outlook_create("anna", "Meeting there", json!({}));
    world.outlook_create("anna", "Call there", json!({ "categories": ["Call"] }));
    world.one_record("Meeting there");
    world.eventually("the call is there", || world.espo.records("Call").len() == 1);
    world.settle();
    // Else it would find them by itself.
    world.put("/settings", &json!({ "enabled": false }));
    world.crash();
    for table in ["replicas", "links", "history"] {
        world.wait_for(world.database.execute(&format!("DELETE FROM {table}")));
    }
    world.serve();
    world.settle();
    world
}

fn links(world: &World) -> usize {
    let pages = ["Meeting", "Call", "Task"].into_iter().flat_map(|kind| {
        let records = world.espo.records(kind);
        records.into_iter().map(move |record| format!("/records/{kind}/{}", record["id"].as_str().unwrap_or_default()))
    });
    pages.filter(|page| !world.get(page)["link"].is_null()).count()
}

#[test]
fn a_dry_run_of_relink_tells_what_it_would_link_and_changes_nothing_and_relink_does_it() {
    let world = lost();
    assert_eq!(links(&world), 0);
    let mark = world.mark();
    let told = relink(&world, &["--dry-run"]);
    assert_eq!((&told["paired"], &told["known"], &told["left"]), (&json!(4), &json!(0), &json!(0)), "{told}");
    assert_eq!(links(&world), 0, "the dry run has linked");
    world.no_writes_since(mark);
    let done = relink(&world, &[]);
    assert_eq!(done, told, "it does what it has told");
    assert_eq!(links(&world), 4);
    world.no_writes_since(mark);
    world.put("/settings", &json!({ "enabled": true }));
    world.is_at_rest();
    let again = relink(&world, &[]);
    assert_eq!((&again["paired"], &again["known"]), (&json!(0), &json!(4)), "{again}");
    let record = world.one_record("Meeting here")["id"].as_str().unwrap().to_owned();
    world.espo_update(&record, json!({ "name": "Meeting, edited" }));
    world.one_event("anna", "Meeting, edited");
    world.settle();
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (2, 3));
}
