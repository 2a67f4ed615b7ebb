//! Every page of a lively service, in light, dark and on a phone: looked at by axe (<https://github.com/dequelabs/axe-core>), for
//! what is wider than the window, and, when `TEST_SCREENSHOTS` names a folder, kept there as a picture.
//!
//! `axe/axe-4.14.1.min.js` is `axe.min.js` of the npm package axe-core 4.14.1, licensed MPL 2.0,
//! SHA-256 29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::lively::lively;
use super::tab::Tab;
use super::without_browser;
use crate::support::{Setup, World};

const AXE: &str = include_str!("axe/axe-4.14.1.min.js");

/// All rules, the best practices too.
const ASK: &str = "
const done = arguments[arguments.length - 1];
axe.run(document, { resultTypes: ['violations', 'incomplete'] }).then(
  (found) => done({
    passes: found.passes.length,
    violations: found.violations.map((one) => ({
      id: one.id, impact: one.impact, help: one.help,
      nodes: one.nodes.map((node) => node.html.slice(0, 160) + ' ' + node.failureSummary.slice(0, 300)),
    })),
  }),
  (error) => done({ error: String(error) }),
);";

/// What reaches over the right edge of the page's column, or of the window.
const TOO_WIDE: &str = "((main) => {
  const edge = main.getBoundingClientRect().right - parseFloat(getComputedStyle(main).paddingRight) + 1;
  const wide = (e) => e.checkVisibility() && !e.closest('.hidden, .cards thead') && e.getBoundingClientRect().right > edge;
  return [...main.querySelectorAll('*')].filter(wide).map((e) => e.outerHTML.slice(0, 120));
})(document.querySelector('main'))";

/// The page is there, and what it loads by itself.
const READY: &str = "document.readyState === 'complete' && document.querySelector('h1')
  && !document.querySelector('[hx-trigger=load], .htmx-request, .htmx-swapping, .htmx-settling')";

/// How a page is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Light,
    Dark,
    Phone,
}

impl Look {
    const ALL: [Self; 3] = [Self::Light, Self::Dark, Self::Phone];

    fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
            Self::Phone => "phone",
        }
    }

    fn put_on(self, tab: &Tab<'_>) {
        tab.system_theme(if self == Self::Dark { "dark" } else { "light" });
        if self == Self::Phone { tab.phone() } else { tab.desk() }
    }
}

/// What was found, over all pages.
#[derive(Default)]
struct Findings {
    grave: Vec<String>,
    table: Vec<String>,
}

impl Findings {
    /// Looks at the page that is open.
    fn look(&mut self, tab: &Tab<'_>, name: &str, look: Look) {
        tab.driver.run(AXE, &[]).unwrap_or_else(|refusal| panic!("axe on {name}: {refusal}"));
        let found = tab.driver.run_slow(ASK, &[]).unwrap_or_else(|refusal| panic!("axe on {name}: {refusal}"));
        let passes = found["passes"].as_u64().unwrap_or_else(|| panic!("axe on {name}: {found}"));
        assert!(passes > 5, "axe has looked at nothing on {name}: {found}");
        let violations = found["violations"].as_array().unwrap();
        let count = |impact: &str| violations.iter().filter(|one| one["impact"] == impact).count();
        let [critical, serious, moderate, minor] = ["critical", "serious", "moderate", "minor"].map(count);
        self.table.push(format!(
            "{name:<22} {:<6} {passes:>4} passed, {critical} critical, {serious} serious, {moderate} moderate, {minor} minor",
            look.name(),
        ));
        for one in violations {
            self.grave.push(format!("{name} ({}): {one:#}", look.name()));
        }
        let wide = tab.value(TOO_WIDE);
        if wide != json!([]) {
            self.grave.push(format!("{name} ({}) is wider than the window: {wide:#}", look.name()));
        }
        let missing = tab.text().matches("??").count();
        assert_eq!(missing, 0, "a message is missing on {name}");
    }

    fn told(&self) {
        println!("axe, by page:\n{}", self.table.join("\n"));
        assert!(self.grave.is_empty(), "{} findings:\n{}", self.grave.len(), self.grave.join("\n"));
    }
}

/// Keeps a picture of the page, when pictures are wanted.
fn keep(tab: &Tab<'_>, name: &str, look: Look) {
    let Ok(folder) = std::env::var("TEST_SCREENSHOTS") else { return };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}-{}.png", look.name())), tab.picture(look == Look::Phone)).unwrap();
}

fn visit(tab: &Tab<'_>, pages: &[(String, String)], findings: &mut Findings) {
    visit_as(tab, pages, &Look::ALL, findings);
}

