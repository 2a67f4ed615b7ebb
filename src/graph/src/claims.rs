//! What an access token permits, read for `doctor` alone.
//!
//! Facts (learn.microsoft.com/entra/identity-platform/access-tokens): a token of a work account is a JWT whose `scp` lists the
//! delegated permissions and whose `roles` the application's own; of a personal account it is opaque; a client must not
//! depend on its form. So nothing here decides what is done: where nothing can be read, nothing is known.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    scp: Option<String>,
    #[serde(default)]
    roles: Option<Vec<String>>,
}

/// The permissions in a token, none when it is no token that can be read.
#[must_use]
pub fn permissions(token: &SecretString) -> Option<Vec<String>> {
    let payload = token.expose_secret().split('.').nth(1)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&bytes).ok()?;
    let scopes = claims.scp.iter().flat_map(|scp| scp.split_whitespace()).map(str::to_owned);
    Some(scopes.chain(claims.roles.into_iter().flatten()).collect())
}

/// Whether permissions hold the wanted one, or one that includes it: `.ReadWrite` includes `.Read`, `.All` what has it not.
#[must_use]
pub fn permits(permissions: &[String], wanted: &str) -> bool {
    let writing = wanted.replace(".Read.", ".ReadWrite.");
    let writing = writing.strip_suffix(".Read").map_or(writing.clone(), |start| format!("{start}.ReadWrite"));
    [wanted, &writing, &format!("{wanted}.All"), &format!("{writing}.All")]
        .iter()
        .any(|one| permissions.iter().any(|given| given.eq_ignore_ascii_case(one)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> SecretString {
        SecretString::from(format!("eyJ0eXAiOiJKV1QifQ.{}.c2ln", URL_SAFE_NO_PAD.encode(claims)))
    }

    #[test]
    fn permissions_are_read_from_both_kinds_of_token() {
        let delegated = permissions(&token(r#"{"scp":"Calendars.ReadWrite User.Read","aud":"x"}"#));
        assert_eq!(delegated.unwrap(), ["Calendars.ReadWrite", "User.Read"]);
        let own = permissions(&token(r#"{"roles":["Tasks.ReadWrite.All"]}"#));
        assert_eq!(own.unwrap(), ["Tasks.ReadWrite.All"]);
    }

    #[test]
    fn an_opaque_token_says_nothing() {
        for text in ["", "EwBwA8l6BAAU", "a.b.c", "a..c"] {
            assert_eq!(permissions(&SecretString::from(text)), None, "{text}");
        }
    }

    #[test]
    fn a_larger_permission_includes_a_smaller_one_and_not_the_other_way_round() {
        let of = |one: &str| vec![one.to_owned()];
        assert!(permits(&of("MailboxSettings.ReadWrite"), "MailboxSettings.Read"));
        assert!(permits(&of("Tasks.ReadWrite.All"), "Tasks.ReadWrite"));
        assert!(permits(&of("User.ReadWrite.All"), "User.Read.All"));
        assert!(!permits(&of("Calendars.Read"), "Calendars.ReadWrite"));
        assert!(!permits(&of("User.Read"), "User.Read.All"));
    }
}
