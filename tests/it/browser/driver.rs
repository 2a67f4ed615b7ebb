//! Chromium, driven through `chromedriver` by the W3C WebDriver protocol (<https://www.w3.org/TR/webdriver2/>), and by two of
//! chromedriver's own endpoints: the console (`se/log`) and the DevTools protocol (`goog/cdp/execute`).

use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// What chromedriver refused: the error code of the protocol, and its sentence.
#[derive(Debug)]
pub struct Refusal {
    pub error: String,
    message: String,
}

impl Refusal {
    pub fn no_such_element(what: &str) -> Self {
        Self { error: "no such element".to_owned(), message: what.to_owned() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.error, self.message)
    }
}

/// An element, by the reference that the protocol gives it.
pub type Element = String;

/// The key under which references to elements travel (WebDriver, 12.2 "Elements").
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// So often it is started until it has a port.
const STARTS: usize = 10;
/// At most so many are at work at a time: each is busy, and most tests want one.
const MOST: usize = 5;
/// Starts it beside a folder for the profile. Who started it may end without a word, which closes the pipe: then it ends as
/// well, with its Chromium.
const BESIDE: &str = r#"command -v chromedriver >/dev/null || exit 127
chromedriver --port=0 &
exec >&-
read -r _
kill $!
pkill -KILL -f -- "--user-data-dir=$0"
rm -rf "$0""#;
/// What a shell ends with that finds no command.
const NOT_FOUND: i32 = 127;
/// Without it these tests fail, unless they are left out on purpose.
const HINT: &str = "chromedriver cannot be started: `tests/run` installs it (Debian packages chromium and chromium-driver); \
                    TEST_WITHOUT_BROWSER=1 leaves these tests out";

/// Whether the tests in a browser are left out on purpose.
pub fn without_browser() -> bool {
    let is_left_out = std::env::var("TEST_WITHOUT_BROWSER").is_ok_and(|value| !value.is_empty());
    if is_left_out {
        eprintln!("left out: TEST_WITHOUT_BROWSER is set");
    }
    is_left_out
}

/// A browser at one window, of nobody: it holds nothing of the test before.
pub struct Lent {
    lang: String,
    driver: Option<Driver>,
}

/// Browsers that nobody has at the moment, by their languages, and how many are lent.
static BROWSERS: Mutex<(Vec<(String, Driver)>, usize)> = Mutex::new((Vec::new(), 0));
static RETURNED: Condvar = Condvar::new();

impl Lent {
    /// `lang` is what the browser asks pages for. Waits while many are lent.
    pub fn new(lang: &str) -> Self {
        let browsers = BROWSERS.lock().unwrap_or_else(PoisonError::into_inner);
        let many = |(_, lent): &mut (_, usize)| *lent >= MOST;
        let mut browsers = RETURNED.wait_while(browsers, many).unwrap_or_else(PoisonError::into_inner);
        browsers.1 += 1;
        let mut lent = Self { lang: lang.to_owned(), driver: None };
        let at = browsers.0.iter().position(|(of, _)| of == lang);
        lent.driver = at.map(|at| browsers.0.swap_remove(at).1);
        drop(browsers);
        lent.driver.get_or_insert_with(|| Driver::start(lang));
        lent
    }
}

impl Deref for Lent {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        self.driver.as_ref().unwrap()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let driver = self.driver.take().filter(|driver| !std::thread::panicking() && driver.forget().is_ok());
        let mut browsers = BROWSERS.lock().unwrap_or_else(PoisonError::into_inner);
        browsers.1 -= 1;
        if let Some(driver) = driver {
            browsers.0.push((std::mem::take(&mut self.lang), driver));
        }
        RETURNED.notify_one();
    }
}

/// One browser with a profile of its own.
pub struct Driver {
    child: Child,
    // While this pipe is open it lives.
    input: Option<ChildStdin>,
    // The pipe stays open: who writes to a closed one is ended.
    _output: BufReader<ChildStdout>,
    base: String,
    client: reqwest::Client,
    runtime: Runtime,
}

