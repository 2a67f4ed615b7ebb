//! What is printed: the machine, medians with their spread, rows.

use espo_outlook::clock::Clock;

/// A series of runs.
#[derive(Debug, Clone, Default)]
pub struct Series(Vec<f64>);

impl Series {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// By nearest rank.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = sorted.iter().zip(1_u32..).position(|(_, rank)| f64::from(rank) >= share * sorted.len() as f64);
        sorted.get(rank.unwrap_or_default()).copied().unwrap_or_default()
    }

    /// `median [min..max]`.
    #[must_use]
    pub fn spread(&self, digits: usize) -> String {
        let (min, max) = (self.quantile(0.0), self.quantile(1.0));
        format!("{:.digits$} [{min:.digits$}..{max:.digits$}]", self.median())
    }
}

/// What a ratio is held against.
#[must_use]
pub fn verdict(held: bool) -> &'static str {
    if held { "yes" } else { "NO" }
}

/// The machine and how busy it is.
#[must_use]
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let load = read("/proc/loadavg").split_whitespace().next().unwrap_or("?").to_owned();
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = model.trim_matches([':', ' ', '\t']);
    format!(
        "{}; {cores} cores, {model}; Linux {}; load {load} at the start; espo-outlook {}",
        Clock::System.now().format("%F %H:%M UTC"),
        kernel.trim(),
        env!("CARGO_PKG_VERSION")
    )
}

/// Prints a table as markdown, its columns aligned.
pub fn print(head: &[&str], rows: &[Vec<String>]) {
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        cells.chain(head.get(at).map(|cell| cell.chars().count())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
    };
    println!("{}", line(head.to_vec()));
    println!("|{}|", widths.iter().map(|&width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
    for row in rows {
        println!("{}", line(row.iter().map(String::as_str).collect()));
    }
}
