//! What users do with their own synchronisation.

use serde_json::json;

use super::without_browser;
use crate::support::{Setup, World, day};

#[test]
fn a_user_binds_the_own_account_with_generate_token() {
    if without_browser() {
        return;
    }
    let world = Setup::default().bound(&[]).start();
    let tab = world.user_tab("anna");
    tab.is_at("/me");
    tab.sees("Your appointments are not synchronised yet.");
    tab.follow("button", "Generate token");
    tab.sees("Pick an account");
    tab.follow_containing("Anna Test");
    tab.sees("Your mailbox anna@contoso.example is connected.");
    world.becomes("anna", "active");
    world.espo_create("anna", "Mine", json!({}));
    world.one_event("anna", "Mine");
    tab.open("/me");
    tab.sees("In step");
    tab.sees("anna@contoso.example");
}

#[test]
fn a_sign_in_that_is_refused_at_microsoft_is_told() {
    if without_browser() {
        return;
    }
    let world = Setup::default().bound(&[]).start();
    let tab = world.user_tab("anna");
    tab.allow("403");
    tab.follow("button", "Generate token");
    tab.follow("link", "Cancel");
    tab.sees("Microsoft did not let you in");
    tab.open("/me");
    tab.sees("Generate token");
    assert_eq!(world.user("anna")["state"], "needs_authorization");
}

#[test]
fn a_user_changes_the_own_preferences_and_rules() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.user_tab("anna");
    tab.date("Start date", &day(-3));
    tab.choose("To Do list", "Tasks");
    tab.follow("button", "Save");
    tab.sees("Saved.");
    assert_eq!(world.user("anna")["sync_from"], day(-3));
    tab.follow_near("link", "My rules", "Direction, priority");
    tab.sees("Inherited: Both ways");
    tab.choose("Private events", "Times only");
    tab.follow("button", "Save");
    let rules = world.get(&format!("/users/{}/rules", world.id("anna")));
    assert_eq!(
        (&rules["effective"]["private_events"], &rules["sources"]["private_events"]),
        (&json!("busy"), &json!("user"))
    );
    tab.open("/me");
    tab.click("field", "Synchronise my appointments and tasks");
    tab.follow("button", "Save");
    tab.sees("Paused");
    assert_eq!(world.user("anna")["state"], "paused");
}

#[test]
fn a_user_synchronises_now_and_takes_an_own_change_back() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let (id, _) = world.pair("Mine", json!({}));
    world.espo_update(&id, json!({ "name": "Mine too" }));
    world.one_event("anna", "Mine too");
    world.settle();
    let tab = world.user_tab("anna");
    tab.follow("button", "Preview");
    tab.sees("Nothing was changed.");
    tab.open("/me");
    tab.follow("button", "Synchronise now");
    tab.sees("Done:");
    tab.open("/me/history");
    tab.choose("What", "Changed");
    tab.follow("button", "Filter");
    tab.follow_in("table tbody tr a");
    tab.follow("button", "Take back");
    world.one_event("anna", "Mine");
    tab.follow("link", "Why is it so?");
    tab.follow("button", "Switch off");
    assert_eq!(world.get(&format!("/records/meeting/{id}"))["enabled"], false);
}

#[test]
fn a_user_sees_what_the_role_closes_and_why() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.admin_tab();
    tab.menu("Roles");
    tab.sees("Sales rep");
    tab.click("summary", "By field");
    tab.choose("Start date", "Only see");
    tab.choose("To Do list", "Closed");
    tab.choose("Private events", "Closed");
    tab.follow("button", "Save");
    tab.sees("Saved.");
    tab.follow("button", "Sign out");
    tab.signs_in("anna");
    tab.is_at("/me");
    tab.sees("Some of this is closed by your role in EspoCRM.");
    tab.sees("To Do list Closed “Sales rep”");
    assert!(!tab.has("field", "To Do list"));
    tab.until("the date is closed", "document.getElementById('sync_from').disabled");
    tab.sees("Closed by your role “Sales rep” in EspoCRM; an administrator can open it.");
    tab.follow_near("link", "My rules", "Direction, priority");
    assert!(!tab.has("field", "Private events"));
    // Nor is anything of administrators there.
    assert!(!tab.has("link", "Users"));
    tab.allow("403");
    tab.open("/users");
    tab.sees("This page is for administrators.");
}

#[test]
fn signing_in_with_a_wrong_password_is_refused_and_signing_out_ends_the_session() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.tab();
    tab.allow("401");
    tab.open("/me/rules");
    tab.fill("User name", "anna");
    tab.fill("Password", "guessed");
    tab.follow("button", "Sign in");
    tab.sees("EspoCRM does not accept this user name");
    tab.fill("Password", "anna-Pass1");
    tab.follow("button", "Sign in");
    tab.is_at("/me/rules");
    tab.follow("button", "Sign out");
    tab.is_at("/sign-in");
    tab.open("/me");
    tab.is_at("/sign-in");
}

#[test]
fn the_browser_chooses_the_language_and_people_another_one_and_the_theme() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.tab_in("de");
    tab.open("/sign-in");
    tab.sees("Anmelden");
    assert_eq!(tab.value("document.documentElement.lang"), "de");
    tab.fill("Benutzername", "anna");
    tab.fill("Passwort", "anna-Pass1");
    tab.follow("button", "Anmelden");
    tab.sees("Abmelden");
    tab.choose_and_arrive("Sprache", "English");
    tab.sees("Sign out");
    tab.is_at("/me");
    tab.choose_and_arrive("Theme", "Dark");
    let background = "getComputedStyle(document.body).backgroundColor";
    let dark = tab.value(background);
    tab.choose_and_arrive("Theme", "Light");
    assert_ne!(tab.value(background), dark);
}
