//! Everything that the vault has sealed, wherever it lies: for a new key all of it is sealed anew.

use entity::{espo_webhooks, settings, sign_ins, tokens};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::error::Result;

/// Where a sealed text lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A setting, by name.
    Setting(String),
    /// The access token of a user.
    Access(String),
    /// The refresh token of a user.
    Refresh(String),
    /// The secret of a webhook, by id.
    Webhook(String),
    /// The verifier of a sign-in under way, by id.
    SignIn(String),
}

/// A sealed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Where it lies.
    pub place: Place,
    /// The text.
    pub text: String,
}

/// All of them.
///
/// # Errors
/// When the database fails.
pub async fn list(conn: &impl ConnectionTrait) -> Result<Vec<Sealed>> {
    let mut all = Vec::new();
    for row in settings::Entity::find().filter(settings::Column::Sealed.eq(true)).all(conn).await? {
        all.push(Sealed { place: Place::Setting(row.name), text: row.value });
    }
    for row in tokens::Entity::find().all(conn).await? {
        if let Some(refresh) = row.refresh {
            all.push(Sealed { place: Place::Refresh(row.user_id.clone()), text: refresh });
        }
        all.push(Sealed { place: Place::Access(row.user_id), text: row.access });
    }
    for row in espo_webhooks::Entity::find().all(conn).await? {
        all.push(Sealed { place: Place::Webhook(row.id), text: row.secret });
    }
    for row in sign_ins::Entity::find().all(conn).await? {
        if let Some(verifier) = row.verifier {
            all.push(Sealed { place: Place::SignIn(row.id), text: verifier });
        }
    }
    Ok(all)
}

/// Puts another sealed text in the place of one; false when that one is not there any more. Versions of tokens stay as they
/// are: whoever is about to replace the token may do so.
///
/// # Errors
/// When the database fails.
pub async fn replace(conn: &impl ConnectionTrait, old: &Sealed, text: &str) -> Result<bool> {
    let new = Expr::value(text);
    let done = match &old.place {
        Place::Setting(name) => {
            let query = settings::Entity::update_many().col_expr(settings::Column::Value, new);
            let query = query.filter(settings::Column::Name.eq(name)).filter(settings::Column::Sealed.eq(true));
            query.filter(settings::Column::Value.eq(&old.text)).exec(conn).await?
        }
        Place::Access(user) => {
            let query = tokens::Entity::update_many().col_expr(tokens::Column::Access, new);
            let query = query.filter(tokens::Column::UserId.eq(user)).filter(tokens::Column::Access.eq(&old.text));
            query.exec(conn).await?
        }
        Place::Refresh(user) => {
            let query = tokens::Entity::update_many().col_expr(tokens::Column::Refresh, new);
            let query = query.filter(tokens::Column::UserId.eq(user)).filter(tokens::Column::Refresh.eq(&old.text));
            query.exec(conn).await?
        }
        Place::Webhook(id) => {
            let query = espo_webhooks::Entity::update_many().col_expr(espo_webhooks::Column::Secret, new);
            let query = query.filter(espo_webhooks::Column::Id.eq(id));
            query.filter(espo_webhooks::Column::Secret.eq(&old.text)).exec(conn).await?
        }
        Place::SignIn(id) => {
            let query = sign_ins::Entity::update_many().col_expr(sign_ins::Column::Verifier, new);
            let query = query.filter(sign_ins::Column::Id.eq(id)).filter(sign_ins::Column::Verifier.eq(&old.text));
            query.exec(conn).await?
        }
    };
    Ok(done.rows_affected > 0)
}
