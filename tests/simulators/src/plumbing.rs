//! What both simulators stand on: a clock that a test may move, seeded ids, the request log, injected faults, and the
//! HTTP server. A simulator itself is a function from [`Request`] to [`Response`], so that its rules can be tested
//! without a socket.

use std::net::TcpListener;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{Bytes, Data, PayloadConfig};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use url::form_urlencoded;

const BODY_LIMIT: usize = 64 << 20;
const LOGGED_BODY_LIMIT: usize = 64 << 10;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Time of a simulator: the machine's, or one that a test moves by hand. Clones share it.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Mutex<Ticking>>);

#[derive(Clone, Copy, Debug)]
enum Ticking {
    System { ahead: chrono::Duration },
    Manual { at: DateTime<Utc> },
}

#[expect(clippy::disallowed_methods, reason = "the one place where the simulators ask the machine for the time")]
fn machine_time() -> DateTime<Utc> {
    Utc::now()
}

impl SimClock {
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(Ticking::System { ahead: chrono::Duration::zero() })))
    }

    pub fn manual(at: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(Ticking::Manual { at })))
    }

    pub fn now(&self) -> DateTime<Utc> {
        match *lock(&self.0) {
            Ticking::System { ahead } => machine_time() + ahead,
            Ticking::Manual { at } => at,
        }
    }

    /// A running clock keeps running from `at`; a manual one stands there.
    pub fn set(&self, at: DateTime<Utc>) {
        match &mut *lock(&self.0) {
            Ticking::System { ahead } => *ahead = at - machine_time(),
            Ticking::Manual { at: now } => *now = at,
        }
    }

    pub fn advance(&self, by: chrono::Duration) {
        match &mut *lock(&self.0) {
            Ticking::System { ahead } => *ahead += by,
            Ticking::Manual { at } => *at += by,
        }
    }

    pub fn is_manual(&self) -> bool {
        matches!(*lock(&self.0), Ticking::Manual { .. })
    }
}

/// Deterministic source of ids and tokens (splitmix64): the same seed gives the same run. Clones share the sequence.
#[derive(Clone, Debug)]
pub struct SimIds(Arc<Mutex<u64>>);

impl SimIds {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    fn next(&self) -> u64 {
        let mut state = lock(&self.0);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn bytes(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_be_bytes());
        }
        out.truncate(len);
        out
    }

    /// `len` lower-case hexadecimal characters.
    pub fn hex(&self, len: usize) -> String {
        let mut text = hex::encode(self.bytes(len.div_ceil(2)));
        text.truncate(len);
        text
    }

    /// Base64url without padding over `bytes` bytes.
    pub fn base64url(&self, bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes(bytes))
    }

    /// A UUID of the version 4 shape.
    pub fn uuid(&self) -> String {
        let mut raw = [0u8; 16];
        raw.copy_from_slice(&self.bytes(16));
        uuid::Builder::from_random_bytes(raw).into_uuid().to_string()
    }

    /// The same sequence from here on, drawn independently.
    pub(crate) fn fork(&self) -> Self {
        Self::new(*lock(&self.0))
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub fn below(&self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }
}

/// What happens to a request that a fault matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultMode {
    /// This status instead of the handler; nothing is done.
    Status(u16),
    /// Connection closed, nothing done.
    DropBefore,
    /// Done, but the answer is lost.
    DropAfter,
    /// Done, but the answer breaks off half-way.
    Cut,
    /// Only slow: [`Fault::delay`], then handled as ever.
    Latency,
    /// Done at once, but the answer comes only after [`Fault::delay`].
    LateAnswer,
    /// Stands still before anything is done, until [`Wire::release`].
    HeldBefore,
    /// Done at once, but the answer waits for [`Wire::release`].
    HeldAfter,
}

/// One injected fault. Faults are taken in order; the first that matches a request is used up by it.
#[derive(Clone, Debug)]
pub struct Fault {
    pub method: Option<String>,
    pub path_contains: String,
    pub mode: FaultMode,
    /// How many requests it hits; -1 = for ever.
    pub times: i64,
    /// How many matching requests pass first.
    pub skip: u32,
    pub headers: Vec<(String, String)>,
    pub body: Option<Value>,
    /// A page for people in place of the body.
    pub page: Option<String>,
    pub delay: Duration,
}

