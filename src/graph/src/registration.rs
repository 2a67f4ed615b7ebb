//! The app registration's own entry in the directory: when its secrets and certificates end.
//!
//! Facts (learn.microsoft.com/graph/api/application-get): `GET /applications(appId='...')` wants the application permission
//! `Application.Read.All`; `passwordCredentials` tell `endDateTime` and, as `hint`, the first three characters of the secret.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Deserialize;

use crate::Result;
use crate::client::Client;
use crate::request::{Call, with_query};

/// A secret of the app registration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// The first characters of the secret.
    #[serde(default)]
    pub hint: Option<String>,
    /// When it ends.
    #[serde(default, rename = "endDateTime")]
    pub ends: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Application {
    #[serde(default)]
    password_credentials: Vec<Credential>,
}

impl Client {
    /// The secrets of the app registration, read with a token of the app itself that permits it.
    ///
    /// # Errors
    /// When Graph refuses or does not answer.
    pub async fn credentials(&self, access: &SecretString, client_id: &str) -> Result<Vec<Credential>> {
        let entry = format!("applications(appId='{}')", client_id.replace('\'', "''"));
        let url = with_query(self.url(&[&entry])?, &[("$select", "passwordCredentials")]);
        let answer = self.attempt(&Call::get(url), access).await.map_err(|failure| self.error(failure))?;
        Ok(answer.json::<Application>()?.password_credentials)
    }

    /// What the token of a mailbox permits; none when that cannot be read from it.
    ///
    /// # Errors
    /// When there is no token.
    pub async fn permissions(&self, mailbox: &crate::Mailbox) -> Result<Option<Vec<String>>> {
        Ok(crate::claims::permissions(&self.access(mailbox).await?))
    }
}
