//! An HTML body: which part is ours, and how to rewrite that part alone.
//!
//! Facts: an online meeting's invitation is a part of the body, and writing a body without it turns the meeting into one
//! without a join link (learn.microsoft.com/graph/outlook-calendar-online-meetings, event-update). Outlook sets it off by a
//! line of underscores and marks it by ids `meet_invite_block...` and classes `me-email-...`.
//!
//! The invitation is found as a run of sibling elements, so that what is cut out is well-formed and what stays is so too.

use std::collections::HashMap;
use std::ops::Range;

use sync::text;

/// What only an invitation to an online meeting contains.
const MARKS: [&str; 6] = [
    "meet_invite_block",
    "me-email-text",
    "me-email-headline",
    "teams.microsoft.com/l/meetup-join",
    "teams.microsoft.com/meet/",
    "teams.live.com/meet/",
];
/// The line that sets it off.
const SEPARATOR: &str = "____________________";
/// Elements that carry something which plain text does not.
const RICH: [&str; 26] = [
    "a",
    "b",
    "strong",
    "i",
    "em",
    "u",
    "s",
    "strike",
    "sub",
    "sup",
    "ul",
    "ol",
    "li",
    "table",
    "img",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "blockquote",
    "pre",
    "code",
    "hr",
    "font",
];
const VOID: [&str; 14] =
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"];

/// The plain text of a body without the invitation in it.
pub(crate) fn plain(html: &str) -> String {
    text::from_html(&Split::of(html).ours())
}

/// True when the body holds something that its plain text does not.
pub(crate) fn is_rich(html: &str) -> bool {
    let split = Split::of(html);
    !split.block.is_empty() || tags(&split.ours()).iter().any(|tag| RICH.contains(&tag.name.as_str()))
}

/// A document that says a plain text.
pub(crate) fn document(plain: &str) -> String {
    format!("<html><body>{}</body></html>", block_of(plain))
}

/// The body that says `plain` where ours was, and keeps the invitation, and the formatting where that can be done.
pub(crate) fn rewritten(current: &str, plain: &str) -> String {
    let split = Split::of(current);
    let wanted = text::plain(plain);
    if let Some(kept) = edited(&split, &wanted) {
        return kept;
    }
    if split.block.is_empty() {
        return document(&wanted);
    }
    format!("<html><body>{}{}</body></html>", block_of(&wanted), split.block)
}

fn block_of(plain: &str) -> String {
    let html = text::to_html(plain);
    if html.is_empty() { html } else { format!("<div>{html}</div>") }
}

/// Keeps the formatting of lines that did not change: the changed ones are replaced inside their markup. None when a line
/// cannot be found exactly once, or when the outcome does not say the wanted text.
fn edited(split: &Split<'_>, wanted: &str) -> Option<String> {
    let ours = split.ours();
    if !tags(&ours).iter().any(|tag| RICH.contains(&tag.name.as_str())) {
        return None;
    }
    let old = text::from_html(&ours);
    let candidates = match wanted.strip_prefix(&old) {
        Some(added) => appended(split.before, added),
        None => replaced(split.before, &old, wanted).into_iter().collect(),
    };
    let says_it = |before: &String| text::from_html(&format!("{before}{}", split.after)) == wanted;
    let before = candidates.into_iter().find(says_it)?;
    Some(format!("{before}{}{}", split.block, split.after))
}

/// Two ways to add lines: in a paragraph of their own, or inside the last one. Which of them adds no blank line depends on the
/// elements that stand there.
fn appended(before: &str, added: &str) -> Vec<String> {
    let own = end_of_body(before);
    let trailing = tags(before).iter().rev().fold(before.len(), |end, tag| {
        let blank = before.get(tag.range.end..end).is_some_and(|between| between.trim().is_empty());
        if blank && tag.closing { tag.range.start } else { end }
    });
    let inside = text::to_html(added.strip_prefix('\n').unwrap_or(added));
    let at = |position: usize, html: &str| {
        let mut changed = before.to_owned();
        changed.insert_str(position, html);
        changed
    };
    vec![at(own, &block_of(added.trim_matches('\n'))), at(trailing, &format!("<br>{inside}"))]
}

