//! The four places of a mailbox among all processes.
//!
//! Within a process [`graph::Client`] holds to four requests at a time. Where other processes may serve on the same database,
//! each of the four places is a lock in the store as well. Locks cost a commit, so a place is kept for a moment when it is free
//! again, and given back when nobody has used it since, or when it was kept for so long that others should have their turn.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt as _};
use store::{Holder, Store, StoreError};

use crate::clock::Clock;

/// Requests that may be in flight per mailbox.
const PLACES: usize = 4;
/// How long a place is kept while nobody uses it.
const IDLE: Duration = Duration::from_millis(250);
/// How long a place is kept at most.
const TURN: Duration = Duration::from_secs(1);
/// How long to wait before it is asked again, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(80));

/// The places that this process has. Cheap to clone.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Clock,
    mailboxes: Mutex<HashMap<String, Arc<Mailbox>>>,
}

#[derive(Default)]
struct Mailbox {
    /// One in this process asks the store at a time.
    asking: tokio::sync::Mutex<()>,
    places: Mutex<[Place; PLACES]>,
}

#[derive(Clone, Default)]
struct Place {
    /// Who has it in the store, if this process does.
    holder: Option<Arc<str>>,
    used: bool,
    since: Option<Instant>,
    /// When it was used last.
    last: Option<Instant>,
}

/// Places in use; dropping them lets others use them.
struct Taken {
    of: Places,
    mailbox: Arc<Mailbox>,
    name: String,
    which: Vec<usize>,
}

fn lock_name(mailbox: &str, place: usize) -> String {
    format!("place:{place}:{mailbox}")
}

impl Places {
    pub(super) fn new(store: &Store, clock: &Clock) -> Self {
        let (store, clock) = (store.clone(), clock.clone());
        Self(Arc::new(Inner { store, clock, mailboxes: Mutex::default() }))
    }

    async fn wait_for(&self, name: &str, count: usize) -> Result<Option<Taken>, StoreError> {
        let mailbox = {
            let mut all = self.0.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(name.to_owned()).or_default())
        };
        let mut wait = WAIT.0;
        loop {
            let id = match self.0.store.holder() {
                Holder::Alone => return Ok(None),
                Holder::Lost => return Err(StoreError::Superseded),
                Holder::Instance(id) => id,
            };
            // Whatever happens to this future, what it has taken is dropped, and given back after a while.
            let mut taken =
                Taken { of: self.clone(), mailbox: mailbox.clone(), name: name.to_owned(), which: Vec::new() };
            let asking = mailbox.asking.lock().await;
            self.take(&mut taken, &id, count).await?;
            drop(asking);
            if taken.which.len() == count {
                return Ok(Some(taken));
            }
            // Some are no use, and another process may wait for just those.
            taken.give_back_all().await?;
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(WAIT.1);
        }
    }

    async fn take(&self, taken: &mut Taken, id: &Arc<str>, count: usize) -> Result<(), StoreError> {
        taken.which = {
            let mut places = taken.mailbox.places.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = |place: &Place| !place.used && place.holder.as_ref() == Some(id) && !is_over(place);
            let kept: Vec<usize> = (0..PLACES).filter(|at| places.get(*at).is_some_and(kept)).take(count).collect();
            for at in &kept {
                if let Some(place) = places.get_mut(*at) {
                    place.used = true;
                }
            }
            kept
        };
        let names: Vec<String> = (0..PLACES).map(|at| lock_name(&taken.name, at)).collect();
        let missing = count - taken.which.len();
        if missing == 0 {
            return Ok(());
        }
        let others = store::locks::taken(self.0.store.read(), &names).await?;
        let free: Vec<usize> =
            (0..PLACES).filter(|at| names.get(*at).is_some_and(|name| !others.contains(name))).collect();
        if free.len() < missing {
            return Ok(());
        }
        // In their order: of two who want all of them one gets the first, and the other lets go at once.
        for (nth, at) in free.iter().copied().enumerate() {
            if taken.which.len() == count || free.len() - nth < count - taken.which.len() {
                break;
            }
            let Some(name) = names.get(at) else { continue };
            taken.mark(at, id);
            let outcome = store::locks::take(self.0.store.write(), name, id, self.0.clock.now()).await;
            if matches!(outcome, Err(StoreError::Superseded)) {
                self.0.store.lose(id);
            }
            if !outcome? {
                taken.forget(at);
            }
        }
        Ok(())
    }
}

