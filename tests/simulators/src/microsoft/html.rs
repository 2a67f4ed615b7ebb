//! What Exchange does to bodies: plain text is wrapped into HTML, and HTML is given back as text on request.

/// Markup around every body that Exchange stores.
pub fn wrap(inner: &str) -> String {
    if inner.is_empty() {
        return String::new();
    }
    format!(
        "<html><head>\r\n<meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\">\r\n</head>\r\n<body>\r\n{inner}\r\n</body>\r\n</html>\r\n"
    )
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A text body as Exchange keeps it.
pub fn from_text(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let lines = escaped.replace("\r\n", "\n").replace('\n', "<br>\r\n");
    wrap(&format!("<div class=\"PlainText\">{lines}</div>"))
}

/// An HTML body as Exchange keeps it.
pub fn from_html(html: &str) -> String {
    if html.to_ascii_lowercase().contains("<html") { html.to_owned() } else { wrap(html) }
}

/// What stands between the body tags.
pub fn inner(html: &str) -> &str {
    let lower = html.to_ascii_lowercase();
    let Some(open) = lower.find("<body") else { return html };
    let Some(start) = lower.get(open..).and_then(|rest| rest.find('>')).map(|n| open + n + 1) else { return html };
    let end = lower.rfind("</body>").unwrap_or(html.len()).max(start);
    html.get(start..end).unwrap_or(html).trim()
}

/// `Prefer: outlook.body-content-type="text"`.
pub fn to_text(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        push_text(&mut out, rest.get(..open).unwrap_or_default());
        let after = rest.get(open..).unwrap_or_default();
        let name: String = after
            .chars()
            .skip(1)
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '/')
            .collect::<String>()
            .to_ascii_lowercase();
        let hidden = ["head", "style", "script"].into_iter().find(|tag| *tag == name);
        let end = match hidden {
            Some(tag) => {
                let close = format!("</{tag}>");
                after.to_ascii_lowercase().find(&close).map(|n| n + close.len())
            }
            None => after.find('>').map(|n| n + 1),
        };
        if ["br", "br/", "/p", "/div", "/li", "/tr", "/h1", "/h2", "/h3", "/h4"].contains(&name.as_str()) {
            out.push('\n');
        }
        rest = end.and_then(|n| after.get(n..)).unwrap_or_default();
        if out.ends_with('\n') {
            rest = rest.trim_start();
        }
    }
    push_text(&mut out, rest);
    out.trim().to_owned()
}

fn push_text(out: &mut String, piece: &str) {
    let plain = piece.replace('\r', "").replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    out.push_str(&plain.replace("&#39;", "'").replace("&nbsp;", "\u{a0}").replace("&amp;", "&"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_the_round_trip_though_the_stored_html_is_longer() {
        let html = from_text("hi & <b>\nsecond");
        assert!(html.contains("<meta") && html.contains("&lt;b&gt;"));
        assert_eq!(to_text(&html), "hi & <b>\nsecond");
        assert_eq!(inner(&html), "<div class=\"PlainText\">hi &amp; &lt;b&gt;<br>\r\nsecond</div>");
    }

    #[test]
    fn an_empty_body_stays_empty() {
        assert_eq!(from_text(""), "");
        assert_eq!(from_html(""), "");
    }
}
