//! Events as they were read a moment ago: who writes a part of one (attendees, a formatted body, categories) needs what stands
//! there, which was read to decide about the write. The version tells whether it is still that.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::wire;

/// How many events are kept: as many as there may be in hand at once.
const KEPT: usize = 64;
/// A larger body is not worth its place.
const BODY_MAX: usize = 256 * 1024;

/// The last events that were read one by one.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<VecDeque<(String, Arc<wire::Event>)>>);

impl Recent {
    /// Keeps an event of a user's mailbox under the id by which it was asked for.
    pub(crate) fn keep(&self, user: &str, id: &str, event: &wire::Event) {
        let size = event.body.as_ref().and_then(|body| body.content.as_ref()).map_or(0, String::len);
        if size > BODY_MAX || event.etag.is_none() {
            return;
        }
        let name = name(user, id);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != name);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((name, Arc::new(event.clone())));
    }

    /// The event at that version.
    pub(crate) fn at(&self, user: &str, id: &str, etag: &str) -> Option<Arc<wire::Event>> {
        let name = name(user, id);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, event) = kept.iter().find(|(known, _)| *known == name)?;
        (event.etag.as_deref() == Some(etag)).then(|| Arc::clone(event))
    }
}

fn name(user: &str, id: &str) -> String {
    format!("{user}\n{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(etag: &str) -> wire::Event {
        serde_json::from_value(serde_json::json!({ "id": "E", "@odata.etag": etag })).unwrap()
    }

    #[test]
    fn only_the_version_that_was_read_last_is_given() {
        let recent = Recent::default();
        recent.keep("anna", "E", &event("1"));
        recent.keep("anna", "E", &event("2"));
        assert!(recent.at("anna", "E", "1").is_none());
        assert!(recent.at("anna", "E", "2").is_some());
        assert!(recent.at("boris", "E", "2").is_none());
    }

    #[test]
    fn the_oldest_give_way() {
        let recent = Recent::default();
        for n in 0..=KEPT {
            recent.keep("anna", &n.to_string(), &event("1"));
        }
        assert!(recent.at("anna", "0", "1").is_none());
        assert!(recent.at("anna", "1", "1").is_some());
    }
}
