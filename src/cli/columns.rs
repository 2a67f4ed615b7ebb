//! Tables that fit the terminal: the last column gives way first, then the others, the widest before all.

use super::say;

/// A column is never narrower.
const NARROWEST: usize = 6;
const GAP: usize = 2;

/// How wide the terminal is; none where the output is no terminal, and is not to be cut.
fn width() -> Option<usize> {
    let given = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    given.or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)))
}

/// Prints a head and rows.
pub(super) fn print(head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    lines(head, rows, width()).iter().try_for_each(|line| say(line))
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// The widths of the columns: as wide as their texts, as far as there is room.
fn widths(head: &[&str], rows: &[Vec<String>], room: Option<usize>) -> Vec<usize> {
    let widest = |at: usize, name: &str| {
        let texts = rows.iter().filter_map(|row| row.get(at)).map(|text| length(text));
        texts.chain([length(name)]).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = head.iter().enumerate().map(|(at, name)| widest(at, name)).collect();
    let Some(room) = room else { return widths };
    let gaps = GAP * head.len().saturating_sub(1);
    loop {
        let excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
        let last = widths.len().saturating_sub(1);
        let giving = match widths.last() {
            Some(width) if *width > NARROWEST * 4 => Some(last),
            _ => (0..widths.len()).max_by_key(|at| widths.get(*at).copied()),
        };
        let Some(width) = giving.and_then(|at| widths.get_mut(at)) else { return widths };
        if excess == 0 || *width <= NARROWEST {
            return widths;
        }
        *width -= 1;
    }
}

fn cell(text: &str, width: usize, is_last: bool) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match length(&text) {
        length if length > width => text.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        _ if is_last => text,
        length => format!("{text}{}", " ".repeat(width - length)),
    }
}

fn lines(head: &[&str], rows: &[Vec<String>], room: Option<usize>) -> Vec<String> {
    let widths = widths(head, rows, room);
    let line = |cells: Vec<&str>| {
        let last = widths.len().saturating_sub(1);
        let cells = cells.iter().zip(&widths).enumerate().map(|(at, (text, width))| cell(text, *width, at == last));
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(head.to_vec())).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![row(["01a2", "queued", "short"]), row(["01a3", "dead", &"a long sentence ".repeat(8)])]
    }

    #[test]
    fn a_table_is_as_wide_as_the_terminal_and_no_wider() {
        for room in [30, 40, 80, 100] {
            let lines = lines(&["ID", "STATE", "ERROR"], &rows(), Some(room));
            assert!(lines.iter().all(|line| length(line) <= room), "{room}: {lines:#?}");
            assert!(lines[2].contains('…') && lines[1].contains("short"), "{room}: {lines:#?}");
        }
    }

    #[test]
    fn where_nobody_looks_nothing_is_cut() {
        let lines = lines(&["ID", "STATE", "ERROR"], &rows(), None);
        assert!(lines[2].contains("sentence a long sentence") && !lines[2].contains('…'), "{lines:#?}");
        assert!(lines[0].starts_with("ID    STATE   ERROR"), "{lines:#?}");
    }

    #[test]
    fn line_breaks_and_escapes_of_a_text_do_not_break_the_table() {
        assert_eq!(cell("a\nb\u{1b}[31m", 20, true), "a b [31m");
    }
}
