//! A person at the pages: finds things by what is written on them, waits for what is to come, and tolerates no error in the
//! console.

use std::cell::Cell;

use serde_json::{Value, json};

use super::driver::{Element, Lent, Refusal};
use crate::support::World;

/// Keys that are no characters.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const SPACE: &str = " ";

/// Finds what is visible by kind and name, in the smallest part of the page that has a text in it; gives the one, or says how
/// many there are.
const FIND: &str = r#"
const [kind, name, near] = arguments;
const tidy = (text) => text.replace(/\s+/g, " ").trim();
// What is written on it, without what is in it to choose from.
const written = (node) => {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent;
  if (node.matches("select, input, textarea, .hidden, .count")) return "";
  return [...node.childNodes].map(written).join("");
};
const seen = (node) => node.checkVisibility({ visibilityProperty: true });
const named = (node) => tidy(node.getAttribute("aria-label") ?? written(node)) === name;
const fields = () => {
  const labels = [...document.querySelectorAll("label")].filter(named).map((label) => label.control);
  return [...labels, ...document.querySelectorAll(`[aria-label=${JSON.stringify(name)}]`)];
};
const among = {
  field: fields,
  button: () => [...document.querySelectorAll("button")].filter(named),
  link: () => [...document.querySelectorAll("a[href]")].filter(named),
  summary: () => [...document.querySelectorAll("summary")].filter(named),
};
let found = [...new Set(among[kind]())].filter((node) => node && seen(node));
if (near) {
  const parts = (node) => { const all = []; for (let at = node; at; at = at.parentElement) all.push(at); return all; };
  const depth = (node) => parts(node).findIndex((part) => tidy(part.innerText).includes(near));
  const best = Math.min(...found.map(depth));
  found = found.filter((node) => depth(node) === best);
}
return found.length === 1 ? found[0] : found.length;
"#;

/// A window of a browser at the service.
pub struct Tab<'a> {
    world: &'a World,
    pub driver: Lent,
    /// What the console may say: that a page was refused, which the test wants.
    allowed: Cell<Option<&'static str>>,
}

impl World {
    /// A window that nobody has signed in.
    pub fn tab(&self) -> Tab<'_> {
        self.tab_in("en")
    }

    pub fn tab_in(&self, lang: &str) -> Tab<'_> {
        Tab { world: self, driver: Lent::new(lang), allowed: Cell::new(None) }
    }

    /// A window of the holder of the admin token.
    pub fn admin_tab(&self) -> Tab<'_> {
        let tab = self.tab();
        tab.open("/sign-in?with=token");
        tab.fill("Admin token", &self.token);
        tab.follow("button", "Sign in");
        tab
    }

    /// A window of an EspoCRM user.
    pub fn user_tab(&self, name: &str) -> Tab<'_> {
        let tab = self.tab();
        tab.signs_in(name);
        tab
    }
}

