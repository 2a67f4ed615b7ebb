//! The service as a process of its own: this very program, so that it can be killed in the middle of something.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

use super::world::{Pace, World};

const LOG: &str = "service.log";

/// A running service. It is killed when it is dropped.
pub(super) struct Service {
    child: Child,
}

/// An address for the service: the port given, or any free one.
pub(super) fn address(port: Option<u16>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0))).context("no port for the service")?;
    Ok(listener.local_addr()?)
}

impl Service {
    pub fn start(world: &World, address: SocketAddr, pace: Pace) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(world.folder.path().join(LOG))?;
        let mut command = Command::new(std::env::current_exe()?);
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("ESPO_OUTLOOK_")) {
            command.env_remove(name);
        }
        let command = command.arg("serve").envs(world.variables(address, pace)).current_dir(world.folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Ok(Self { child: child.context("the service cannot be started")? })
    }

    /// Ends it without a word, as a power failure would.
    pub fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.kill();
    }
}

/// What the service has warned of, the last lines.
pub(super) fn complaints(world: &World) -> Vec<String> {
    let log = std::fs::read_to_string(world.folder.path().join(LOG)).unwrap_or_default();
    let bad = |line: &&str| line.contains(" WARN ") || line.contains("ERROR") || line.contains("panicked");
    let lines: Vec<&str> = log.lines().filter(bad).collect();
    lines.iter().skip(lines.len().saturating_sub(20)).map(|line| (*line).to_owned()).collect()
}
