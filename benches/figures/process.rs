//! Children: this program in another role, or another program, asked by lines and watched from outside.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context as _;

/// A child; killed when it is dropped.
pub struct Role {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// The first line that it printed: that it is ready, as a rule its address.
    pub first_line: String,
}

impl Role {
    /// Starts this program in another role and waits for its first line.
    pub fn start(args: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Self::start_command(command)
    }

    /// Starts a program and waits for its first line.
    pub fn start_command(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("there is no output")?);
        let input = child.stdin.take().context("there is no input")?;
        let mut role = Self { child, input, output, first_line: String::new() };
        role.first_line = role.line()?;
        Ok(role)
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        anyhow::ensure!(self.output.read_line(&mut line)? > 0, "a part of the bench has ended: see above");
        Ok(line.trim().to_owned())
    }

    /// Says a line and waits for the answer.
    pub fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        writeln!(self.input, "{line}")?;
        self.input.flush()?;
        self.line()
    }

    /// The numbers of an answer.
    pub fn numbers(&mut self, line: &str) -> anyhow::Result<Vec<u64>> {
        self.ask(line)?.split_whitespace().map(|word| Ok(word.parse()?)).collect()
    }

    /// CPU seconds so far, user and system.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        cpu_of(&self.child.id().to_string())
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A line of `/proc/self/status`, in KiB.
#[must_use]
pub fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim_matches([':', ' ', '\t']).trim_end_matches("kB").trim().parse().unwrap_or_default()
}

/// CPU seconds of this process so far, user and system.
#[must_use]
pub fn cpu() -> f64 {
    cpu_of("self")
}

/// Ticks are hundredths of a second on every Linux that is about (`USER_HZ`).
#[must_use]
pub fn cpu_of(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
