//! Who is bound, and what rules hold for whom: asked for with every change, and seldom different.
//!
//! It is kept in memory beside the number of a signal ([`signals::PEOPLE`]) that grows in the transaction of whoever changes
//! bindings or rules. The number is read first: what is kept is never newer in number than in content, so what another process,
//! or a command beside the service, has committed is seen at the next look.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use sync::{Rules, RulesPatch};

use crate::bindings::{self, Binding};
use crate::error::Result;
use crate::{Store, rules, signals};

/// Bindings and rules, as they stood together.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// All bindings. When each was reconciled last may be older here than it is.
    pub bindings: Arc<Vec<Binding>>,
    /// Addresses of the mailboxes that are wanted, in lower case.
    pub bound: Arc<BTreeSet<String>>,
    by_user: HashMap<String, usize>,
    organisation: Rules,
    users: BTreeMap<String, RulesPatch>,
}

impl Directory {
    /// The binding of a user.
    #[must_use]
    pub fn binding(&self, user: &str) -> Option<&Binding> {
        self.bindings.get(*self.by_user.get(user)?)
    }

    /// What holds for a user; for nobody in particular, what holds where nobody has said otherwise.
    #[must_use]
    pub fn rules(&self, user: Option<&str>) -> Rules {
        match user.and_then(|user| self.users.get(user)) {
            Some(patch) => patch.over(&self.organisation),
            None => self.organisation.clone(),
        }
    }
}

/// What is kept, and under which number.
pub(crate) type Kept = Arc<RwLock<Option<(i64, Arc<Directory>)>>>;

impl Store {
    /// Bindings and rules, as they are.
    ///
    /// # Errors
    /// When the database fails, or a binding or rule cannot be read.
    pub async fn directory(&self) -> Result<Arc<Directory>> {
        let number = signals::number(self.read(), signals::PEOPLE).await?;
        let kept = self.kept().read().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(number), Some((of, directory))) = (number, kept)
            && of == number
        {
            return Ok(directory);
        }
        let directory = Arc::new(read(self).await?);
        if let Some(number) = number {
            *self.kept().write().unwrap_or_else(PoisonError::into_inner) = Some((number, directory.clone()));
        }
        Ok(directory)
    }
}

async fn read(store: &Store) -> Result<Directory> {
    let conn = store.read();
    let all = bindings::list(conn).await?;
    let wanted = all.iter().filter(|binding| binding.enabled);
    let bound = wanted.filter_map(|binding| binding.mailbox.as_deref().map(sync::text::address)).collect();
    let by_user = all.iter().enumerate().map(|(at, binding)| (binding.user_id.clone(), at)).collect();
    Ok(Directory {
        bindings: Arc::new(all),
        bound: Arc::new(bound),
        by_user,
        organisation: rules::get(conn, None).await?.unwrap_or_default().over(&Rules::default()),
        users: rules::of_users(conn).await?,
    })
}