impl Driver {
    fn start(lang: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let profile = tempfile::tempdir().unwrap().keep();
        let (mut child, output, port) =
            (0..STARTS).find_map(|_| listening(lang, &profile)).expect("chromedriver finds no port");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(180))
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let root = format!("http://127.0.0.1:{port}/session");
        let input = child.stdin.take();
        let mut driver = Self { child, input, _output: output, base: root.clone(), client, runtime };
        let wanted = capabilities(lang, &profile);
        let session = driver.send("POST", "", &wanted).unwrap_or_else(|refusal| panic!("no session: {refusal}"));
        driver.base = format!("{root}/{}", session["sessionId"].as_str().unwrap());
        driver
    }

    /// Has nothing of any page left: one empty window, no cookies, nothing stored, sizes and colours as at the beginning.
    fn forget(&self) -> Result<(), Refusal> {
        if self.get("/window/handles")?.as_array().is_none_or(|handles| handles.len() != 1) {
            return Err(Refusal::no_such_element("one window"));
        }
        let script = "localStorage.clear(); sessionStorage.clear();";
        self.run(script, &[])?;
        self.post("/url", &json!({ "url": "about:blank" }))?;
        for (command, params) in [
            ("Network.clearBrowserCookies", json!({})),
            ("Emulation.clearDeviceMetricsOverride", json!({})),
            ("Emulation.setEmulatedMedia", json!({ "features": [] })),
        ] {
            self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))?;
        }
        self.console();
        Ok(())
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, Refusal> {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.base));
        if method == "POST" {
            request = request.json(body);
        }
        let answer: Value = self.runtime.block_on(async { request.send().await.unwrap().json().await.unwrap() });
        let value = answer["value"].clone();
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        match (text("error"), text("message")) {
            (Some(error), Some(message)) => Err(Refusal { error, message }),
            _ => Ok(value),
        }
    }

    pub fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.send("GET", path, &Value::Null)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.send("POST", path, body)
    }

    /// Runs a function body in the page.
    pub fn run(&self, script: &str, args: &[Value]) -> Result<Value, Refusal> {
        self.post("/execute/sync", &json!({ "script": script, "args": args }))
    }

    /// Runs a function body, whose last argument is to be called with the result.
    pub fn run_slow(&self, script: &str, args: &[Value]) -> Result<Value, Refusal> {
        self.post("/execute/async", &json!({ "script": script, "args": args }))
    }

    /// The element that a function body gives.
    pub fn element(&self, script: &str, args: &[Value]) -> Result<Option<Element>, Refusal> {
        Ok(self.run(script, args)?[ELEMENT].as_str().map(str::to_owned))
    }

    pub fn click(&self, element: &Element) -> Result<(), Refusal> {
        self.post(&format!("/element/{element}/click"), &json!({})).map(drop)
    }

    /// Replaces what is in a field.
    pub fn type_into(&self, element: &Element, text: &str) -> Result<(), Refusal> {
        self.post(&format!("/element/{element}/clear"), &json!({}))?;
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// Presses keys one after the other; some have code points of their own (WebDriver, 17.4.2).
    pub fn keys(&self, keys: &str) -> Result<(), Refusal> {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })])
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        self.post("/actions", &actions).map(drop)
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, params: Value) -> Value {
        let body = json!({ "cmd": command, "params": params });
        self.post("/goog/cdp/execute", &body).unwrap_or_else(|refusal| panic!("{command}: {refusal}"))
    }

    /// What the console holds since it was asked last, but for what is not an error.
    pub fn console(&self) -> Vec<String> {
        let rows = self.post("/se/log", &json!({ "type": "browser" })).unwrap();
        let rows = rows.as_array().unwrap().iter().filter(|row| row["level"] == "SEVERE");
        rows.map(|row| row["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The window as a PNG.
    pub fn picture(&self) -> Vec<u8> {
        let taken = self.devtools("Page.captureScreenshot", json!({ "format": "png" }));
        STANDARD.decode(taken["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.input.take());
        self.child.wait().ok();
    }
}

/// A chromedriver and the port it listens on. It takes a free port of IPv6 and wants the same one of IPv4, which somebody else
/// may have: then it ends, and is to be started again.
fn listening(lang: &str, profile: &Path) -> Option<(Child, BufReader<ChildStdout>, u16)> {
    let mut child = Command::new("sh")
        .args(["-c", BESIDE])
        .arg(profile)
        // Times are shown in the browser's zone.
        .env("TZ", "UTC")
        .env("LANGUAGE", lang)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    if let Some(port) = port(&mut output) {
        return Some((child, output, port));
    }
    drop(child.stdin.take());
    let ended = child.wait().unwrap();
    assert_ne!(ended.code(), Some(NOT_FOUND), "{HINT}");
    None
}

fn port(output: &mut impl BufRead) -> Option<u16> {
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, port)) = line.split_once("successfully on port ") {
            return port.trim().trim_end_matches('.').parse().ok();
        }
        line.clear();
    }
    None
}

fn capabilities(lang: &str, profile: &Path) -> Value {
    let args = [
        "--headless=new".to_owned(),
        // The profile is a temporary folder and the pages are ours; as root Chromium runs only so.
        "--no-sandbox".to_owned(),
        // Containers have little shared memory.
        "--disable-dev-shm-usage".to_owned(),
        "--disable-gpu".to_owned(),
        "--hide-scrollbars".to_owned(),
        "--no-first-run".to_owned(),
        "--no-proxy-server".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-extensions".to_owned(),
        "--disable-sync".to_owned(),
        "--force-color-profile=srgb".to_owned(),
        format!("--lang={lang}"),
        format!("--accept-lang={lang}"),
        format!("--user-data-dir={}", profile.display()),
        "--window-size=1280,860".to_owned(),
    ];
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:chromeOptions": { "args": args },
        "goog:loggingPrefs": { "browser": "ALL" },
        // A question waits for the test to answer it.
        "unhandledPromptBehavior": "ignore",
        "timeouts": { "script": 120_000, "pageLoad": 120_000 },
    } } })
}