impl Fault {
    /// `method` "" = any. `path_contains` is looked for in the path with its query, as sent.
    pub fn new(method: &str, path_contains: &str, mode: FaultMode) -> Self {
        Self {
            method: (!method.is_empty()).then(|| method.to_ascii_uppercase()),
            path_contains: path_contains.to_owned(),
            mode,
            times: 1,
            skip: 0,
            headers: Vec::new(),
            body: None,
            page: None,
            delay: Duration::ZERO,
        }
    }

    pub fn status(method: &str, path_contains: &str, status: u16) -> Self {
        Self::new(method, path_contains, FaultMode::Status(status))
    }

    pub fn drop_before(method: &str, path_contains: &str) -> Self {
        Self::new(method, path_contains, FaultMode::DropBefore)
    }

    pub fn drop_after(method: &str, path_contains: &str) -> Self {
        Self::new(method, path_contains, FaultMode::DropAfter)
    }

    pub fn cut(method: &str, path_contains: &str) -> Self {
        Self::new(method, path_contains, FaultMode::Cut)
    }

    /// 200 with a page for people, as of a proxy or while EspoCRM is being updated; nothing is done.
    pub fn page(method: &str, path_contains: &str, page: &str) -> Self {
        Self { page: Some(page.to_owned()), ..Self::status(method, path_contains, 200) }
    }

    pub fn latency(method: &str, path_contains: &str, delay: Duration) -> Self {
        Self::new(method, path_contains, FaultMode::Latency).delay(delay)
    }

    pub fn late_answer(method: &str, path_contains: &str, delay: Duration) -> Self {
        Self::new(method, path_contains, FaultMode::LateAnswer).delay(delay)
    }

    pub fn held_before(method: &str, path_contains: &str) -> Self {
        Self::new(method, path_contains, FaultMode::HeldBefore)
    }

    pub fn held_after(method: &str, path_contains: &str) -> Self {
        Self::new(method, path_contains, FaultMode::HeldAfter)
    }

    pub fn times(mut self, times: i64) -> Self {
        self.times = times;
        self
    }

    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn take(&mut self, method: &str, target: &str) -> bool {
        let matches = self.times != 0
            && self.method.as_ref().is_none_or(|m| m.eq_ignore_ascii_case(method))
            && target.contains(&self.path_contains);
        if !matches {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times > 0 {
            self.times -= 1;
        }
        true
    }
}

/// One row of the request log.
#[derive(Clone, Debug, Serialize)]
pub struct Logged {
    pub at: DateTime<Utc>,
    pub method: String,
    /// Path with query, as sent.
    pub path: String,
    /// 0 while running, -1 dropped before the handler, -N dropped after the handler answered N.
    pub status: i32,
    pub body: Option<String>,
    /// Whose mailbox or account the request is about, if the handler could tell.
    pub mailbox: Option<String>,
    /// Made by a person at the keyboard (header `X-Simulator-Person: 1` or a browser page), not by the client under test.
    pub person: bool,
    /// W3C trace context that came with it.
    pub traceparent: Option<String>,
    /// Answered by an injected fault.
    pub fault: bool,
    pub took: Duration,
}

impl Logged {
    pub fn is_write(&self) -> bool {
        matches!(self.method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE")
    }
}

struct WireState {
    faults: Vec<Fault>,
    down: bool,
    latency: Duration,
    log: Vec<Logged>,
    running: usize,
    /// Counts how often everything under way was given up.
    epoch: u64,
}

/// Log, faults, down switch and latency of one simulator. Requests of a person pass by faults, the switch and latency.
#[derive(Clone)]
pub struct Wire {
    clock: SimClock,
    state: Arc<Mutex<WireState>>,
    hold: Arc<Hold>,
}

/// Requests that stand still.
#[derive(Default)]
struct Hold {
    begun: tokio::sync::Notify,
    released: tokio::sync::Notify,
}

struct Admitted {
    row: usize,
    down: bool,
    fault: Option<Fault>,
    latency: Duration,
}

/// What the server does with a request after the wire had its say.
enum Outcome {
    Cut(Response),
    Answer(Response),
    Drop,
}

impl Wire {
    pub fn new(clock: SimClock) -> Self {
        let state = WireState {
            faults: Vec::new(),
            down: false,
            latency: Duration::ZERO,
            log: Vec::new(),
            running: 0,
            epoch: 0,
        };
        Self { clock, state: Arc::new(Mutex::new(state)), hold: Arc::default() }
    }