impl Tab<'_> {
    /// With EspoCRM's user name and password.
    pub fn signs_in(&self, name: &str) {
        self.open("/sign-in");
        self.fill("User name", name);
        self.fill("Password", &format!("{name}-Pass1"));
        self.follow("button", "Sign in");
        self.sees("Sign out");
    }

    /// Lets the console say something with this text in it.
    pub fn allow(&self, text: &'static str) {
        self.allowed.set(Some(text));
    }

    // Where.

    pub fn open(&self, path: &str) {
        let url = format!("{}{path}", self.world.url);
        self.driver.post("/url", &json!({ "url": url })).unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
    }

    /// To another site.
    pub fn leave_for(&self, url: &str) {
        self.driver.post("/url", &json!({ "url": url })).unwrap_or_else(|refusal| panic!("{url}: {refusal}"));
    }

    pub fn path(&self) -> String {
        let url = self.driver.get("/url").unwrap();
        url.as_str().unwrap().trim_start_matches(&self.world.url).to_owned()
    }

    /// Waits until the address begins so.
    pub fn is_at(&self, path: &str) {
        self.world.eventually(&format!("the browser is at {path}"), || self.path().starts_with(path));
    }

    // What is there.

    /// The value of an expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        self.driver.run(&script, &[]).unwrap_or_else(|refusal| panic!("{expression}: {refusal}"))
    }

    /// What a person can read.
    pub fn text(&self) -> String {
        let text = self.driver.run("return document.body.innerText.replace(/\\s+/g, ' ');", &[]);
        text.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
    }

    pub fn sees(&self, text: &str) {
        self.world.eventually(&format!("“{text}” in the page"), || self.text().contains(text));
    }

    pub fn sees_no(&self, text: &str) {
        assert!(!self.text().contains(text), "“{text}” is in the page");
    }

    /// Waits until an expression holds in the page.
    pub fn until(&self, what: &str, expression: &str) {
        let script = format!("return Boolean({expression});");
        self.world.eventually(what, || self.driver.run(&script, &[]).is_ok_and(|held| held == true));
    }

    fn find(&self, kind: &str, name: &str, near: &str) -> Element {
        let args = [json!(kind), json!(name), json!(near)];
        self.world.eventually_some(&format!("one {kind} “{name}” {near}"), || {
            self.driver.element(FIND, &args).ok().flatten()
        })
    }

    pub fn has(&self, kind: &str, name: &str) -> bool {
        let args = [json!(kind), json!(name), json!("")];
        self.driver.run(FIND, &args).unwrap() != json!(0)
    }

    // What is done.

    /// Tries until it is possible: what is found may be replaced before it is used.
    fn act(&self, what: &str, mut once: impl FnMut() -> Result<(), Refusal>) {
        let passing = [
            "stale element reference",
            "element not interactable",
            "element click intercepted",
            "no such element",
            "no such alert",
            "invalid element state",
        ];
        self.world.eventually(what, || match once() {
            Ok(()) => true,
            Err(refusal) if passing.contains(&refusal.error.as_str()) => false,
            Err(refusal) => panic!("{what}: {refusal}"),
        });
    }

    pub fn fill(&self, label: &str, text: &str) {
        self.act(&format!("“{label}” is filled"), || {
            let field = self.find("field", label, "");
            self.driver.type_into(&field, text)
        });
    }

    /// A date; how it is typed depends on the machine.
    pub fn date(&self, label: &str, day: &str) {
        let field = self.find("field", label, "");
        let script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'));";
        let reference = json!({ "element-6066-11e4-a52e-4f735466cecf": field });
        self.driver.run(script, &[reference, json!(day)]).unwrap();
    }

    /// Chooses an option of a list by its text.
    pub fn choose(&self, label: &str, option: &str) {
        self.choose_near(label, option, "");
    }

    pub fn choose_near(&self, label: &str, option: &str, near: &str) {
        let script = "return [...arguments[0].options].find((option) => option.text.trim() === arguments[1]) ?? null;";
        self.act(&format!("“{option}” is chosen of “{label}”"), || {
            let list = json!({ "element-6066-11e4-a52e-4f735466cecf": self.find("field", label, near) });
            let option = self.driver.element(script, &[list, json!(option)])?;
            self.driver.click(&option.ok_or_else(|| Refusal::no_such_element("option"))?)
        });
    }

    pub fn click(&self, kind: &str, name: &str) {
        self.click_near(kind, name, "");
    }

    /// Clicks on the first element that a selector finds.
    pub fn click_in(&self, selector: &str) {
        self.act(&format!("a click on {selector}"), || self.driver.click(&self.first(selector)?));
    }

    /// Fills the first field that a selector finds.
    pub fn fill_in(&self, selector: &str, text: &str) {
        self.act(&format!("{selector} is filled"), || self.driver.type_into(&self.first(selector)?, text));
    }

    fn first(&self, selector: &str) -> Result<Element, Refusal> {
        let found = self.driver.element("return document.querySelector(arguments[0]);", &[json!(selector)])?;
        found.ok_or_else(|| Refusal::no_such_element(selector))
    }

    /// Clicks on what is in the same part of the page as a text.
    pub fn click_near(&self, kind: &str, name: &str, near: &str) {
        self.act(&format!("a click on “{name}”"), || {
            let element = self.find(kind, name, near);
            self.driver.click(&element)
        });
    }

    fn mark(&self) {
        self.driver.run("window.isBefore = true;", &[]).unwrap();
    }

    fn arrives(&self, what: &str) {
        let script = "return !window.isBefore && document.readyState === 'complete';";
        let what = format!("another page after “{what}”");
        self.world.eventually(&what, || self.driver.run(script, &[]).is_ok_and(|held| held == true));
    }

    /// Clicks, and waits for the page that it leads to.
    pub fn follow(&self, kind: &str, name: &str) {
        self.follow_near(kind, name, "");
    }

    pub fn follow_near(&self, kind: &str, name: &str, near: &str) {
        self.mark();
        self.click_near(kind, name, near);
        self.arrives(name);
    }

    /// Follows the link that has a text in it.
    pub fn follow_containing(&self, text: &str) {
        let script = "return [...document.links].find((link) => link.innerText.includes(arguments[0])) ?? null;";
        self.follow_found(text, || self.driver.element(script, &[json!(text)]));
    }

    /// Follows the first link that a selector finds.
    pub fn follow_in(&self, selector: &str) {
        self.follow_found(selector, || self.first(selector).map(Some));
    }

    /// Follows a link of the menu.
    pub fn menu(&self, name: &str) {
        let script = "return [...document.querySelectorAll('#nav a')].find((link) => \
                      [...link.childNodes].some((part) => part.data === arguments[0])) ?? null;";
        self.follow_found(name, || self.driver.element(script, &[json!(name)]));
    }

    /// Chooses an option of a list that loads the page anew.
    pub fn choose_and_arrive(&self, label: &str, option: &str) {
        self.mark();
        self.choose(label, option);
        self.arrives(option);
    }

    fn follow_found(&self, what: &str, find: impl Fn() -> Result<Option<Element>, Refusal>) {
        self.mark();
        self.act(&format!("“{what}” is followed"), || match find()? {
            Some(element) => self.driver.click(&element),
            None => Err(Refusal::no_such_element(what)),
        });
        self.arrives(what);
    }

    /// Clicks, says yes to the question, and waits for the page that it leads to.
    pub fn confirm(&self, name: &str) {
        self.mark();
        self.click("button", name);
        self.act("the question is answered", || self.driver.post("/alert/accept", &json!({})).map(drop));
        self.arrives(name);
    }

    /// A window of that size, of a phone or not.
    fn resize(&self, width: u64, height: u64, is_phone: bool) {
        let scale = if is_phone { 2 } else { 1 };
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.driver.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// The window of a phone.
    pub fn phone(&self) {
        self.resize(390, 844, true);
    }

    /// The window of a desk.
    pub fn desk(&self) {
        self.resize(1280, 860, false);
    }

    /// A picture of the page: all of it, unless it is very long.
    pub fn picture(&self, is_phone: bool) -> Vec<u8> {
        let height = self.value("document.documentElement.scrollHeight").as_u64().unwrap();
        if is_phone {
            self.resize(390, height.clamp(844, 1700), true);
        } else {
            self.resize(1280, height.clamp(860, 1400), false);
        }
        let picture = self.driver.picture();
        if is_phone {
            self.phone()
        } else {
            self.desk()
        }
        picture
    }

    /// The system's colours: `light` or `dark`.
    pub fn system_theme(&self, theme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.driver.devtools("Emulation.setEmulatedMedia", features);
    }

    /// Presses keys.
    pub fn keys(&self, keys: &str) {
        self.driver.keys(keys).unwrap();
    }

    /// Presses keys, and waits for the page that they lead to.
    pub fn keys_lead_on(&self, keys: &str) {
        self.mark();
        self.keys(keys);
        self.arrives("keys");
    }
}

impl Drop for Tab<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let url = self.driver.get("/url").ok();
            let text: String = self.text().chars().take(4000).collect();
            eprintln!(
                "--- the browser was at {url:?} and saw ---\n{text}\n--- its console: {:?}",
                self.driver.console()
            );
            return;
        }
        let allowed = self.allowed.get();
        let errors = self.driver.console();
        // What the simulators' own pages do is not looked at.
        let is_ours = |error: &&String| !error.starts_with("http") || error.starts_with(&self.world.url);
        let is_unexpected = |error: &&String| allowed.is_none_or(|allowed| !error.contains(allowed));
        let errors: Vec<&String> = errors.iter().filter(is_ours).filter(is_unexpected).collect();
        assert!(errors.is_empty(), "errors in the console: {errors:#?}");
    }
}
