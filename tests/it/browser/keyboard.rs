//! Without a mouse.

use super::tab::{ENTER, SPACE, TAB, Tab};
use super::without_browser;
use crate::support::World;

/// What has the focus: its id, name, or text.
const FOCUSED: &str = "((e) => e.id || e.name || e.textContent.trim())(document.activeElement)";

/// Whether a person sees what has the focus: it is in the window, nothing lies over it, and it has a ring.
const SHOWN: &str = "((e) => {
  const box = e.getBoundingClientRect();
  const style = getComputedStyle(e);
  const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  const inside = box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return ring && inside;
})(document.activeElement)";

/// Goes on by Tab until something has the focus, and sees it all the way.
fn tab_to(tab: &Tab<'_>, wanted: &str) {
    let mut passed = Vec::new();
    for _ in 0..80 {
        tab.keys(TAB);
        let focused = tab.value(FOCUSED).as_str().unwrap_or_default().to_owned();
        assert_eq!(tab.value(SHOWN), true, "the focus on “{focused}” cannot be seen");
        if focused == wanted {
            return;
        }
        passed.push(focused);
    }
    panic!("“{wanted}” is not reached by Tab: {passed:?}");
}

#[test]
fn signing_in_enabling_and_saving_need_no_mouse() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.tab();
    tab.open("/sign-in");
    assert_eq!(tab.value(FOCUSED), "user", "one can begin to type");
    tab.keys("anna");
    tab_to(&tab, "password");
    tab.keys("anna-Pass1");
    tab.keys_lead_on(ENTER);
    tab.is_at("/me");
    // The menu can be left out.
    tab.keys(TAB);
    assert_eq!((tab.value(FOCUSED), tab.value(SHOWN)), ("Skip to content".into(), true.into()));
    tab.keys(ENTER);
    assert_eq!(tab.value("document.activeElement.id"), "main");
    tab_to(&tab, "enabled");
    tab.keys(SPACE);
    tab_to(&tab, "Save");
    tab.keys_lead_on(ENTER);
    assert_eq!(world.user("anna")["state"], "paused");
    tab_to(&tab, "enabled");
    tab.keys(SPACE);
    tab_to(&tab, "Save");
    tab.keys_lead_on(ENTER);
    assert_eq!(world.user("anna")["state"], "active");
    tab_to(&tab, "Sign out");
    tab.keys_lead_on(ENTER);
    tab.is_at("/sign-in");
}

#[test]
fn an_administrator_takes_a_change_back_without_a_mouse() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let (id, _) = world.pair("Before", serde_json::json!({}));
    world.espo_update(&id, serde_json::json!({ "name": "After" }));
    world.one_event("anna", "After");
    world.settle();
    let tab = world.admin_tab();
    tab.open(&format!("/history?record_id={id}&type=update"));
    tab.keys(TAB);
    tab.keys(ENTER);
    let entry = tab.value("document.querySelector('tbody a').textContent.trim()");
    tab_to(&tab, entry.as_str().unwrap());
    tab.keys_lead_on(ENTER);
    tab.keys(TAB);
    tab.keys(ENTER);
    tab_to(&tab, "Take back");
    tab.keys_lead_on(ENTER);
    world.one_event("anna", "Before");
}

#[test]
fn on_a_phone_the_menu_opens_and_closes_by_key() {
    if without_browser() {
        return;
    }
    let world = World::start();
    let tab = world.admin_tab();
    tab.phone();
    tab.open("/");
    assert!(!tab.has("link", "Users"), "the menu is closed at first");
    tab_to(&tab, "Menu");
    tab.keys(ENTER);
    tab.until("the menu is open", "document.querySelector('button.menu').getAttribute('aria-expanded') === 'true'");
    assert!(tab.has("link", "Users"));
    tab.keys(ENTER);
    tab.until("the menu is closed", "document.querySelector('button.menu').getAttribute('aria-expanded') === 'false'");
    assert!(!tab.has("link", "Users"));
}