/// The changed lines replaced inside their markup. None when one of them does not occur exactly once.
fn replaced(before: &str, old: &str, wanted: &str) -> Option<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split('\n').collect(), wanted.split('\n').collect());
    if old.len() != new.len() {
        return None;
    }
    let mut changed = before.to_owned();
    for (old, new) in old.into_iter().zip(new).filter(|(old, new)| old != new) {
        let (old, new) = (text::to_html(old), text::to_html(new));
        if old.is_empty() || changed.matches(&old).count() != 1 {
            return None;
        }
        changed = changed.replacen(&old, &new, 1);
    }
    Some(changed)
}

fn end_of_body(html: &str) -> usize {
    tags(html).iter().rev().find(|tag| tag.closing && tag.name == "body").map_or(html.len(), |tag| tag.range.start)
}

/// A body cut at the invitation.
struct Split<'a> {
    before: &'a str,
    block: &'a str,
    after: &'a str,
}

impl<'a> Split<'a> {
    fn of(html: &'a str) -> Self {
        let whole = Self { before: html, block: "", after: "" };
        let lower = html.to_ascii_lowercase();
        if !MARKS.iter().any(|mark| lower.contains(mark)) || text::is_too_deep(html) {
            return whole;
        }
        let Some(range) = block(&lower) else { return whole };
        match (html.get(..range.start), html.get(range.clone()), html.get(range.end..)) {
            (Some(before), Some(block), Some(after)) => Self { before, block, after },
            _ => whole,
        }
    }

    fn ours(&self) -> String {
        format!("{}{}", self.before, self.after)
    }
}

/// Where the invitation is: from the first to the last of the sibling elements that hold a mark or the separator, as deep in
/// the document as they are still together.
fn block(lower: &str) -> Option<Range<usize>> {
    let holds = |range: &Range<usize>| {
        let part = lower.get(range.clone()).unwrap_or_default();
        part.contains(SEPARATOR) || MARKS.iter().any(|mark| part.contains(mark))
    };
    let marked =
        |range: &Range<usize>| MARKS.iter().any(|mark| lower.get(range.clone()).unwrap_or_default().contains(mark));
    let tags = tags(lower);
    let mut scope = tags
        .iter()
        .find(|tag| !tag.closing && tag.name == "body")
        .map_or(0..lower.len(), |tag| tag.range.end..closing_of(&tags, tag, lower.len()).start);
    loop {
        let children: Vec<Range<usize>> = children(&tags, &scope).into_iter().collect();
        let hits: Vec<&Range<usize>> = children.iter().filter(|child| holds(child)).collect();
        let (first, last) = (hits.first()?, hits.last()?);
        if let [only] = hits.as_slice() {
            let opening = tags.iter().find(|tag| tag.range.start == only.start)?;
            let inner = opening.range.end..closing_of(&tags, opening, only.end).start;
            let shell = lower.get(opening.range.clone()).unwrap_or_default();
            let deeper = self::children(&tags, &inner);
            // An element that is itself marked is the invitation; one that merely wraps it may hold our text as well.
            if !MARKS.iter().any(|mark| shell.contains(mark))
                && deeper.iter().any(holds)
                && says_more(lower, &inner, &deeper, holds)
            {
                scope = inner;
                continue;
            }
        }
        let range = first.start..last.end;
        return marked(&range).then_some(range);
    }
}

/// True when an element says something beside the children that belong to the invitation.
fn says_more(
    lower: &str,
    inner: &Range<usize>,
    children: &[Range<usize>],
    holds: impl Fn(&Range<usize>) -> bool,
) -> bool {
    let mut rest = String::new();
    let mut at = inner.start;
    for child in children.iter().filter(|child| holds(child)) {
        rest.push_str(lower.get(at..child.start).unwrap_or_default());
        at = child.end;
    }
    rest.push_str(lower.get(at..inner.end).unwrap_or_default());
    !text::from_html(&rest).trim().is_empty()
}

