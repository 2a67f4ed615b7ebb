//! What changed since the last look: calendar delta over a window, and To Do delta per list.
//!
//! Facts (learn.microsoft.com/graph/delta-query-events): calendarView/delta takes no `$select`, `$expand` or `$filter`, so no
//! marker comes with it; the window is frozen in the delta link; links are opaque and followed verbatim; occurrences come
//! with ids, type and times alone; `@removed` is also sent for events outside the window, so it is a hint to read that event,
//! never a deletion; an item may occur twice in a round, and the last one counts.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use url::Url;

use crate::client::{Client, Mailbox};
use crate::error::Error;
use crate::events::in_window;
use crate::request::PREFER_EVENT;
use crate::{Result, wire};

/// No round of ours has more pages; a server that gives more is running in a circle.
const MOST_PAGES: usize = 5_000;

/// What an event of a delta is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TouchedKind {
    /// No series.
    Single,
    /// The series itself.
    Master,
    /// An occurrence as the series has it.
    Occurrence,
    /// An occurrence that differs.
    Exception,
    /// Not said (`@removed` says nothing but an id).
    Unknown,
}

/// An event that was touched: where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Its id.
    pub id: String,
    /// Its version.
    pub etag: Option<String>,
    /// Deleted, or outside the window: look.
    pub removed: bool,
    /// The series that it belongs to.
    pub series_master: Option<String>,
    /// What it is.
    pub kind: TouchedKind,
    /// When it starts, where that was said.
    pub start: Option<DateTime<Utc>>,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// There is more in this round.
    Page(String),
    /// The round is over; the next one starts here.
    Delta(String),
}

/// One page of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What was touched.
    pub items: Vec<Touched>,
    /// Where to go on.
    pub next: Next,
}

/// A whole round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// What was touched, each id once.
    pub items: Vec<Touched>,
    /// Where the next round starts.
    pub delta_link: String,
}

/// A task that was touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TouchedTask {
    /// Its id.
    pub id: String,
    /// Its version.
    pub etag: Option<String>,
    /// Deleted, or moved to another list.
    pub removed: bool,
}

/// A whole round over a list of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRound {
    /// What was touched, each id once.
    pub items: Vec<TouchedTask>,
    /// Where the next round starts.
    pub delta_link: String,
}

