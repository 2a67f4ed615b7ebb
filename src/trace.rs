//! Trace context: one trace from a webhook to the write that it leads to, across the queue and across processes.
//!
//! The receiver takes over the context that a request brings, or begins one; a change carries it ([`sync::Change`]); the
//! worker goes on with it; every request to EspoCRM and Graph names it. The header is `traceparent` of W3C Trace Context
//! (version 00). In logs it is `trace.id` and `span.id`.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use tracing::Instrument as _;

use crate::id::Ids;

/// The name of the header.
pub const HEADER: &str = "traceparent";

tokio::task_local! {
    static CURRENT: Context;
}

/// Where something stands in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// `traceparent`, of version 00.
    text: [u8; LENGTH],
    /// The step before.
    parent: Option<[u8; SPAN.end - SPAN.start]>,
}

/// The length of a `traceparent`, and where in it the parts are.
const LENGTH: usize = 55;
const TRACE: Range<usize> = 3..35;
const SPAN: Range<usize> = 36..52;
const FLAGS: Range<usize> = 53..55;
/// A new trace, which somebody should record.
const EMPTY: &[u8; LENGTH] = b"00-00000000000000000000000000000000-0000000000000000-01";

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no traceparent of W3C Trace Context")]
pub struct Malformed;

fn is_id(text: &str, length: usize) -> bool {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == length && text.bytes().all(is_hex) && text.bytes().any(|byte| byte != b'0')
}

impl FromStr for Context {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.trim().split('-');
        let mut next = || parts.next().ok_or(Malformed);
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        // Of later versions the first four parts mean the same; ff is none, and 00 has no more than these.
        let is_known = version.len() == 2 && u8::from_str_radix(version, 16).is_ok_and(|version| version != 0xff);
        if !is_known || (version == "00" && parts.next().is_some()) || !is_id(trace, 32) || !is_id(span, 16) {
            return Err(Malformed);
        }
        let flags = u8::from_str_radix(flags, 16).ok().filter(|_| flags.len() == 2).ok_or(Malformed)?;
        let mut context = Self { text: *EMPTY, parent: None };
        context.text[TRACE].copy_from_slice(trace.as_bytes());
        context.text[SPAN].copy_from_slice(span.as_bytes());
        // It refuses only what is of another length.
        hex::encode_to_slice([flags], &mut context.text[FLAGS]).ok();
        Ok(context)
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(text(&self.text))
    }
}

/// Hexadecimal digits and hyphens.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

impl Context {
    /// A new trace.
    #[must_use]
    pub fn new(ids: &Ids) -> Self {
        let (trace, span) = ids.trace();
        let mut context = Self { text: *EMPTY, parent: None };
        hex::encode_to_slice(trace, &mut context.text[TRACE]).ok();
        hex::encode_to_slice(span, &mut context.text[SPAN]).ok();
        context
    }

    /// The next step in the trace that a text names; a new trace when it names none.
    #[must_use]
    pub fn after(parent: Option<&str>, ids: &Ids) -> Self {
        let fresh = Self::new(ids);
        let Some(before) = parent.and_then(|text| text.parse::<Self>().ok()) else { return fresh };
        let mut next = Self { parent: before.text[SPAN].try_into().ok(), ..before };
        next.text[SPAN].copy_from_slice(&fresh.text[SPAN]);
        next
    }

    /// The id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        text(&self.text[TRACE])
    }

    /// The id of this step.
    #[must_use]
    pub fn span_id(&self) -> &str {
        text(&self.text[SPAN])
    }

    /// The id of the step before, where it was told.
    #[must_use]
    pub fn parent_id(&self) -> Option<&str> {
        self.parent.as_ref().map(|parent| text(parent))
    }

    /// Does something in this context.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }
}

/// The same work, in the context and the span of whoever asks for it: for work that is done elsewhere.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let context = CURRENT.try_with(|context| *context).ok();
    async move {
        match context {
            Some(context) => context.scope(work).await,
            None => work.await,
        }
    }
    .in_current_span()
}

/// The `traceparent` of what is being done, to be handed on.
#[must_use]
pub fn current() -> Option<String> {
    CURRENT.try_with(ToString::to_string).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_and_written_as_the_standard_says() {
        assert_eq!(GIVEN.parse::<Context>().unwrap().to_string(), GIVEN);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-be";
        assert_eq!(later.parse::<Context>().unwrap().trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        ] {
            assert_eq!(wrong.parse::<Context>(), Err(Malformed), "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_follows_is_in_the_same_trace_and_what_follows_nothing_begins_one() {
        let ids = Ids::system(Clock::System);
        let next = Context::after(Some(GIVEN), &ids);
        assert_eq!(next.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(next.span_id(), "00f067aa0ba902b7");
        assert_eq!(next.parent_id(), Some("00f067aa0ba902b7"));
        let fresh = Context::after(Some("nonsense"), &ids);
        assert_ne!(fresh.trace_id(), next.trace_id());
        assert!(fresh.to_string().parse::<Context>().is_ok());
        assert_eq!(current(), None);
        let wanted = next.to_string();
        assert_eq!(next.scope(async { current() }).await, Some(wanted));
    }
}
