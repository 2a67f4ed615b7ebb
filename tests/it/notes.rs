//! Notes on EspoCRM's streams, where the operator wants them.

use serde_json::json;

use crate::support::{Setup, World};

fn posts(world: &World) -> Vec<String> {
    let posts = world.espo.records("Note").into_iter().filter_map(|note| note["post"].as_str().map(str::to_owned));
    posts.filter(|post| !post.is_empty()).collect()
}

#[test]
fn a_stream_tells_of_each_change_with_a_link_to_it_and_nothing_else_follows() {
    let world = Setup::default().env("SYNC__STREAM_NOTES", "true").start();
    let (id, event) = world.pair("Told", json!({}));
    world.outlook_update("anna", &event, json!({ "subject": "Told of" }));
    world.one_record("Told of");
    world.settle();
    let entries = world.history(&format!("record_id={id}"));
    let told = posts(&world);
    assert_eq!((entries.len(), told.len()), (2, 2), "{entries:?} {told:?}");
    assert!(told.iter().any(|post| post.starts_with("Created in Outlook")), "{told:?}");
    let changed = told.iter().find(|post| post.starts_with("Changed from Outlook: title")).unwrap();
    assert!(changed.contains(&format!("{}/history/{}", world.url, entries[0]["id"].as_str().unwrap())), "{changed}");
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
}

#[test]
fn unless_it_is_wanted_nobody_is_told() {
    let world = World::start();
    let (_, event) = world.pair("Quiet", json!({}));
    world.outlook_update("anna", &event, json!({ "subject": "Quieter" }));
    world.one_record("Quieter");
    world.settle();
    assert!(posts(&world).is_empty(), "{:?}", posts(&world));
}
