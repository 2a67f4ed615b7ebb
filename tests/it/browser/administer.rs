//! Each page of administrators, doing its main thing.

use serde_json::json;

use super::without_browser;
use crate::support::World;

#[test]
fn a_change_is_looked_at_and_taken_back_in_the_history() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let (id, _) = world.pair("Quarterly review", json!({}));
    world.espo_update(&id, json!({ "name": "Yearly review" }));
    world.one_event("anna", "Yearly review");
    world.settle();
    let tab = world.admin_tab();
    tab.follow("link", "History");
    tab.choose("What", "Changed");
    tab.follow("button", "Filter");
    tab.sees("Yearly review");
    tab.follow_in("table tbody tr a");
    tab.sees("Quarterly review");
    tab.follow("button", "Take back");
    world.one_event("anna", "Quarterly review");
    assert_eq!(world.record(&id)["name"], "Quarterly review");
    tab.sees("Taken back.");
}
