//! Configured pairs of fields, and links that are rebuilt after a lost database.

use serde_json::{Value, json};

use crate::support::{Setup, World};

const CODE: &str = "String {00020329-0000-0000-C000-000000000046} Name ProjectCode";

fn paired() -> Setup {
    let pairs = json!([
        { "kind": "meeting", "espo": "cProjectCode", "outlook": "property:ProjectCode", "name": "project_code" },
        { "kind": "meeting", "espo": "cVip", "outlook": "category:VIP", "name": "vip" },
        { "kind": "meeting", "espo": "cRank", "outlook": "importance", "direction": "espo_to_outlook", "name": "rank" },
        { "kind": "meeting", "espo": "cNotThere", "outlook": "location", "name": "nowhere" },
    ]);
    Setup::default().env("PAIRS", &pairs.to_string()).seeds(|espo, _| {
        espo.add_field("Meeting", "cProjectCode", "varchar", &Value::Null);
        espo.add_field("Meeting", "cVip", "bool", &json!(false));
        espo.add_field("Meeting", "cRank", "varchar", &Value::Null);
    })
}

fn categories(world: &World, event: &str) -> Vec<String> {
    let list = world.event("anna", event)["categories"].as_array().cloned().unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn code(world: &World, event: &str) -> Option<String> {
    world.person("anna").extended(event, CODE)
}

#[test]
fn configured_pairs_travel_both_ways_and_settle() {
    let world = paired().start();
    let (record, event) = world.pair("Paired", json!({ "cProjectCode": "AB-1", "cVip": true, "cRank": "High" }));
    assert_eq!(code(&world, &event).as_deref(), Some("AB-1"));
    assert_eq!(categories(&world, &event), ["VIP"]);
    assert_eq!(world.event("anna", &event)["importance"], "high");

    let property = json!([{ "id": CODE, "value": "AB-2" }]);
    let edit =
        json!({ "categories": ["Red category"], "singleValueExtendedProperties": property, "importance": "low" });
    world.outlook_update("anna", &event, edit);
    world.eventually("they reach EspoCRM", || {
        let shown = world.record(&record);
        shown["cProjectCode"] == "AB-2" && shown["cVip"] == false
    });
    world.settle();
    assert_eq!(world.record(&record)["cRank"], "High", "one way only");
    assert_eq!(world.event("anna", &event)["importance"], "low", "the target's own edit stays");

    world.espo_update(&record, json!({ "cVip": true, "cProjectCode": "AB-3" }));
    world.eventually("they reach Outlook", || code(&world, &event).as_deref() == Some("AB-3"));
    world.settle();
    assert_eq!(categories(&world, &event), ["Red category", "VIP"], "other categories are kept");
    let fields: Vec<String> = world
        .history(&format!("record_id={record}"))
        .iter()
        .flat_map(|entry| entry["changes"].as_array().cloned().unwrap_or_default())
        .filter_map(|change| change["field"].as_str().map(str::to_owned))
        .collect();
    assert!(fields.iter().any(|field| field == "project_code"), "{fields:?}");

    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    assert!(world.dead().is_empty(), "{:?}", world.dead());
    let page = world.get(&format!("/records/meeting/{record}"));
    assert!(page["reasons"].to_string().contains("cNotThere"), "{page}");
}

#[test]
fn a_new_event_brings_what_is_paired() {
    let world = paired().start();
    let property = json!([{ "id": CODE, "value": "Z-9" }]);
    world.outlook_create(
        "anna",
        "Brought",
        json!({ "categories": ["vip"], "singleValueExtendedProperties": property }),
    );
    let record = world.one_record("Brought");
    world.settle();
    assert_eq!((&record["cProjectCode"], &record["cVip"]), (&json!("Z-9"), &json!(true)));
    assert!(record["cRank"].is_null(), "{record}");
}

#[test]
fn a_lost_database_is_rebuilt_from_marks_without_a_creation() {
    let setup = Setup::default().seeds(|espo, _| espo.add_field("Meeting", "cOutlookMarker", "varchar", &Value::Null));
    let mut world = setup.start();
    let (record, _) = world.pair("From EspoCRM", json!({}));
    let event = world.outlook_create("anna", "From Outlook", json!({}));
    world.one_record("From Outlook");
    world.settle();
    world.crash();
    for entry in std::fs::read_dir(world.folder()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains(".db") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    world.espo_update(&record, json!({ "name": "From EspoCRM, edited" }));
    world.outlook_update("anna", &event, json!({ "subject": "From Outlook, edited" }));
    let mark = world.mark();
    world.serve();
    world.bind("anna");
    world.one_event("anna", "From EspoCRM, edited");
    world.one_record("From Outlook, edited");
    world.settle();
    let (espo, graph) = world.writes_since(mark);
    let made: Vec<_> = espo.iter().chain(&graph).filter(|row| row.method == "POST").map(|row| &row.path).collect();
    assert!(made.is_empty(), "{made:?}");
    assert_eq!((world.espo.records("Meeting").len(), world.person("anna").events().len()), (2, 2));
}