fn visit_as(tab: &Tab<'_>, pages: &[(String, String)], looks: &[Look], findings: &mut Findings) {
    for look in looks.iter().copied() {
        look.put_on(tab);
        for (name, path) in pages {
            tab.open(path);
            tab.until("the page is ready", READY);
            findings.look(tab, name, look);
            keep(tab, name, look);
        }
    }
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// Pages of administrators.
fn pages(world: &World, conflict: &str) -> Vec<(String, String)> {
    let lost = world.history(&format!("record_id={conflict}"));
    let lost = lost.iter().find(|entry| entry["changes"].to_string().contains("\"lost\":\"")).expect("a conflict");
    let dead = &world.dead()[0];
    let job = world.items("/audit").into_iter().find(|entry| entry["action"] == "sync.start");
    assert!(job.is_some());
    let since = world.history("").last().unwrap()["at"].as_str().unwrap().to_owned();
    let anna = world.id("anna");
    let named = |name: &str, path: String| (name.to_owned(), path);
    vec![
        named("overview", "/".to_owned()),
        named("users", "/users".to_owned()),
        named("user", format!("/users/{anna}")),
        named("user-rules", format!("/users/{anna}/rules")),
        named("holds", "/holds".to_owned()),
        named("history", "/history".to_owned()),
        named("history-entry", format!("/history/{}", id(lost))),
        named("history-revert", format!("/history/revert?user_id={anna}&since={since}")),
        named("records", "/records".to_owned()),
        named("record", format!("/records/meeting/{conflict}")),
        named("sync", "/sync".to_owned()),
        named("messages", "/messages".to_owned()),
        named("message", format!("/messages/{}", id(dead))),
        named("subscriptions", "/subscriptions".to_owned()),
        named("audit", "/audit".to_owned()),
        named("log", "/log".to_owned()),
        named("dead-letters", "/messages?state=dead".to_owned()),
        named("setup", "/setup".to_owned()),
        named("doctor", "/doctor".to_owned()),
        named("settings", "/settings".to_owned()),
        named("rules", "/rules".to_owned()),
        named("schedules", "/schedules".to_owned()),
        named("roles", "/roles".to_owned()),
        named("sessions", "/sessions".to_owned()),
    ]
}

/// Anna's.
fn own_pages(world: &World, conflict: &str) -> Vec<(String, String)> {
    let changed = world.history(&format!("user_id={}", world.id("anna")));
    let changed = id(changed.iter().find(|entry| entry["type"] == "update").expect("a change"));
    let named = |name: &str, path: &str| (name.to_owned(), path.to_owned());
    vec![
        named("own", "/me"),
        named("own-rules", "/me/rules"),
        named("own-records", "/me/records"),
        named("own-record", &format!("/records/meeting/{conflict}")),
        named("own-history", "/me/history"),
        named("own-history-entry", &format!("/me/history/{changed}")),
    ]
}

#[test]
fn no_page_has_a_violation_in_light_dark_or_on_a_phone() {
    if without_browser() {
        return;
    }
    let (world, conflict) = lively();
    let mut findings = Findings::default();
    let named = |name: &str, path: &str| (name.to_owned(), path.to_owned());
    let tab = world.tab();
    visit(&tab, &[named("sign-in", "/sign-in"), named("sign-in-token", "/sign-in?with=token")], &mut findings);
    tab.desk();
    tab.open("/sign-in?with=token");
    tab.fill("Admin token", &world.token);
    tab.follow("button", "Sign in");
    let mut all = pages(&world, &conflict);
    tab.menu("Synchronise");
    tab.follow("button", "Preview");
    tab.sees("Nothing was changed.");
    all.push(("preview".to_owned(), tab.path()));
    visit(&tab, &all, &mut findings);
    tab.desk();
    // Last: it looks at everything anew.
    tab.menu("Synchronise");
    tab.follow("button", "Synchronise now");
    tab.sees("Done:");
    visit(&tab, &[("sync-run".to_owned(), tab.path())], &mut findings);
    tab.desk();
    tab.open("/");
    tab.follow("button", "Sign out");
    tab.signs_in("anna");
    visit(&tab, &own_pages(&world, &conflict), &mut findings);
    // Where a user ends after signing in with Microsoft.
    tab.desk();
    tab.open("/me");
    tab.follow("button", "Generate token");
    tab.sees("is connected.");
    findings.look(&tab, "connected", Look::Phone);
    keep(&tab, "connected", Look::Light);
    findings.told();
}

#[test]
fn nothing_is_too_wide_in_german_on_a_phone_or_on_a_desk() {
    if without_browser() {
        return;
    }
    let (world, conflict) = lively();
    let tab = world.tab_in("de");
    let mut findings = Findings::default();
    let german = |pages: Vec<(String, String)>| -> Vec<(String, String)> {
        pages.into_iter().map(|(name, path)| (format!("german-{name}"), path)).collect()
    };
    tab.open("/sign-in?with=token");
    tab.fill("Admin-Token", &world.token);
    tab.follow("button", "Anmelden");
    let all = german(pages(&world, &conflict));
    visit_as(&tab, &all, &[Look::Light, Look::Phone], &mut findings);
    tab.desk();
    tab.open("/");
    tab.follow("button", "Abmelden");
    tab.fill("Benutzername", "anna");
    tab.fill("Passwort", "anna-Pass1");
    tab.follow("button", "Anmelden");
    tab.sees("Abmelden");
    let own = german(own_pages(&world, &conflict));
    visit_as(&tab, &own, &[Look::Light, Look::Phone], &mut findings);
    findings.told();
}

#[test]
fn pages_without_anything_to_show_have_no_violation_either() {
    if without_browser() {
        return;
    }
    let world = Setup::default().bound(&[]).start();
    let tab = world.tab();
    let mut findings = Findings::default();
    let named = |name: &str, path: &str| (format!("empty-{name}"), path.to_owned());
    tab.open("/sign-in?with=token");
    tab.fill("Admin token", &world.token);
    tab.follow("button", "Sign in");
    let pages = ["overview", "holds", "history", "sync", "messages", "subscriptions", "audit"];
    let pages = pages.map(|name| named(name, &format!("/{}", if name == "overview" { "" } else { name })));
    visit(&tab, &pages, &mut findings);
    tab.allow("404");
    tab.open("/history/none");
    findings.look(&tab, "error", Look::Light);
    findings.told();
}
