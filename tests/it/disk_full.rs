//! A disk that is full under a SQLite database: the file system takes nothing more, then does again.
//!
//! A limit on the size of files, moved while the service runs, does what a full disk does: no file can grow, and every commit
//! fails. It needs no rights and no mount. (The signal that comes with it is ignored, as there is none with a full disk.)

use serde_json::{Value, json};

use crate::support::{Setup, World, title};

const IGNORING_THE_SIGNAL: &[&str] = &["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
/// Less than what is written already.
const FULL: Option<u64> = Some(4096);

fn ready(world: &World) -> (u16, Value) {
    let (status, _, text) = world.http("GET", "/readyz", &[], None);
    (status, serde_json::from_str(&text).unwrap_or_default())
}

#[test]
fn a_full_disk_loses_and_doubles_nothing_and_health_says_so() {
    let world = Setup::default().file().wrapper(IGNORING_THE_SIGNAL).start();
    let (id, _) = world.pair("Pair", json!({}));
    let event = world.outlook_create("anna", "Other", json!({}));
    let other = world.one_record("Other");
    world.settle();
    let mark = world.mark();
    world.product.limit_files(FULL);
    world.eventually("it is told", || ready(&world).0 == 503);
    let (_, body) = ready(&world);
    assert_eq!((&body["parts"]["database"]["state"], &body["failing"][0]), (&json!("failed"), &json!("database")));
    assert_eq!(world.http("GET", "/healthz", &[], None).0, 200, "it lives");
    let (status, problem) = world.call("PUT", "/rules", Some(&json!({ "attendees": "invite" })));
    assert_eq!(status, 503, "{problem}");
    let before = world.espo.deliveries().len();
    world.espo_update(&id, json!({ "name": "Pair, edited" }));
    world.outlook_update("anna", &event, json!({ "subject": "Other, edited" }));
    world.espo_create("anna", "New in EspoCRM", json!({}));
    world.outlook_create("anna", "New in Outlook", json!({}));
    world.eventually("webhooks are refused", || world.espo.deliveries().len() > before);
    world.never("something is written that could not be recorded", 2, || {
        let (espo, graph) = world.writes_since(mark);
        espo.len() + graph.len() > 0
    });
    let refused = world.espo.deliveries();
    assert!(refused.iter().skip(before).all(|one| one.status == 503), "EspoCRM would drop it: {refused:?}");
    world.product.limit_files(None);
    world.eventually("it is ready again", || ready(&world).0 == 200);
    world.one_event("anna", "Pair, edited");
    world.eventually("the other edit", || title(&world.record(other["id"].as_str().unwrap())) == "Other, edited");
    world.one_event("anna", "New in EspoCRM");
    world.one_record("New in Outlook");
    world.settle();
    for name in ["Pair, edited", "Other, edited", "New in EspoCRM", "New in Outlook"] {
        assert_eq!((world.records(name).len(), world.events("anna", name).len()), (1, 1), "{name}");
    }
    assert!(world.dead().is_empty(), "{:?}", world.dead());
}
