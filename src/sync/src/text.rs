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
    let decorator = html2text::render::TrivialDecorator::new();
    let rendered = html2text::config::with_decorator(decorator)
        .string_from_read(html.as_bytes(), 100_000)
        .unwrap_or_else(|_| strip_tags(html));
    plain(&rendered)
}

/// The last resort for HTML that the parser gives up on: what lies outside of tags.
fn strip_tags(html: &str) -> String {
    let mut inside = false;
    html.chars()
        .filter(|&c| {
            match c {
                '<' => inside = true,
                '>' if inside => {
                    inside = false;
                    return false;
                }
                _ => {}
            }
            !inside
        })
        .collect()
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

/// An e-mail address in the form in which addresses are compared.
#[must_use]
pub fn address(address: &str) -> String {
    address.trim().to_lowercase()
}
