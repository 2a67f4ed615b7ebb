//! Who is asking: the API key, its HMAC form, or an administrator (who may act as a user).
//!
//! Facts (EspoCRM 9.3): `X-Api-Key`; or `X-Hmac-Authorization: base64(key ":" hex(HMAC-SHA256(secret, METHOD " /" path)))` over
//! the path below `/api/v1` without the query; `X-Another-User` is honoured for administrators only. More than ten failed
//! logins within 60 s lock the address out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use tokio::sync::MutexGuard;

use crate::{Error, Result};

/// With the five of the key and the three of the administrator we stay below EspoCRM's ten.
pub(crate) const KEY_ATTEMPTS: usize = 5;
pub(crate) const ADMIN_ATTEMPTS: usize = 3;
/// People who sign in: so few in a minute, whosever mistakes they are, and none while the key or the administrator uses them up.
pub(crate) const PEOPLE_ATTEMPTS: usize = 5;
/// All together: what is in flight when the last one is counted still stays below EspoCRM's ten.
const ALL_ATTEMPTS: usize = 8;
const WINDOW: TimeDelta = TimeDelta::seconds(60);
/// So many refusals in a row may come at once; then attempts are spread over the minute, so that a credential that is mended is
/// found out soon and not when the minute is over.
const AT_ONCE: usize = 2;

/// As whom a request goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity<'a> {
    Key,
    Admin,
    AdminAs(&'a str),
    /// Somebody who signs in; the request brings the credentials.
    Person,
}

impl Identity<'_> {
    pub(crate) const fn credential(self) -> &'static str {
        match self {
            Self::Key => "API key",
            Self::Admin | Self::AdminAs(_) => "administrator account",
            Self::Person => "user name or password",
        }
    }
}

/// The value of `X-Hmac-Authorization`.
pub(crate) fn hmac_header(key: &SecretString, secret: &SecretString, method: &str, path: &str) -> Result<String> {
    let mut mac = <Hmac<Sha256>>::new_from_slice(secret.expose_secret().as_bytes())
        .map_err(|_| Error::Settings("the secret key cannot be used for HMAC".to_owned()))?;
    mac.update(format!("{method} /{path}").as_bytes());
    let digest = hex::encode(mac.finalize().into_bytes());
    Ok(STANDARD.encode(format!("{}:{digest}", key.expose_secret())))
}

/// The value of `Authorization`.
pub(crate) fn basic_header(name: &str, password: &SecretString) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{}", password.expose_secret())))
}

/// Refused logins of the last minute, whosever they were: EspoCRM counts them by address. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<VecDeque<DateTime<Utc>>>>);

impl Refusals {
    fn add(&self, at: DateTime<Utc>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(at);
    }

    /// How long to wait until there are fewer than that.
    fn check(&self, limit: usize, now: DateTime<Utc>) -> std::result::Result<(), Duration> {
        below(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), limit, now)
    }
}

/// How long to wait, with so many attempts a minute of which two may come at once, until the next one.
fn spread(refusals: &VecDeque<DateTime<Utc>>, limit: usize, now: DateTime<Utc>) -> std::result::Result<(), Duration> {
    let Some(last) = refusals.back().filter(|_| refusals.len() >= AT_ONCE) else { return Ok(()) };
    let gap = WINDOW / i32::try_from(limit.saturating_sub(AT_ONCE) + 1).unwrap_or(1);
    match (*last + gap - now).to_std() {
        Ok(wait) if !wait.is_zero() => Err(wait),
        _ => Ok(()),
    }
}

fn below(
    refusals: &mut VecDeque<DateTime<Utc>>,
    limit: usize,
    now: DateTime<Utc>,
) -> std::result::Result<(), Duration> {
    refusals.retain(|at| now - *at < WINDOW);
    let excess = (refusals.len() + 1).saturating_sub(limit);
    match excess.checked_sub(1).and_then(|last| refusals.get(last)) {
        Some(last) => Err((*last + WINDOW - now).to_std().unwrap_or_default()),
        None => Ok(()),
    }
}

/// Keeps a refused credential from being hammered. Until a credential has been accepted, and again after it was refused,
/// requests go one at a time, and no more once the limit of refusals within a minute is reached.
pub(crate) struct Gate {
    limit: usize,
    all: Refusals,
    all_limit: usize,
    /// Whether an accepted credential speaks for the next one.
    one_credential: bool,
    state: Mutex<State>,
    probe: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    accepted: bool,
    refused: bool,
    refusals: VecDeque<DateTime<Utc>>,
}

/// The permission to send; while a credential is unproven it excludes the others.
pub(crate) struct Pass<'a>(#[expect(dead_code, reason = "held for its lock")] Option<MutexGuard<'a, ()>>);