    /// Returns once a request stands still at a fault of [`FaultMode::HeldBefore`] or [`FaultMode::HeldAfter`].
    pub async fn held(&self) {
        self.hold.begun.notified().await;
    }

    /// Lets the requests go on that stand still.
    pub fn release(&self) {
        self.hold.released.notify_waiters();
    }

    /// True when the request may go on, false when it was given up.
    async fn stand_still(&self) -> bool {
        // Waiting begins before it is told of, or a release in between would be missed.
        let released = self.hold.released.notified();
        tokio::pin!(released);
        released.as_mut().enable();
        let epoch = lock(&self.state).epoch;
        self.hold.begun.notify_one();
        released.await;
        lock(&self.state).epoch == epoch
    }

    /// Gives up the requests that stand still: what was not done yet is never done, as when their sender died.
    pub fn abandon(&self) {
        lock(&self.state).epoch += 1;
        self.release();
    }

    /// Forgets everything: faults, switches, the log, and the requests that stand still.
    pub fn reset(&self) {
        self.clear();
        self.abandon();
        let mut state = lock(&self.state);
        state.log.clear();
        state.running = 0;
    }

    pub fn push(&self, fault: Fault) {
        lock(&self.state).faults.push(fault);
    }

    /// Takes back all faults, the down switch and the latency.
    pub fn clear(&self) {
        let mut state = lock(&self.state);
        state.faults.clear();
        state.down = false;
        state.latency = Duration::ZERO;
    }

    /// How many requests the pushed faults will still hit; `None` when one of them lasts for ever.
    pub fn pending_faults(&self) -> Option<i64> {
        let state = lock(&self.state);
        state.faults.iter().try_fold(0, |sum, fault| (fault.times >= 0).then_some(sum + fault.times))
    }

    pub fn set_down(&self, down: bool) {
        lock(&self.state).down = down;
    }

    pub fn is_down(&self) -> bool {
        lock(&self.state).down
    }

    pub fn set_latency(&self, latency: Duration) {
        lock(&self.state).latency = latency;
    }

    pub fn log(&self) -> Vec<Logged> {
        lock(&self.state).log.clone()
    }

    pub fn clear_log(&self) {
        let mut state = lock(&self.state);
        // A request under way still has to find its row.
        if state.running == 0 {
            state.log.clear();
        }
    }

    /// How many requests are being handled right now.
    pub fn running(&self) -> usize {
        lock(&self.state).running
    }

    /// A place in the log, for [`Wire::since`].
    pub fn mark(&self) -> usize {
        lock(&self.state).log.len()
    }

    /// Requests of the client under test since `mark`.
    pub fn since(&self, mark: usize) -> Vec<Logged> {
        lock(&self.state).log.iter().skip(mark).filter(|row| !row.person).cloned().collect()
    }

    /// The writing ones of [`Wire::since`].
    pub fn writes_since(&self, mark: usize) -> Vec<Logged> {
        lock(&self.state).log.iter().skip(mark).filter(|row| !row.person && row.is_write()).cloned().collect()
    }

    /// How many of [`Wire::writes_since`] are meant; none of them is copied.
    pub fn count_writes(&self, mark: usize, meant: impl Fn(&Logged) -> bool) -> usize {
        let state = lock(&self.state);
        state.log.iter().skip(mark).filter(|row| !row.person && row.is_write() && meant(row)).count()
    }

    /// When the request at `mark` came.
    pub fn at(&self, mark: usize) -> Option<DateTime<Utc>> {
        lock(&self.state).log.get(mark).map(|row| row.at)
    }

