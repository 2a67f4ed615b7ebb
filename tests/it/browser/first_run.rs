//! From nothing to the first meeting, in the browser only.

use super::without_browser;
use crate::support::{Setup, World};

/// Nothing is configured but what only the machine knows.
fn nothing() -> World {
    let blank =
        ["ESPOCRM__URL", "ESPOCRM__API_KEY", "MICROSOFT__TENANT", "MICROSOFT__CLIENT_ID", "MICROSOFT__CLIENT_SECRET"];
    blank.into_iter().fold(Setup::default().bound(&[]), |setup, key| setup.env(key, "")).start_unprepared()
}

#[test]
fn the_first_run_leads_from_nothing_to_the_first_synchronised_meeting() {
    if without_browser() {
        return;
    }
    let world = nothing();
    let tab = world.tab();
    tab.open("/");
    tab.sees("EspoCRM is not connected yet.");
    tab.fill("Admin token", &world.token);
    tab.follow("button", "Sign in");
    tab.sees("A few steps connect EspoCRM and Microsoft 365.");
    tab.follow("link", "Begin");

    // EspoCRM: a wrong key is told, the right one is let in, the administrator's account makes the fields.
    let espo = "Administrator’s user name";
    tab.fill("Address of EspoCRM", &world.espo.url().unwrap());
    tab.fill("API key", "wrong");
    tab.follow_near("button", "Save and test", espo);
    tab.sees("refuses the API key");
    let admin = world.espo.admin();
    tab.fill("API key", &world.espo.api_key());
    tab.fill("Administrator’s user name", &admin.user_name);
    tab.fill("Administrator’s password", &admin.password);
    tab.follow_near("button", "Save and test", espo);
    tab.sees("lets connector in");
    tab.sees(&format!("The administrator {} is let in.", admin.user_name));
    tab.follow("button", "Prepare EspoCRM");
    tab.sees("Meeting.create");

    // Microsoft.
    tab.fill("Application ID", &world.graph.client_id());
    tab.fill("Client secret", "wrong");
    tab.fill("Tenant", &world.graph.tenant_id());
    tab.follow_near("button", "Save and test", "Application ID");
    tab.sees("Wrong");
    tab.fill("Client secret", &world.graph.client_secret());
    tab.follow_near("button", "Save and test", "Application ID");
    tab.sees("Microsoft accepts the app registration.");

    // Rules, and the first user.
    tab.choose("Calls", "EspoCRM → Outlook only");
    tab.follow_near("button", "Save", "All rules");
    assert_eq!(world.get("/rules")["call"]["direction"], "espo_to_outlook");
    tab.follow("link", "Anna Test");
    tab.follow("button", "Bind");
    tab.follow("button", "Make a sign-in link");
    let link = tab.value("document.querySelector('.copyable input').value");

    // Anna, at her own machine, signs in at Microsoft.
    let anna = world.tab();
    anna.leave_for(link.as_str().unwrap());
    anna.sees("Pick an account");
    anna.follow_containing("Anna Test");
    anna.sees("connected");
    world.becomes("anna", "active");

    // The preview changes nothing; then the first meeting travels.
    tab.open("/setup");
    tab.follow("button", "Preview");
    tab.sees("This is what a synchronisation would do now. Nothing was changed.");
    let espo = world.tab();
    espo.leave_for(&format!("{}/?user=anna", world.espo.url().unwrap()));
    espo.fill("Name", "The first meeting");
    espo.follow("button", "Create");
    world.one_event("anna", "The first meeting");
    tab.open("/");
    tab.sees("The first meeting");
    tab.sees("EspoCRM → Outlook");
    tab.sees("Nothing: everything is in step.");
}