/// The elements directly inside of a range.
fn children(tags: &[Tag], scope: &Range<usize>) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for tag in tags.iter().filter(|tag| !tag.closing && tag.range.start >= scope.start && tag.range.end <= scope.end) {
        if found.last().is_none_or(|last| tag.range.start >= last.end) {
            let end = if tag.alone { tag.range.end } else { closing_of(tags, tag, scope.end).end };
            found.push(tag.range.start..end.min(scope.end));
        }
    }
    found
}

/// The closing tag of an opening one; an empty range at `limit` when it has none.
fn closing_of(tags: &[Tag], opening: &Tag, limit: usize) -> Range<usize> {
    opening.closed_by.and_then(|at| tags.get(at)).map_or(limit..limit, |closing| closing.range.clone())
}

#[derive(Debug)]
struct Tag {
    name: String,
    range: Range<usize>,
    closing: bool,
    alone: bool,
    /// Of an opening tag: where among the tags its closing one is.
    closed_by: Option<usize>,
}

/// The tags of a document, comments and the contents of `style` and `script` left out.
fn tags(html: &str) -> Vec<Tag> {
    let mut found: Vec<Tag> = Vec::new();
    let mut open = HashMap::<String, Vec<usize>>::new();
    let mut at = 0;
    while let Some(start) = html.get(at..).and_then(|rest| rest.find('<')).map(|offset| at + offset) {
        let rest = html.get(start..).unwrap_or_default();
        if rest.starts_with("<!--") {
            at = rest.find("-->").map_or(html.len(), |end| start + end + 3);
            continue;
        }
        let closing = rest.starts_with("</");
        let name: String = rest
            .chars()
            .skip(if closing { 2 } else { 1 })
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '-'))
            .collect::<String>()
            .to_ascii_lowercase();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            at = start + 1;
            continue;
        }
        let Some(end) = end_of_tag(rest).map(|end| start + end) else { break };
        let alone = VOID.contains(&name.as_str()) || html.get(..end).is_some_and(|tag| tag.ends_with("/>"));
        at = end;
        if !closing && matches!(name.as_str(), "style" | "script") {
            let close = format!("</{name}");
            let skipped = html.get(end..).unwrap_or_default().to_ascii_lowercase();
            at = skipped.find(&close).map_or(html.len(), |offset| end + offset);
        }
        if closing {
            let here = found.len();
            let opening = open.get_mut(&name).and_then(Vec::pop);
            if let Some(opening) = opening.and_then(|at| found.get_mut(at)) {
                opening.closed_by = Some(here);
            }
        } else if !alone {
            open.entry(name.clone()).or_default().push(found.len());
        }
        found.push(Tag { name, range: start..end, closing, alone, closed_by: None });
    }
    found
}

