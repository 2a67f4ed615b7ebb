//! What can go wrong with a request, and what the caller may do about it.
//!
//! Facts: the error body is `{"error":{"code","message","innerError":{"code"}}}`; clients branch on status and code, never on
//! the message; letter case of codes varies; To Do wraps Exchange's code into an inner error (learn.microsoft.com/graph/errors).
//! A 404 means "this item is gone" under `ErrorItemNotFound` alone: `MailboxNotEnabledForRESTAPI` says that the whole mailbox
//! is. `Retry-After` comes as seconds, also fractional ones (learn.microsoft.com/graph/throttling), or as a date.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::auth::AuthError;

/// What the caller may do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing was done: try again, after that long where Graph said so.
    Retry {
        /// How long to stay away.
        after: Option<Duration>,
    },
    /// Somebody else changed it: read both ends again and decide anew.
    Refetch,
    /// The answer makes no sense. Somebody in between may have given it: a few times more.
    Odd,
    /// It will be refused again.
    Fail,
    /// A write was sent and may or may not have happened: look before writing again.
    Unsure,
    /// The user has to sign in.
    SignIn,
    /// The operator has to correct the app registration or its secret; no user is to blame.
    Operator,
    /// The mailbox as a whole cannot be used.
    Mailbox,
    /// The delta link is worth nothing any more: read everything.
    Resync,
}

/// An error of a request to Graph.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 429, or a request that was not sent because an earlier 429 told us to stay away.
    #[error("Microsoft throttles this mailbox; it is left alone for {:.1} s", .after.as_secs_f64())]
    Throttled {
        /// How long to stay away.
        after: Duration,
    },
    /// Not sent: Graph did not answer several times in a row.
    #[error("Microsoft Graph does not answer; it is asked again in {:.0} s", .after.as_secs_f64().ceil())]
    Away {
        /// Until the next attempt.
        after: Duration,
    },
    /// A request that was not sent: it is not known how many other processes have under way to that mailbox.
    #[error("no place among the requests to this mailbox")]
    NoPlace {
        /// Why not.
        #[source]
        source: crate::throttle::NoPlace,
    },
    /// 412: the item was changed since it was read.
    #[error("the item was changed in Outlook since it was read")]
    Stale,
    /// A write to an item that is not there any more.
    #[error("the item was deleted or moved in Outlook since it was read")]
    Gone,
    /// 410 or `SyncStateNotFound`: the delta link has expired.
    #[error("Microsoft has forgotten the state of this delta link; everything has to be read again")]
    ResyncNeeded,
    /// The mailbox cannot be used over Graph.
    #[error(
        "the mailbox cannot be used ({code}: {message}); check that the user exists, has an Exchange Online licence and that no access policy excludes this app"
    )]
    Mailbox {
        /// Whose, where it was a request to a mailbox.
        user: String,
        /// Graph's code.
        code: String,
        /// Graph's words, for people.
        message: String,
    },
    /// The thing that was addressed does not exist (a read of an item answers [`sync::Seen::Gone`] instead).
    #[error("not found: {message}")]
    NotFound {
        /// Graph's words, for people.
        message: String,
    },
    /// 409: it exists already (a subscription, a transaction id).
    #[error("exists already: {message}")]
    Conflict {
        /// Graph's words, for people.
        message: String,
    },
    /// A token that was just issued is refused.
    #[error("Microsoft refuses the access token ({message}); {}", if *.application { "grant admin consent to the app again" } else { "it is tried again; if that lasts, the user has to sign in again" })]
    Unauthorized {
        /// Whose token it was, where it was a request to a mailbox.
        user: String,
        /// Graph's words, for people.
        message: String,
        /// The app's own token, not a user's.
        application: bool,
    },
    /// A 5xx, or a condition that passes.
    #[error("Microsoft has a problem of its own ({status} {code}: {message})")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// Graph's code.
        code: String,
        /// Graph's words, for people.
        message: String,
        /// How long to stay away, when Graph said so.
        after: Option<Duration>,
        /// The request was a write.
        write: bool,
    },
    /// Any other refusal.
    #[error("Microsoft refused the request ({status} {code}: {message}; request-id {request_id})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Graph's code.
        code: String,
        /// Graph's words, for people.
        message: String,
        /// For Microsoft's support.
        request_id: String,
    },
    /// No answer came.
    #[error("no answer from Microsoft")]
    Unreachable {
        /// The request may have arrived, and it was a write.
        unsure: bool,
        /// What broke.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not what the documentation says.
    #[error("the answer of Microsoft cannot be read: {what}")]
    Unreadable {
        /// What is missing or malformed.
        what: String,
        /// The parser's words.
        #[source]
        source: Option<serde_json::Error>,
        /// The request was a write, and succeeded.
        unsure: bool,
    },
    /// A link in an answer leads away from the configured Graph address.
    #[error("a paging link leads to {host}, which is not the configured Graph address; it was not followed")]
    ForeignLink {
        /// Where to.
        host: String,
    },
    /// A value that the item cannot hold.
    #[error("{field} cannot be written to Outlook: {why}")]
    Unwritable {
        /// The field.
        field: sync::Field,
        /// Why.
        why: &'static str,
    },
    /// There is no token.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl Error {
    /// What the caller may do.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Throttled { after } | Self::Away { after } => Disposition::Retry { after: Some(*after) },
            Self::NoPlace { .. } => Disposition::Retry { after: Some(Duration::from_secs(1)) },
            Self::Stale | Self::Gone => Disposition::Refetch,
            Self::ResyncNeeded => Disposition::Resync,
            Self::Mailbox { .. } => Disposition::Mailbox,
            Self::Unauthorized { application: true, .. } => Disposition::Operator,
            // The user's permission was good a moment ago, or there would be no token: it may be again.
            Self::Unauthorized { application: false, .. } => Disposition::Mailbox,
            Self::Unreadable { unsure: false, .. } => Disposition::Odd,
            Self::Unavailable { write: true, .. }
            | Self::Unreachable { unsure: true, .. }
            | Self::Unreadable { unsure: true, .. } => Disposition::Unsure,
            Self::Unavailable { after, .. } => Disposition::Retry { after: *after },
            Self::Unreachable { .. } => Disposition::Retry { after: None },
            Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::ForeignLink { .. }
            | Self::Unwritable { .. } => Disposition::Fail,
            Self::Auth(error) => error.disposition(),
        }
    }

    /// How long Graph asked us to stay away, whatever the disposition.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { after } => Some(*after),
            Self::Unavailable { after, .. } => *after,
            Self::Auth(error) => error.retry_after(),
            _ => None,
        }
    }

    /// True when it tells that Graph as a whole does not answer, whatever was asked.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unreachable { .. } | Self::Away { .. })
    }

    pub(crate) fn unreadable(what: impl Into<String>) -> Self {
        Self::Unreadable { what: what.into(), source: None, unsure: false }
    }
}