    fn admit(&self, request: &Request) -> Admitted {
        let target = request.target();
        let body = (!request.body.is_empty() && request.body.len() <= LOGGED_BODY_LIMIT)
            .then(|| String::from_utf8_lossy(&request.body).into_owned());
        let mut state = lock(&self.state);
        let row = state.log.len();
        let fault = if request.person || state.down {
            None
        } else {
            state.faults.iter_mut().find_map(|fault| fault.take(&request.method, &target).then(|| fault.clone()))
        };
        state.faults.retain(|fault| fault.times != 0);
        state.running += 1;
        let latency = if request.person { Duration::ZERO } else { state.latency };
        state.log.push(Logged {
            at: self.clock.now(),
            method: request.method.clone(),
            path: target,
            status: 0,
            body,
            mailbox: request.mailbox.clone(),
            person: request.person,
            traceparent: request.header("traceparent").map(str::to_owned),
            fault: fault.is_some(),
            took: Duration::ZERO,
        });
        Admitted { row, down: state.down && !request.person, fault, latency }
    }

    fn close(&self, row: usize, status: i32, answer: Option<&Response>, took: Duration) {
        let mut state = lock(&self.state);
        state.running = state.running.saturating_sub(1);
        if let Some(logged) = state.log.get_mut(row) {
            logged.status = status;
            logged.took = took;
            if let Some(answer) = answer {
                logged.person |= answer.person;
                if answer.mailbox.is_some() {
                    logged.mailbox.clone_from(&answer.mailbox);
                }
            }
        }
    }

    async fn run(&self, request: Request, handler: &Handler) -> Outcome {
        let started = Instant::now();
        let admitted = self.admit(&request);
        let mode = admitted.fault.as_ref().map(|fault| fault.mode);
        let of_fault = admitted.fault.as_ref().map_or(Duration::ZERO, |fault| fault.delay);
        let (before, after) =
            if mode == Some(FaultMode::LateAnswer) { (Duration::ZERO, of_fault) } else { (of_fault, Duration::ZERO) };
        let delay = admitted.latency + before;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if mode == Some(FaultMode::HeldBefore) && !self.stand_still().await {
            return Outcome::Drop;
        }
        if admitted.down || mode == Some(FaultMode::DropBefore) {
            self.close(admitted.row, -1, None, started.elapsed());
            return Outcome::Drop;
        }
        if let (Some(FaultMode::Status(status)), Some(fault)) = (mode, admitted.fault.as_ref()) {
            let mut answer = match (&fault.page, &fault.body) {
                (Some(page), _) => Response::html(status, page.clone()),
                (None, Some(body)) => Response::json(status, body),
                (None, None) => Response::empty(status),
            };
            answer.headers.extend(fault.headers.iter().cloned());
            self.close(admitted.row, i32::from(status), None, started.elapsed());
            return Outcome::Answer(answer);
        }
        let answer = handler(request).await;
        let status = i32::from(answer.status);
        if mode == Some(FaultMode::DropAfter) {
            self.close(admitted.row, -status, Some(&answer), started.elapsed());
            return Outcome::Drop;
        }
        if mode == Some(FaultMode::Cut) {
            self.close(admitted.row, -status, Some(&answer), started.elapsed());
            return Outcome::Cut(answer);
        }
        self.close(admitted.row, status, Some(&answer), started.elapsed());
        if mode == Some(FaultMode::HeldAfter) && !self.stand_still().await {
            return Outcome::Drop;
        }
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        Outcome::Answer(answer)
    }
}

/// A plain HTTP request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// As sent, without the query.
    pub raw_path: String,
    /// As sent, without the question mark; empty when there is none.
    pub raw_query: String,
    /// Percent-decoded.
    pub path: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// `http://127.0.0.1:PORT`
    pub base: String,
    pub person: bool,
    /// For the handler's own use; what the log shows is [`Response::mailbox`].
    pub mailbox: Option<String>,
}

impl Request {
    /// A request as a client would send it; `target` is a path with an optional query.
    pub fn new(method: &str, target: &str) -> Self {
        let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: method.to_ascii_uppercase(),
            raw_path: raw_path.to_owned(),
            raw_query: raw_query.to_owned(),
            path: percent_decode(raw_path),
            query: form_urlencoded::parse(raw_query.as_bytes()).into_owned().collect(),
            ..Self::default()
        }
    }

    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn with_json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.with_header("Content-Type", "application/json")
    }

    /// Path with query, as sent.
    pub fn target(&self) -> String {
        if self.raw_query.is_empty() { self.raw_path.clone() } else { format!("{}?{}", self.raw_path, self.raw_query) }
    }

    /// The first header of that name; names are case-insensitive.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// The fields of an HTML form.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