impl Gate {
    pub(crate) fn new(limit: usize, all: Refusals) -> Self {
        let (state, probe) = (Mutex::default(), tokio::sync::Mutex::new(()));
        Self { limit, all, all_limit: ALL_ATTEMPTS, one_credential: true, state, probe }
    }

    /// For the credentials of many people.
    pub(crate) fn of_people(all: Refusals) -> Self {
        Self { all_limit: PEOPLE_ATTEMPTS, one_credential: false, ..Self::new(PEOPLE_ATTEMPTS, all) }
    }

    pub(crate) async fn enter(&self, now: impl Fn() -> DateTime<Utc>) -> std::result::Result<Pass<'_>, Duration> {
        if self.is_accepted() {
            return Ok(Pass(None));
        }
        let guard = self.probe.lock().await;
        if self.is_accepted() {
            return Ok(Pass(None));
        }
        self.check(now()).map(|()| Pass(Some(guard)))
    }

    pub(crate) fn refused(&self, at: DateTime<Utc>) {
        self.all.add(at);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.accepted, state.refused) = (false, self.one_credential);
        state.refusals.push_back(at);
    }

    pub(crate) fn accepted(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.accepted, state.refused) = (self.one_credential, false);
    }

    /// True when the last that was heard of the credential is that it is refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refused
    }

    fn is_accepted(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).accepted
    }

    fn check(&self, now: DateTime<Utc>) -> std::result::Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        below(&mut state.refusals, self.limit, now)?;
        if self.one_credential {
            spread(&state.refusals, self.limit, now)?;
        }
        drop(state);
        self.all.check(self.all_limit, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + second, 0).expect("a moment")
    }

    #[tokio::test]
    async fn a_refused_key_is_tried_five_times_a_minute_and_then_again() {
        let gate = Gate::new(KEY_ATTEMPTS, Refusals::default());
        let mut attempts = Vec::new();
        for second in 0..600 {
            if gate.enter(|| at(second)).await.is_ok() {
                gate.refused(at(second));
                attempts.push(second);
            }
        }
        let within_a_minute = |from: &i64| attempts.iter().filter(|at| (*from..from + 60).contains(at)).count();
        assert_eq!(attempts.iter().map(within_a_minute).max(), Some(5), "{attempts:?}");
        let longest = attempts.windows(2).map(|two| two[1] - two[0]).max();
        assert!(longest <= Some(16), "a key that is mended waits for the next attempt: {attempts:?}");
        assert_eq!(attempts[..2], [0, 1], "one refusal may be a slip");
        assert!(gate.is_refused());
        gate.accepted();
        assert!(!gate.is_refused());
    }

    #[tokio::test]
    async fn an_accepted_key_goes_without_limit_until_it_is_refused() {
        let gate = Gate::new(1, Refusals::default());
        gate.accepted();
        let first = gate.enter(|| at(0)).await;
        let second = gate.enter(|| at(0)).await;
        assert!(first.is_ok() && second.is_ok(), "both at once");
        gate.refused(at(0));
        assert!(gate.enter(|| at(1)).await.is_err());
    }

    #[tokio::test]
    async fn people_who_mistype_leave_the_key_its_attempts_and_stay_below_ten_together() {
        let all = Refusals::default();
        let (people, key) = (Gate::of_people(all.clone()), Gate::new(KEY_ATTEMPTS, all));
        for second in 0..5 {
            assert!(people.enter(|| at(second)).await.is_ok());
            people.accepted();
            people.refused(at(second));
        }
        assert_eq!(people.enter(|| at(10)).await.err(), Some(Duration::from_secs(50)));
        for second in [10, 10, 26] {
            assert!(key.enter(|| at(second)).await.is_ok());
            key.refused(at(second));
        }
        assert!(key.enter(|| at(45)).await.is_err(), "eight refusals within the minute");
        assert!(people.enter(|| at(69)).await.is_ok(), "only the three of the key are left");
    }

    #[tokio::test]
    async fn nobody_signs_in_while_the_key_uses_up_the_attempts() {
        let all = Refusals::default();
        let (people, key) = (Gate::of_people(all.clone()), Gate::new(KEY_ATTEMPTS, all));
        (0..5).for_each(|second| key.refused(at(second)));
        assert_eq!(people.enter(|| at(10)).await.err(), Some(Duration::from_secs(50)));
    }

    #[test]
    fn the_hmac_header_is_the_one_of_the_documentation() {
        let header = hmac_header(&"key".into(), &"secret".into(), "GET", "Meeting").expect("a header");
        let text = String::from_utf8(STANDARD.decode(header).expect("base64")).expect("text");
        // printf 'GET /Meeting' | openssl dgst -sha256 -hmac secret
        assert_eq!(text, format!("key:{EXPECTED}"));
    }

    const EXPECTED: &str = "3ac34b74143d40a51ed46c499d6c03176fce06d406b95f7bbbf3012c37322c4e";
}