impl Client {
    /// A round of the calendar: from `link`, or over the window when there is none. [`Error::ResyncNeeded`] says that the link
    /// is spent: start over without it, and compare with what is stored.
    pub async fn delta(
        &self,
        mailbox: &Mailbox,
        link: Option<&str>,
        window: (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Round> {
        let mut items = Vec::new();
        let mut next = link.map(str::to_owned);
        for _ in 0..MOST_PAGES {
            let batch = self.delta_page(mailbox, next.as_deref(), window).await?;
            items.extend(batch.items);
            match batch.next {
                Next::Delta(delta_link) => {
                    return Ok(Round { items: last_of_each(items, |item| &item.id), delta_link });
                }
                Next::Page(link) => next = Some(link),
            }
        }
        Err(Error::unreadable("a delta round without an end"))
    }

    /// One page of a round, for callers that keep their place between pages.
    pub async fn delta_page(
        &self,
        mailbox: &Mailbox,
        link: Option<&str>,
        window: (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Batch> {
        let url = match link {
            Some(link) => self.link(link)?,
            None => in_window(self.address(mailbox, &["calendarView", "delta"])?, window.0, window.1, None),
        };
        let prefer = format!("{PREFER_EVENT}, odata.maxpagesize=200");
        let page: wire::Collection<wire::Event> = self.page(mailbox, url, &prefer).await?;
        Ok(Batch { next: next(page.next, page.delta)?, items: page.value.into_iter().map(Touched::from).collect() })
    }

    /// A round of a list of tasks: from `link`, or over all of it when there is none.
    pub async fn task_delta(&self, mailbox: &Mailbox, list: &str, link: Option<&str>) -> Result<TaskRound> {
        let mut url = match link {
            Some(link) => self.link(link)?,
            None => self.address(mailbox, &["todo", "lists", list, "tasks", "delta"])?,
        };
        let mut items: Vec<TouchedTask> = Vec::new();
        for _ in 0..MOST_PAGES {
            let page = self.task_page(mailbox, url).await?;
            items.extend(page.value.into_iter().map(TouchedTask::from));
            match next(page.next, page.delta)? {
                Next::Delta(delta_link) => {
                    return Ok(TaskRound { items: last_of_each(items, |item| &item.id), delta_link });
                }
                Next::Page(link) => url = self.link(&link)?,
            }
        }
        Err(Error::unreadable("a delta round without an end"))
    }

    async fn task_page(&self, mailbox: &Mailbox, url: Url) -> Result<wire::Collection<wire::Task>> {
        self.page(mailbox, url, "odata.maxpagesize=200").await
    }
}

/// Which of the two links came: the property's name counts, for a sample of To Do shows a delta link with a `$skiptoken`.
fn next(page: Option<String>, delta: Option<String>) -> Result<Next> {
    match (page, delta) {
        (Some(link), _) => Ok(Next::Page(link)),
        (None, Some(link)) => Ok(Next::Delta(link)),
        (None, None) => Err(Error::unreadable("a delta page has no link")),
    }
}

fn last_of_each<T>(items: Vec<T>, id: impl Fn(&T) -> &String) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut kept: Vec<T> = items.into_iter().rev().filter(|item| seen.insert(id(item).clone())).collect();
    kept.reverse();
    kept
}

impl From<wire::Event> for Touched {
    fn from(event: wire::Event) -> Self {
        let kind = match event.kind.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
            "singleinstance" => TouchedKind::Single,
            "seriesmaster" => TouchedKind::Master,
            "occurrence" => TouchedKind::Occurrence,
            "exception" => TouchedKind::Exception,
            _ => TouchedKind::Unknown,
        };
        Self {
            removed: event.removed.is_some(),
            series_master: event.series_master_id.filter(|id| !id.is_empty()),
            kind,
            start: event.start.and_then(|start| start.utc().ok()),
            id: event.id,
            etag: event.etag,
        }
    }
}

impl From<wire::Task> for TouchedTask {
    fn from(task: wire::Task) -> Self {
        Self { id: task.id, etag: task.etag, removed: task.removed.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(json: &str) -> Batch {
        let page: wire::Collection<wire::Event> = serde_json::from_str(json).unwrap();
        Batch { next: next(page.next, page.delta).unwrap(), items: page.value.into_iter().map(Touched::from).collect() }
    }

    #[test]
    fn a_page_leads_to_the_next_page() {
        let batch = page(include_str!("../fixtures/delta.page.nextLink.json"));
        assert!(matches!(batch.next, Next::Page(link) if link.ends_with("$skiptoken=R0usmcCM996atia_s")));
        let [item] = batch.items.as_slice() else { panic!("one item") };
        assert!(!item.removed);
        assert_eq!(item.start, Some("2016-12-09T20:30:00Z".parse().unwrap()));
    }

    #[test]
    fn a_removed_event_is_an_id_and_nothing_else() {
        let batch = page(include_str!("../fixtures/delta.removed.json"));
        assert!(matches!(batch.next, Next::Delta(_)));
        let [item] = batch.items.as_slice() else { panic!("one item") };
        assert!(item.removed);
        assert_eq!(item.kind, TouchedKind::Unknown);
    }

    #[test]
    fn a_bare_occurrence_names_its_series() {
        let event: wire::Event = serde_json::from_str(include_str!("../fixtures/delta.occurrence.json")).unwrap();
        let touched = Touched::from(event);
        assert_eq!(touched.series_master.as_deref(), Some("seriesMasterId"));
        assert_eq!(touched.kind, TouchedKind::Occurrence);
    }

    #[test]
    fn tasks_of_a_delta_are_read() {
        let page: wire::Collection<wire::Task> =
            serde_json::from_str(include_str!("../fixtures/todoTask.delta.json")).unwrap();
        assert_eq!(page.value.len(), 1);
        assert!(page.delta.is_some());
    }

    #[test]
    fn the_last_of_two_entries_counts() {
        let entries = vec![("a", 1), ("b", 2), ("a", 3)].into_iter().map(|(id, n)| (id.to_owned(), n)).collect();
        assert_eq!(last_of_each(entries, |(id, _)| id), [("b".to_owned(), 2), ("a".to_owned(), 3)]);
    }

    #[test]
    fn a_page_without_a_link_is_refused() {
        assert!(next(None, None).is_err());
    }
}