fn is_over(place: &Place) -> bool {
    place.since.is_none_or(|since| since.elapsed() > TURN)
}

impl Taken {
    fn mark(&mut self, at: usize, id: &Arc<str>) {
        let mut places = self.mailbox.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get_mut(at) {
            *place = Place { holder: Some(id.clone()), used: true, since: Some(Instant::now()), last: None };
        }
        self.which.push(at);
    }

    fn forget(&mut self, at: usize) {
        self.which.retain(|one| *one != at);
        let mut places = self.mailbox.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get_mut(at) {
            *place = Place::default();
        }
    }

    /// They may be given back.
    fn use_no_more(&self) {
        let mut places = self.mailbox.places.lock().unwrap_or_else(PoisonError::into_inner);
        for at in &self.which {
            if let Some(place) = places.get_mut(*at) {
                (place.used, place.last) = (false, Some(Instant::now()));
            }
        }
    }

    /// Gives back at once, whatever was kept for how long.
    async fn give_back_all(mut self) -> Result<(), StoreError> {
        self.use_no_more();
        for at in std::mem::take(&mut self.which) {
            give_back(&self.of, &self.mailbox, &self.name, at, |_| true).await?;
        }
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.use_no_more();
        let which = std::mem::take(&mut self.which);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if which.is_empty() {
            return;
        }
        let (of, mailbox, name) = (self.of.clone(), self.mailbox.clone(), std::mem::take(&mut self.name));
        runtime.spawn(async move {
            let unused = |place: &Place| is_over(place) || place.last.is_some_and(|last| last.elapsed() >= IDLE);
            for at in &which {
                give_back(&of, &mailbox, &name, *at, is_over).await.ok();
            }
            tokio::time::sleep(IDLE).await;
            for at in which {
                give_back(&of, &mailbox, &name, at, unused).await.ok();
            }
        });
    }
}

/// Gives back a place that nobody uses, when that is so of it. One that cannot be given back now is kept, and given back when
/// it was used the next time.
async fn give_back(
    of: &Places,
    mailbox: &Mailbox,
    name: &str,
    at: usize,
    when: impl Fn(&Place) -> bool,
) -> Result<(), StoreError> {
    let _asking = mailbox.asking.lock().await;
    let holder = {
        let mut places = mailbox.places.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(place) = places.get_mut(at).filter(|place| !place.used && when(place)) else { return Ok(()) };
        place.holder.take()
    };
    let Some(holder) = holder else { return Ok(()) };
    let mut wait = WAIT.1;
    while let Err(error) = store::locks::give_back(of.0.store.write(), &lock_name(name, at), &holder).await {
        if of.0.store.holder() != Holder::Instance(holder.clone()) {
            return Err(error);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
    Ok(())
}

impl graph::Places for Places {
    fn take<'a>(&'a self, mailbox: &'a str, count: u32) -> BoxFuture<'a, Result<Option<graph::Place>, graph::NoPlace>> {
        async move {
            let count = usize::try_from(count).unwrap_or(PLACES).clamp(1, PLACES);
            match self.wait_for(&mailbox.to_lowercase(), count).await {
                Ok(taken) => Ok(taken.map(|taken| Box::new(taken) as Box<dyn Any + Send + Sync>)),
                Err(error) => Err(Box::new(error) as graph::NoPlace),
            }
        }
        .boxed()
    }
}