/// How long to stay away when a 429 does not say.
const DEFAULT_PAUSE: Duration = Duration::from_secs(10);
/// No header makes us stay away for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The value of a `Retry-After` header: seconds, also fractional ones, or a date.
pub(crate) fn parse_retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let wait = match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            Duration::from_secs_f64(seconds.min(LONGEST_PAUSE.as_secs_f64()))
        }
        Ok(_) => return None,
        Err(_) => {
            let at = DateTime::parse_from_rfc2822(value).ok()?;
            (at.with_timezone(&Utc) - now).to_std().unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST_PAUSE))
}

/// A refusal as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusal {
    pub status: u16,
    pub codes: Vec<String>,
    pub message: String,
    pub request_id: String,
    pub after: Option<Duration>,
    pub write: bool,
    /// Whose mailbox it was about.
    pub user: String,
}

#[derive(Deserialize, Default)]
struct Envelope {
    #[serde(default)]
    error: Option<Body>,
}

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default, rename = "innerError", alias = "innererror")]
    inner: Option<Box<Body>>,
    #[serde(default, rename = "request-id")]
    request_id: Option<String>,
}

impl Refusal {
    pub fn read(status: u16, body: &[u8], after: Option<Duration>, write: bool) -> Self {
        let mut level = serde_json::from_slice::<Envelope>(body).ok().and_then(|envelope| envelope.error).map(Box::new);
        let mut refusal = Self { status, after, write, ..Self::default() };
        while let Some(error) = level {
            refusal.codes.extend(error.code.filter(|code| !code.is_empty()));
            if refusal.message.is_empty() {
                refusal.message = error.message.unwrap_or_default();
            }
            if refusal.request_id.is_empty() {
                refusal.request_id = error.request_id.unwrap_or_default();
            }
            level = error.inner;
        }
        refusal
    }