/// Percent-decodes a path; bytes that are no UTF-8 become U+FFFD, a broken escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digits = (ahead.next().and_then(hex_digit), ahead.next().and_then(hex_digit));
        if let (b'%', (Some(high), Some(low))) = (byte, digits) {
            out.push(high * 16 + low);
            bytes = ahead;
        } else {
            out.push(byte);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A plain HTTP response.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// For the request log: whose mailbox or account the request was about.
    pub mailbox: Option<String>,
    /// For the request log: this was a person's doing, as on a page in the browser.
    pub person: bool,
}

impl Response {
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string().into_bytes(), ..Self::default() }
            .header("Content-Type", "application/json")
    }

    pub fn html(status: u16, body: String) -> Self {
        Self { status, body: body.into_bytes(), ..Self::default() }.header("Content-Type", "text/html; charset=UTF-8")
    }

    /// 303 to `location`, as after a form was taken.
    pub fn see_other(location: &str) -> Self {
        Self::empty(303).header("Location", location)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn mailbox(mut self, mailbox: &str) -> Self {
        self.mailbox = Some(mailbox.to_owned());
        self
    }

    pub fn by_person(mut self) -> Self {
        self.person = true;
        self
    }

    pub fn get_header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// A simulator's state machine, as the server sees it.
pub type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// A server that runs until it is stopped.
pub struct Running {
    pub url: String,
    pub port: u16,
    handle: actix_web::dev::ServerHandle,
}

impl Running {
    /// Closes the port and the open connections.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

struct Served {
    wire: Wire,
    handler: Handler,
    base: String,
}

/// A body that breaks at its first byte: the server then closes the connection without having flushed the head.
struct Broken;

impl MessageBody for Broken {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(1)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(Some(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))))
    }
}

async fn answer(request: HttpRequest, body: Bytes, served: Data<Served>) -> HttpResponse {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut plain = Request::new(request.method().as_str(), target);
    plain.headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    plain.body = body.to_vec();
    plain.base.clone_from(&served.base);
    plain.person = plain.header("X-Simulator-Person") == Some("1")
        || matches!(plain.path.as_str(), "/" | "/favicon.ico")
        || plain.path.starts_with("/ui");
    match served.wire.run(plain, &served.handler).await {
        Outcome::Drop => HttpResponse::Ok().force_close().body(Broken),
        Outcome::Answer(response) => {
            let date = served.wire.clock.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            to_actix(response.header("Date", &date))
        }
        Outcome::Cut(response) => {
            let half = Half { size: response.body.len() as u64, begin: Some(first_half(&response.body)) };
            to_actix(Response { body: Vec::new(), ..response }).map_body(|head, _| {
                head.set_connection_type(actix_web::http::ConnectionType::Close);
                actix_web::body::BoxBody::new(half)
            })
        }
    }
}

fn first_half(body: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&body[..body.len() / 2])
}

/// A body of which the first half comes, and then the connection is closed.
struct Half {
    size: u64,
    begin: Option<Bytes>,
}

impl MessageBody for Half {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.size)
    }

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let end = || Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        Poll::Ready(Some(self.begin.take().map_or_else(end, Ok)))
    }
}

fn to_actix(response: Response) -> HttpResponse {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut out = HttpResponse::new(status);
    for (name, value) in &response.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
            out.headers_mut().append(name, value);
        }
    }
    out.set_body(actix_web::body::BoxBody::new(response.body))
}

