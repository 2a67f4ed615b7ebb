//! Text in canonical form: what an Outlook body says, what EspoCRM accepts as a name.
//!
//! EspoCRM keeps plain text (9.3: `description` is stored as sent); Exchange wraps any body into an HTML document. Both are
//! brought into one plain form, so that a body that went out and came back is the same body.

/// EspoCRM 9.3 refuses longer names of Meeting, Call and Task (400 `maxLength`).
pub const NAME_MAX: usize = 255;
/// EspoCRM 9.3 requires a name; an item without a title gets this one.
pub const UNTITLED: &str = "(no subject)";
/// The title of a private event of which only the times are copied.
pub const PRIVATE: &str = "Private";

/// Plain text with `\n` line ends, no null bytes, no trailing blanks, no blank lines at either end.
#[must_use]
pub fn plain(text: &str) -> String {
    let unified = text.replace("\r\n", "\n").replace(['\r', '\u{2028}'], "\n").replace('\0', "").replace('\u{a0}', " ");
    let lines: Vec<&str> = unified.split('\n').map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// The plain text of an HTML body.
#[must_use]
pub fn from_html(html: &str) -> String {
    if html.trim().is_empty() {
        return String::new();
    }
    if is_too_deep(html) {
        return plain(&strip_tags(html));
    }
    let decorator = html2text::render::TrivialDecorator::new();
    let rendered = html2text::config::with_decorator(decorator)
        .string_from_read(html.as_bytes(), 100_000)
        .unwrap_or_else(|_| strip_tags(html));
    plain(&rendered)
}

/// Elements inside of elements beyond which HTML is no document that people write: laying it out would take for ever.
const DEPTH_MAX: usize = 500;

/// True for HTML that is nested deeper than any document that people write.
#[must_use]
pub fn is_too_deep(html: &str) -> bool {
    let mut depth = 0usize;
    html.match_indices('<').any(|(at, _)| {
        let tag = html.get(at + 1..).unwrap_or_default();
        let (closing, tag) = tag.strip_prefix('/').map_or((false, tag), |tag| (true, tag));
        // What is never closed, and what is not closed by every author, does not count.
        if tag.starts_with(|c: char| c.is_ascii_alphabetic()) && !stands_alone(tag) {
            depth = if closing { depth.saturating_sub(1) } else { depth + 1 };
        }
        depth > DEPTH_MAX
    })
}

fn stands_alone(tag: &str) -> bool {
    const ALONE: [&str; 14] =
        ["br", "p", "li", "hr", "img", "meta", "link", "input", "col", "td", "tr", "th", "wbr", "option"];
    let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
    ALONE.iter().any(|alone| name.eq_ignore_ascii_case(alone))
}

/// The last resort for HTML that the parser gives up on: what lies outside of tags, a line a run of text.
fn strip_tags(html: &str) -> String {
    let (mut text, mut rest) = (String::new(), html);
    while let Some(start) = rest.find('<') {
        let (said, tag) = rest.split_at(start);
        text.push_str(said);
        let hidden = ["style", "script"]
            .into_iter()
            .find(|name| tag.get(1..=name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)));
        let end = hidden.and_then(|name| {
            let close = tag.to_ascii_lowercase().find(&format!("</{name}"))?;
            Some(close + tag.get(close..)?.find('>')? + 1)
        });
        rest = match end.or_else(|| tag.find('>').map(|end| end + 1)) {
            Some(end) => tag.get(end..).unwrap_or_default(),
            None => "",
        };
        if !said.trim().is_empty() {
            text.push('\n');
        }
    }
    text.push_str(rest);
    let entities = [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.into_iter().fold(text, |text, (entity, said)| text.replace(entity, said))
}

/// The HTML that says a plain text: markup is escaped, lines are kept.
#[must_use]
pub fn to_html(text: &str) -> String {
    let escaped = plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // Runs of blanks survive HTML only as no-break spaces.
    let kept = escaped.replace("  ", " &nbsp;");
    kept.split('\n')
        .map(|line| line.strip_prefix(' ').map_or_else(|| line.to_owned(), |rest| format!("&nbsp;{rest}")))
        .collect::<Vec<_>>()
        .join("<br>\n")
}

/// A title that EspoCRM accepts: none of `<>=` (its pattern `$noBadCharacters`), at most 255 characters, not empty.
#[must_use]
pub fn espo_name(title: &str) -> String {
    let cleaned: String =
        title.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !matches!(c, '<' | '>' | '=')).collect();
    let squeezed = cleaned.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = squeezed.chars().take(NAME_MAX).collect();
    let name = cut.trim_end();
    if name.is_empty() { UNTITLED.to_owned() } else { name.to_owned() }
}

/// A title as Exchange keeps it: one line, at most 255 characters.
#[must_use]
pub fn outlook_subject(title: &str) -> String {
    title.chars().map(|c| if c.is_control() { ' ' } else { c }).take(NAME_MAX).collect()
}

/// What stands before the name of a participant who has no address. A colon is in no address.
const NAME_ONLY: &str = "name:";

/// The key of a participant who has a name but no address; none for what is no name either.
#[must_use]
pub fn key_of_name(name: &str) -> Option<String> {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ").replace('\0', "").to_lowercase();
    (!name.is_empty()).then(|| format!("{NAME_ONLY}{name}"))
}

/// True for the key of a participant who has no address: it cannot be written to Outlook.
#[must_use]
pub fn is_name_only(key: &str) -> bool {
    key.starts_with(NAME_ONLY)
}

/// An e-mail address in the form in which addresses are compared.
#[must_use]
pub fn address(address: &str) -> String {
    address.trim().to_lowercase()
}
