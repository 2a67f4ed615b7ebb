//! Chromium, driven through `chromedriver` by the W3C WebDriver protocol (<https://www.w3.org/TR/webdriver2/>), and by two of
//! chromedriver's own endpoints: the console (`se/log`) and the DevTools protocol (`goog/cdp/execute`).

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
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

/// Without it these tests fail, unless they are left out on purpose.
/// So often it is started until it has a port.
const STARTS: usize = 10;
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

/// One browser with a fresh profile, and one window of it.
pub struct Driver {
    child: Child,
    // The pipe stays open: who writes to a closed one is ended.
    _output: BufReader<ChildStdout>,
    base: String,
    client: reqwest::Client,
    runtime: Runtime,
    _profile: TempDir,
}

impl Driver {
    /// `lang` is what the browser asks pages for.
    pub fn start(lang: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (child, output, port) = (0..STARTS).find_map(|_| listening(lang)).expect("chromedriver finds no port");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(180))
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()
            .unwrap();
        let profile = tempfile::tempdir().unwrap();
        let root = format!("http://127.0.0.1:{port}/session");
        let mut driver = Self { child, _output: output, base: root.clone(), client, runtime, _profile: profile };
        let wanted = capabilities(lang, &driver._profile);
        let session = driver.send("POST", "", &wanted).unwrap_or_else(|refusal| panic!("no session: {refusal}"));
        driver.base = format!("{root}/{}", session["sessionId"].as_str().unwrap());
        driver
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
        // Ends Chromium too.
        let request = self.client.delete(&self.base);
        self.runtime.block_on(async { request.send().await.ok() });
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A chromedriver and the port it listens on. It takes a free port of IPv6 and wants the same one of IPv4, which somebody else
/// may have: then it ends, and is to be started again.
fn listening(lang: &str) -> Option<(Child, BufReader<ChildStdout>, u16)> {
    let mut child = Command::new("chromedriver")
        .arg("--port=0")
        // Times are shown in the browser's zone.
        .env("TZ", "UTC")
        .env("LANGUAGE", lang)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect(HINT);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    if let Some(port) = port(&mut output) {
        return Some((child, output, port));
    }
    child.wait().unwrap();
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

fn capabilities(lang: &str, profile: &TempDir) -> Value {
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
        format!("--user-data-dir={}", profile.path().display()),
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