/// Serves `handler` over HTTP on 127.0.0.1:`port` (0 = any free one), under the faults and into the log of `wire`.
pub async fn serve(port: u16, wire: Wire, handler: Handler) -> std::io::Result<Running> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let port = listener.local_addr()?.port();
    let url = format!("http://127.0.0.1:{port}");
    let served = Data::new(Served { wire, handler, base: url.clone() });
    let server = HttpServer::new(move || {
        App::new().app_data(served.clone()).app_data(PayloadConfig::new(BODY_LIMIT)).default_service(web::to(answer))
    })
    .workers(2)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    tokio::spawn(server);
    Ok(Running { url, port, handle })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn echo() -> Handler {
        Arc::new(|request: Request| {
            Box::pin(async move { Response::json(200, &json!({"path": request.path, "query": request.query})) })
        })
    }

    fn start_of_test() -> SimClock {
        let _ = rustls::crypto::ring::default_provider().install_default();
        SimClock::manual(DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand_and_for_all_clones() {
        let clock = SimClock::manual(DateTime::UNIX_EPOCH);
        let other = clock.clone();
        other.advance(chrono::Duration::minutes(5));
        assert_eq!(clock.now(), DateTime::UNIX_EPOCH + chrono::Duration::minutes(5));
        assert!(clock.is_manual() && !SimClock::system().is_manual());
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (a, b) = (SimIds::new(7), SimIds::new(7));
        let first = (a.hex(17), a.uuid(), a.base64url(9));
        assert_eq!(first, (b.hex(17), b.uuid(), b.base64url(9)));
        assert_eq!(first.0.len(), 17);
        assert_eq!(first.1.as_bytes()[14], b'4');
        assert_ne!(a.hex(17), first.0);
    }

    #[test]
    fn paths_are_decoded_and_broken_escapes_kept() {
        assert_eq!(percent_decode("/a%20b/%C3%BC%2"), "/a b/ü%2");
    }

    #[tokio::test]
    async fn faults_are_taken_in_order_and_used_up() {
        let wire = Wire::new(start_of_test());
        let running = serve(0, wire.clone(), echo()).await.unwrap();
        wire.push(Fault::status("GET", "/one", 429).header("Retry-After", "7").skip(1));
        wire.push(Fault::drop_before("", "/two"));
        wire.push(Fault::drop_after("", "/three"));
        wire.push(Fault::cut("", "/four"));
        wire.push(Fault::page("", "/five", "<p>Maintenance</p>"));
        let client = reqwest::Client::builder().build().unwrap();
        let get = |path: &str| client.get(format!("{}{path}", running.url)).send();
        assert_eq!(get("/one?x=%C3%BC").await.unwrap().status(), 200);
        let limited = get("/one").await.unwrap();
        assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "7"));
        assert_eq!(get("/one").await.unwrap().status(), 200);
        assert!(get("/two").await.is_err());
        assert!(get("/three").await.is_err());
        assert_eq!(get("/three").await.unwrap().status(), 200);
        match get("/four").await {
            Ok(answer) => assert!(answer.bytes().await.is_err(), "the answer came to its end"),
            Err(error) => assert!(!error.is_connect(), "{error}"),
        }
        assert_eq!(get("/five").await.unwrap().text().await.unwrap(), "<p>Maintenance</p>");
        let statuses: Vec<i32> = wire.log().iter().map(|row| row.status).collect();
        assert_eq!(statuses, [200, 429, 200, -1, -200, 200, -200, 200]);
        running.stop().await;
    }

    #[tokio::test]
    async fn a_person_passes_when_the_system_is_down_for_the_client() {
        let wire = Wire::new(start_of_test());
        let running = serve(0, wire.clone(), echo()).await.unwrap();
        wire.set_down(true);
        let client = reqwest::Client::builder().build().unwrap();
        assert!(client.post(format!("{}/x", running.url)).send().await.is_err());
        let person = client.post(format!("{}/x", running.url)).header("X-Simulator-Person", "1").send().await;
        assert_eq!(person.unwrap().status(), 200);
        assert_eq!(wire.writes_since(0).len(), 1);
        assert_eq!(wire.log().len(), 2);
        running.stop().await;
    }
}
