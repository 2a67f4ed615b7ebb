//! Texts of events, of which only our part is written.

use serde_json::{Value, json};

use crate::support::World;

fn body_of(event: &Value) -> &str {
    event["body"]["content"].as_str().unwrap_or_default()
}

#[test]
fn the_block_of_an_online_meeting_stays_in_outlook_and_never_comes_to_espocrm() {
    let world = World::start();
    let text = json!({ "contentType": "html", "content": "<p>Agenda</p>" });
    let event = world.outlook_create("anna", "Online", json!({ "isOnlineMeeting": true, "body": text }));
    let id = world.one_record("Online")["id"].as_str().unwrap().to_owned();
    let description = || world.record(&id)["description"].as_str().unwrap_or_default().to_owned();
    let shown = || body_of(&world.event("anna", &event)).to_owned();
    let block = |html: &str| {
        let from = html.find("<div class=\"me-email-text\">")?;
        Some(html[from..from + html[from..].find("</div>")?].to_owned())
    };
    let invitation = block(&shown()).expect("the simulated Exchange adds an invitation");
    assert!(description().contains("Agenda"), "{}", description());
    assert!(!description().contains("join"), "{}", description());
    world.espo_update(&id, json!({ "description": "Another agenda" }));
    world.eventually("the text is in Outlook", || shown().contains("Another agenda"));
    assert_eq!(block(&shown()), Some(invitation.clone()), "{}", shown());
    assert!(!shown().contains("<p>Agenda</p>"), "{}", shown());
    world.espo_update(&id, json!({ "description": null }));
    world.eventually("the text is gone from Outlook", || !shown().contains("Another agenda"));
    assert_eq!(block(&shown()), Some(invitation.clone()), "{}", shown());
    let edited = format!("<html><body><p>Edited in Outlook</p>{invitation}</div></body></html>");
    world.outlook_update("anna", &event, json!({ "body": { "contentType": "html", "content": edited } }));
    world.eventually("the text is in EspoCRM", || description() == "Edited in Outlook");
    world.settle();
    assert_eq!(block(&shown()), Some(invitation), "{}", shown());
    assert!(world.event("anna", &event)["onlineMeeting"]["joinUrl"].is_string(), "it is an online meeting still");
}