    pub fn has(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.iter().any(|known| code.eq_ignore_ascii_case(known)))
    }

    /// The one answer that says "this item does not exist": a 404 with Exchange's code for it.
    pub fn is_gone(&self) -> bool {
        self.status == 404 && self.has(&["ErrorItemNotFound", "itemNotFound"])
    }

    fn code(&self) -> String {
        self.codes.first().cloned().unwrap_or_else(|| "no code".to_owned())
    }

    pub fn into_error(self, application: bool) -> Error {
        let code = self.code();
        let Self { status, message, after, write, user, .. } = self.clone();
        if self.is_mailbox() {
            return Error::Mailbox { user, code, message };
        }
        if self.is_resync() {
            return Error::ResyncNeeded;
        }
        if status == 412 || self.has(&["ErrorIrresolvableConflict"]) {
            return Error::Stale;
        }
        if self.is_gone() {
            return Error::Gone;
        }
        match status {
            401 => Error::Unauthorized { user, message, application },
            // A refused read says that the mailbox as a whole is closed to us; a refused write may be about this item.
            403 if !write => Error::Mailbox { user, code, message },
            404 => Error::NotFound { message },
            409 => Error::Conflict { message },
            429 => Error::Throttled { after: after.unwrap_or(DEFAULT_PAUSE) },
            _ if self.passes() => Error::Unavailable { status, code, message, after, write },
            _ => {
                let request_id = if self.request_id.is_empty() { "unknown".to_owned() } else { self.request_id };
                Error::Refused { status, code, message, request_id }
            }
        }
    }

    fn is_mailbox(&self) -> bool {
        (400..500).contains(&self.status)
            && self.has(&[
                "MailboxNotEnabledForRESTAPI",
                "MailboxNotSupportedForRESTAPI",
                "ErrorInvalidUser",
                "ErrorNonExistentMailbox",
                "Request_ResourceNotFound",
                "ErrorMailboxConfiguration",
            ])
    }

    fn is_resync(&self) -> bool {
        self.status == 410
            || (400..500).contains(&self.status)
                && self.has(&[
                    "SyncStateNotFound",
                    "SyncStateInvalid",
                    "resyncRequired",
                    "resyncApplyDifferences",
                    "resyncUploadDifferences",
                ])
    }

    /// True when Graph itself has a problem; a single mailbox that is being moved is none.
    pub fn is_outage(&self) -> bool {
        self.status >= 500 && !self.has(&["ErrorMailboxMoveInProgress", "ErrorMailboxStoreUnavailable"])
    }

    fn passes(&self) -> bool {
        self.status >= 500
            || matches!(self.status, 408 | 423 | 424)
            || self.has(&["ErrorMailboxMoveInProgress", "ErrorMailboxStoreUnavailable", "serviceNotAvailable"])
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn refused(status: u16, body: &str, write: bool) -> Error {
        Refusal::read(status, body.as_bytes(), None, write).into_error(false)
    }

    #[test]
    fn retry_after_is_read_as_seconds_fractions_and_dates() {
        let now = Utc.with_ymd_and_hms(2026, 11, 22, 10, 0, 0).unwrap();
        assert_eq!(parse_retry_after("12", now), Some(Duration::from_secs(12)));
        assert_eq!(parse_retry_after(" 2.128 ", now), Some(Duration::from_millis(2128)));
        assert_eq!(parse_retry_after("Sun, 22 Nov 2026 10:00:30 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(parse_retry_after("Sun, 22 Nov 2026 09:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("1e300", now), Some(LONGEST_PAUSE));
        assert_eq!(parse_retry_after("-1", now), None);
        assert_eq!(parse_retry_after("soon", now), None);
    }

    #[test]
    fn a_disabled_mailbox_is_never_a_deleted_item() {
        let body = include_str!("../fixtures/error.mailbox.404.json");
        let refusal = Refusal::read(404, body.as_bytes(), None, false);
        assert!(!refusal.is_gone());
        assert_eq!(refusal.into_error(false).disposition(), Disposition::Mailbox);
    }

    #[test]
    fn an_unknown_404_is_not_gone() {
        let refusal = Refusal::read(404, br#"{"error":{"code":"ResourceNotFound","message":"?"}}"#, None, false);
        assert!(!refusal.is_gone());
        assert!(!Refusal::read(404, b"<html>proxy</html>", None, false).is_gone());
    }

    #[test]
    fn an_inner_code_of_to_do_counts() {
        let body = r#"{"error":{"code":"invalidRequest","message":"Invalid request","innerError":{"code":"ErrorItemNotFound"}}}"#;
        assert!(Refusal::read(404, body.as_bytes(), None, false).is_gone());
    }

    #[test]
    fn refusals_get_their_disposition() {
        assert_eq!(
            refused(410, include_str!("../fixtures/delta.reset.410.json"), false).disposition(),
            Disposition::Resync
        );
        assert_eq!(refused(400, r#"{"error":{"code":"syncStateNotFound"}}"#, false).disposition(), Disposition::Resync);
        assert_eq!(
            refused(412, include_str!("../fixtures/error.conflict.412.json"), true).disposition(),
            Disposition::Refetch
        );
        assert_eq!(
            refused(403, include_str!("../fixtures/error.accessDenied.403.json"), false).disposition(),
            Disposition::Mailbox
        );
        assert_eq!(
            refused(403, include_str!("../fixtures/error.accessDenied.403.json"), true).disposition(),
            Disposition::Fail
        );
        assert_eq!(
            refused(400, r#"{"error":{"code":"ErrorInvalidIdMalformed"}}"#, false).disposition(),
            Disposition::Fail
        );
        assert_eq!(
            refused(401, "", false).disposition(),
            Disposition::Mailbox,
            "the token is new: it may be a passing trouble"
        );
        assert_eq!(Refusal::read(401, b"", None, false).into_error(true).disposition(), Disposition::Operator);
    }

    #[test]
    fn a_5xx_to_a_write_leaves_us_unsure_and_to_a_read_is_retried() {
        assert_eq!(refused(503, "", true).disposition(), Disposition::Unsure);
        assert_eq!(refused(503, "", false).disposition(), Disposition::Retry { after: None });
    }

    #[test]
    fn a_429_carries_the_time_to_stay_away() {
        let after = Some(Duration::from_millis(2128));
        let error = Refusal::read(429, b"{}", after, true).into_error(false);
        assert_eq!(error.disposition(), Disposition::Retry { after });
    }
}
