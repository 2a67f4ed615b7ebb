//! What can go wrong in the database, and what that means for the caller.

use sea_orm::DbErr;

use crate::backend;

/// A result of this package.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why the database could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database, or the way to it, failed.
    #[error("the database failed")]
    Database(#[from] DbErr),
    /// The address makes no sense. It is not repeated, as it may hold a password.
    #[error("the database address cannot be used: {0}")]
    Address(&'static str),
    /// A row holds what this version cannot read.
    #[error("{what} `{text}` in the database cannot be read")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// What it is.
        text: String,
        /// Why not, where a parser said so.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// A value cannot be written as JSON.
    #[error("{what} cannot be written as JSON")]
    Unwritable {
        /// What it is.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The state it is in does not allow that.
    #[error("a {what} that is `{from}` cannot become `{to}`")]
    Transition {
        /// What it is.
        what: &'static str,
        /// Where it stands.
        from: &'static str,
        /// Where it should go.
        to: &'static str,
    },
    /// It is not there.
    #[error("there is no {what} `{id}`")]
    Missing {
        /// What it is.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// The other processes have given this one up, because it gave no sign of life: somebody else does what it was doing.
    #[error("this process was given up by the others while it was silent; it starts anew")]
    Superseded,
    /// The process is ending.
    #[error("the process is ending; what was to be stored is done again by the next one")]
    Stopped,
    /// A page was asked for with a cursor that no page gave out.
    #[error("`{0}` is not a cursor of this list")]
    Cursor(String),
}

impl StoreError {
    /// True when another row is in the way (a unique key or a reference): look again, then decide afresh.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Database(error) if error.sql_err().is_some())
    }

    /// True when the database has given it up in favour of somebody else, and it is to be done again at once, all of it.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self, Self::Database(error) if backend::is_given_up(error))
    }

    /// True when the same call may succeed later: the database is busy, restarting, unreachable, or its disk is full.
    #[must_use]
    pub fn is_busy_or_gone(&self) -> bool {
        match self {
            Self::Database(error) => backend::is_passing(error),
            Self::Superseded | Self::Stopped => true,
            _ => false,
        }
    }
}