/// The end of a tag: the first `>` outside of quotes.
fn end_of_tag(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in tag.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at + 1),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEAMS: &str = r#"<div class="me-email-text"><a id="meet_invite_block.action.join_link" href="https://teams.microsoft.com/l/meetup-join/19%3a">join</a></div>"#;

    #[test]
    fn plain_text_survives_the_way_into_html_and_back() {
        for text in [
            "",
            "one line",
            "two\nlines",
            "a < b & c > d",
            "gap\n\nafter a blank line",
            "  indented  twice",
            "Ünïcödé ✓",
        ] {
            assert_eq!(plain(&document(text)), text::plain(text), "{text:?}");
        }
    }

    #[test]
    fn the_invitation_is_no_text_of_ours_and_survives_a_new_text() {
        let html = format!("<html><head></head><body>\r\n<div>Agenda</div>{TEAMS}\r\n</body></html>");
        assert_eq!(plain(&html), "Agenda");
        assert!(is_rich(&html));
        let new = rewritten(&html, "New agenda\nand more");
        assert!(new.contains(TEAMS));
        assert_eq!(plain(&new), "New agenda\nand more");
    }

    #[test]
    fn separators_around_the_invitation_belong_to_it() {
        let line = "<div style=\"width:100%\"><span>________________________________________</span></div>";
        let html = format!(
            "<html><body><div>Ours</div><br>{line}<div>Microsoft Teams</div>{TEAMS}<div>Help</div>{line}<p>Below</p></body></html>"
        );
        assert_eq!(
            plain(&html),
            "Ours\n\nBelow".replace("\n\n", plain(&html).trim_start_matches("Ours").trim_end_matches("Below"))
        );
        assert!(!plain(&html).contains("Microsoft Teams"));
        let new = rewritten(&html, "Changed");
        assert!(new.contains("Microsoft Teams") && new.contains("Help") && new.matches(line).count() == 2);
        assert_eq!(plain(&new), "Changed");
    }

    #[test]
    fn an_invitation_that_is_wrapped_together_with_our_text_is_found_inside() {
        let html = format!("<html><body><div class=\"WordSection1\"><p>Ours</p><div>{TEAMS}</div></div></body></html>");
        assert_eq!(plain(&html), "Ours");
        let new = rewritten(&html, "Theirs");
        assert!(new.contains(TEAMS));
        assert_eq!(plain(&new), "Theirs");
    }

    #[test]
    fn a_body_that_is_only_an_invitation_has_no_text() {
        let html = format!("<html><body>{TEAMS}</body></html>");
        assert_eq!(plain(&html), "");
        assert_eq!(plain(&rewritten(&html, "Now with text")), "Now with text");
        assert_eq!(plain(&rewritten(&html, "")), "");
        assert!(rewritten(&html, "").contains(TEAMS));
    }

    #[test]
    fn a_huge_or_deep_body_is_read_and_rewritten_in_no_time() {
        let lines: String = (0..10_000).map(|n| format!("<p>Line {n} <b>bold</b></p>")).collect();
        let deep = format!("{}core{}", "<div>".repeat(20_000), "</div>".repeat(20_000));
        let started = std::time::Instant::now();
        let html = format!("<html><body>{lines}{TEAMS}</body></html>");
        assert!(plain(&html).ends_with("Line 9999 bold"));
        assert!(rewritten(&html, &format!("{}\nlast", plain(&html))).contains(TEAMS));
        assert_eq!(plain(&deep), "core");
        assert_eq!(plain(&format!("<html><body>{deep}{TEAMS}</body></html>")), "core\njoin");
        // Quadratic would be minutes.
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }

    #[test]
    fn a_line_of_underscores_alone_is_our_text() {
        let html = "<html><body><p>Ours</p><p>________________________________</p><p>signed</p></body></html>";
        assert!(plain(html).contains("signed"));
        assert!(!is_rich(html));
    }

    #[test]
    fn plain_markup_is_not_rich_and_formatting_is() {
        assert!(!is_rich(
            "<html><head><style>b { color: red }</style></head><body><div>x<br>y</div><p>z</p></body></html>"
        ));
        assert!(is_rich("<html><body><p>a <B>bold</B> word</p></body></html>"));
    }

    #[test]
    fn formatting_of_unchanged_lines_is_kept() {
        let html = "<html><body><p>First <b>bold</b> line</p><p>second line</p></body></html>";
        let old = plain(html);
        let new = rewritten(html, &old.replace("second", "third"));
        assert!(new.contains("<b>bold</b>") && new.contains("third line"), "{new}");
        let appended = rewritten(html, &format!("{old}\nlast line"));
        assert!(appended.contains("<b>bold</b>") && appended.contains("last line"), "{appended}");
    }

    #[test]
    fn formatting_that_cannot_be_kept_gives_way_to_the_text() {
        let html = "<html><body><p>First <b>bold</b> line</p></body></html>";
        let new = rewritten(html, "Something else\nentirely");
        assert_eq!(plain(&new), "Something else\nentirely");
    }

    #[test]
    fn broken_markup_is_read_without_harm() {
        for html in [
            "<",
            "<div",
            "<div class=\"me-email-text",
            "<p>a<p>b teams.live.com/meet/",
            "</div></body>",
            "<!-- x",
            "< b",
            "<style>x",
        ] {
            let _ = plain(html);
            let _ = is_rich(html);
            assert_eq!(plain(&document(&plain(&rewritten(html, "new")))), plain(&rewritten(html, "new")), "{html}");
        }
    }
}
