//! What can go wrong, and what is to be done about it.
//!
//! Facts (EspoCRM 9.3): the reason of a refusal stands in the header `X-Status-Reason`; a 403 of the lock after too many failed
//! logins has neither that header nor JSON; 409 is `duplicate`, `modified` or an existing field.

use std::time::Duration;

use sync::Field;

/// The result of a request.
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller should do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Nothing was done: try again, not before the given time when there is one.
    Retry {
        /// What the server, or the limit on refused keys, asks for.
        after: Option<Duration>,
    },
    /// What was read is out of date: read again and decide anew.
    Refetch,
    /// The answer makes no sense. Somebody in between may have given it: a few times more.
    Odd,
    /// The request is refused for good.
    Fail,
    /// The request may have been carried out: look before repeating it.
    Unsure,
    /// The key or its role is refused: an operator has to act.
    Denied,
}

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection: nothing was sent.
    #[error("EspoCRM cannot be reached; check espocrm.url and the network")]
    Unreachable(#[source] reqwest::Error),
    /// Not sent: it did not answer several times in a row.
    #[error("EspoCRM does not answer; it is asked again in {:.0} s", .after.as_secs_f64().ceil())]
    Away {
        /// Until the next attempt.
        after: Duration,
    },
    /// The request was sent and no complete answer came.
    #[error("EspoCRM did not answer {request} to the end")]
    Interrupted {
        /// Method and path.
        request: String,
        /// True when it may have changed something.
        write: bool,
        /// What the HTTP client says.
        #[source]
        source: reqwest::Error,
    },
    /// 5xx.
    #[error("EspoCRM answered {request} with {status}{reason}; its log (data/logs) says why")]
    Server {
        /// Method and path.
        request: String,
        /// The status.
        status: u16,
        /// From `X-Status-Reason`, after a colon; else empty.
        reason: String,
        /// True when it may have changed something.
        write: bool,
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// 429, from EspoCRM's environment (it has no limit of its own).
    #[error("too many requests to EspoCRM; a proxy in front of it limits them")]
    Busy {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// 401.
    #[error("EspoCRM refuses the {credential}{reason}; enter a valid one")]
    Refused {
        /// "API key" or "administrator account".
        credential: &'static str,
        /// From `X-Status-Reason`, after a colon; else empty.
        reason: String,
    },
    /// Not sent, because the credential was refused several times within the last minute.
    #[error("the {credential} was refused by EspoCRM and is tried again in {} s; enter a valid one", after.as_secs())]
    Withheld {
        /// "API key" or "administrator account".
        credential: &'static str,
        /// Until the next attempt.
        after: Duration,
    },
    /// The address is locked out after too many failed logins.
    #[error("EspoCRM has locked out this address for a minute after too many failed logins from it")]
    LockedOut,
    /// 403 with a reason.
    #[error("EspoCRM does not permit {request}{reason}; grant it in the role of the API user")]
    Forbidden {
        /// Method and path.
        request: String,
        /// From `X-Status-Reason`, after a colon; else empty.
        reason: String,
    },
    /// 400, 413 and other refusals of the content.
    #[error("EspoCRM refuses {request} with {status}{reason}")]
    Invalid {
        /// Method and path.
        request: String,
        /// The status.
        status: u16,
        /// From `X-Status-Reason`, after a colon; else empty.
        reason: String,
    },
    /// The record that was to be written, or something that it names, does not exist.
    #[error("EspoCRM has no such record for {request}{reason}")]
    Missing {
        /// Method and path.
        request: String,
        /// From `X-Status-Reason`, after a colon; else empty.
        reason: String,
    },
    /// 409 `modified`: somebody else has written meanwhile.
    #[error("the record was changed in EspoCRM meanwhile")]
    Modified,
    /// A 404 that EspoCRM did not give, or an answer that is not JSON.
    #[error(
        "{request} was not answered by EspoCRM's API ({what}); check espocrm.url and the web server's rewrite rules"
    )]
    NotTheApi {
        /// Method and path.
        request: String,
        /// What came instead.
        what: String,
        /// True when it may have changed something.
        write: bool,
    },
    /// A redirect, which is not followed: it would carry the key elsewhere.
    #[error("EspoCRM redirects {request}{to}; give its final address in espocrm.url")]
    Redirected {
        /// Method and path.
        request: String,
        /// From `Location`, after "to"; else empty.
        to: String,
    },
    /// The answer is larger than we read.
    #[error("the answer to {request} is larger than {limit} bytes")]
    TooLarge {
        /// Method and path.
        request: String,
        /// The limit.
        limit: usize,
        /// True when it may have changed something.
        write: bool,
    },
    /// JSON of an unexpected form.
    #[error("EspoCRM answered with an unexpected form: {what}")]
    Unexpected {
        /// Where and what.
        what: String,
        /// True when it may have changed something.
        write: bool,
    },
    /// A value that EspoCRM has no place for.
    #[error("{field} cannot be written to EspoCRM: {what}")]
    Unwritable {
        /// The field.
        field: Field,
        /// Why.
        what: String,
    },
    /// An id that cannot be one.
    #[error("`{0}` is not an EspoCRM id")]
    BadId(String),
    /// Something that only an administrator may do.
    #[error("this needs an administrator account; set espocrm.admin_username and espocrm.admin_password")]
    NoAdmin,
    /// EspoCRM has no such entity type.
    #[error("EspoCRM does not have the entity type {0}, or hides it from the API user")]
    NoEntity(&'static str),
    /// The address, the key or the account cannot be put into a request.
    #[error("the settings of EspoCRM cannot be used: {0}")]
    Settings(String),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Interrupted { write: true, .. }
            | Self::Server { write: true, .. }
            | Self::NotTheApi { write: true, .. }
            | Self::TooLarge { write: true, .. }
            | Self::Unexpected { write: true, .. } => Disposition::Unsure,
            Self::Unreachable(_) | Self::Interrupted { .. } | Self::NotTheApi { .. } => {
                Disposition::Retry { after: None }
            }
            Self::Server { after, .. } | Self::Busy { after } => Disposition::Retry { after: *after },
            Self::Away { after } => Disposition::Retry { after: Some(*after) },
            Self::LockedOut => Disposition::Retry { after: Some(Duration::from_secs(60)) },
            Self::Refused { .. } | Self::Withheld { .. } => Disposition::Denied,
            Self::Forbidden { reason, .. } if denies_the_role(reason) => Disposition::Denied,
            Self::Missing { .. } | Self::Modified => Disposition::Refetch,
            Self::Unexpected { .. } => Disposition::Odd,
            Self::Forbidden { .. }
            | Self::Invalid { .. }
            | Self::Redirected { .. }
            | Self::TooLarge { .. }
            | Self::Unwritable { .. }
            | Self::BadId(_)
            | Self::NoAdmin
            | Self::NoEntity(_)
            | Self::Settings(_) => Disposition::Fail,
        }
    }

    /// True when it tells that EspoCRM as a whole does not answer, whatever was asked.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Away { .. }
                | Self::Interrupted { .. }
                | Self::Server { .. }
                | Self::NotTheApi { .. }
        )
    }

    /// The `Retry-After` that came with it.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Server { after, .. } | Self::Busy { after } => *after,
            _ => None,
        }
    }

    /// The same error, after a request that has changed something.
    pub(crate) fn after_write(self) -> Self {
        match self {
            Self::Unexpected { what, .. } => Self::Unexpected { what, write: true },
            Self::NotTheApi { request, what, .. } => Self::NotTheApi { request, what, write: true },
            other => other,
        }
    }
}

pub(crate) fn unexpected(what: impl Into<String>) -> Error {
    Error::Unexpected { what: what.into(), write: false }
}

/// These two are said of a whole entity type (and are the same for every record); the others may be about one record.
fn denies_the_role(reason: &str) -> bool {
    ["No read access.", "No create access.", "No access to "]
        .iter()
        .any(|start| reason.trim_start_matches(": ").starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(reason: &str) -> Disposition {
        Error::Forbidden { request: "GET /Task".to_owned(), reason: reason.to_owned() }.disposition()
    }

    #[test]
    fn a_missing_scope_is_for_the_operator_and_one_hidden_record_is_not() {
        assert_eq!(forbidden(": No read access."), Disposition::Denied);
        assert_eq!(forbidden(": No 'read' access."), Disposition::Fail);
    }

    #[test]
    fn a_write_that_ended_in_a_server_error_may_have_happened() {
        let server =
            |write| Error::Server { request: String::new(), status: 502, reason: String::new(), write, after: None };
        assert_eq!(server(true).disposition(), Disposition::Unsure);
        assert_eq!(server(false).disposition(), Disposition::Retry { after: None });
    }
}
