//! Somebody signs in with EspoCRM's own user name and password.
//!
//! Facts (EspoCRM 9.3): Basic authentication makes no token that would have to be ended; who has a second factor gets a 401
//! with `X-Status-Reason: second-step-required`, and its code goes into `Espo-Authorization-Code`; `GET App/user` hides the
//! user's roles, `GET User/ID` tells them to the user.

use secrecy::SecretString;

use crate::auth::{Identity, basic_header};
use crate::client::Client;
use crate::schema::{AppUser, User};
use crate::wire::{Call, SECOND_STEP};
use crate::{Error, Result};

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignIn {
    /// EspoCRM lets the user in.
    Accepted(User),
    /// The name or the password is wrong, or the code.
    Refused,
    /// The password is right, and EspoCRM asks for a code.
    SecondFactor,
}

impl Client {
    /// Asks EspoCRM whether it lets somebody in, and who that is. Refusals are few in a minute, whoever is refused: else users
    /// who mistype would have the address of this service locked out.
    ///
    /// # Errors
    /// When EspoCRM cannot be asked, or is not asked because there were too many refusals ([`Error::Withheld`]).
    pub async fn sign_in(&self, name: &str, password: &SecretString, code: Option<&str>) -> Result<SignIn> {
        // A colon would end the name.
        if name.is_empty() || name.contains(':') {
            return Ok(SignIn::Refused);
        }
        let signed = |call: Call| {
            let call = call.header("Authorization", &basic_header(name, password));
            match code {
                Some(code) => call.header("Espo-Authorization-Code", code),
                None => call,
            }
        };
        let me = match self.send_by(&signed(Call::get(&["App", "user"])), Identity::Person).await {
            Ok(answer) => answer.json::<AppUser>()?.into_user(),
            Err(Error::Refused { reason, .. }) if reason.ends_with(SECOND_STEP) => return Ok(SignIn::SecondFactor),
            Err(Error::Refused { .. }) => return Ok(SignIn::Refused),
            Err(error) => return Err(error),
        };
        // The code is spent: the API user is asked instead, and where it may not read users nothing is known of the roles.
        let roles = match self.user(&me.id).await {
            Ok(Some(user)) => user.roles,
            Ok(None) => Vec::new(),
            Err(error) => {
                tracing::warn!(user.id = me.id, %error, "the roles of a user who signs in cannot be read");
                Vec::new()
            }
        };
        Ok(SignIn::Accepted(User { roles, ..me }))
    }
}
