//! Rows of plain text in aligned columns.

use serde::Serialize;

/// One step of the tour.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    pub step: String,
    pub expected: String,
    pub seen: String,
    /// From the edit to the other side's write.
    pub latency_ms: Option<f64>,
    pub ok: bool,
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let latency = self.latency_ms.map(|ms| format!("{ms:.0}")).unwrap_or_default();
        let ok = if self.ok { "yes" } else { "NO" };
        vec![self.step.clone(), self.expected.clone(), self.seen.clone(), latency, ok.to_owned()]
    }
}

/// The table of a tour.
pub(super) fn tour(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    aligned(&["step", "expected", "seen", "ms", "ok"], &cells, &[3])
}

/// A heading, a rule and the rows; the columns in `right` are aligned at their right.
pub(super) fn aligned(heading: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let heading: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let width = |column: usize| {
        all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let gap = " ".repeat(width.saturating_sub(cell.chars().count()));
            if right.contains(&column) { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join("  ");
    let mut lines = vec![line(&heading), rule];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "7".to_owned()], vec!["größer".to_owned(), "123".to_owned()]];
        assert_eq!(aligned(&["what", "ms"], &rows, &[1]), "what     ms\n------  ---\na         7\ngrößer  123");
    }

    #[test]
    fn a_step_that_did_not_hold_stands_out() {
        let step = |ok| Row { step: "s".into(), expected: "e".into(), seen: "x".into(), latency_ms: Some(12.4), ok };
        let table = tour(&[step(true), step(false)]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[2..], ["s     e         x     12  yes", "s     e         x     12  NO"]);
    }
}
