//! What is measured beside ours: built, installed and started when it is needed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::process::Role;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Builds the floor into the target folder of ours, whose dependencies it shares.
pub fn floor() -> anyhow::Result<PathBuf> {
    let target = std::env::current_exe()?;
    let target = target.ancestors().nth(3).context("there is no target folder")?.to_owned();
    let manifest = root().join("benches/floor/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
    build.arg("--target-dir").arg(&target);
    anyhow::ensure!(build.status()?.success(), "the floor could not be built");
    Ok(target.join("release/floor"))
}

/// A private broker, ended when it is dropped.
pub struct Broker {
    /// Its address.
    pub url: String,
    /// Its process.
    pub process: u32,
    folder: PathBuf,
}

fn server(command: &str, folder: &Path) -> Command {
    let mut script = Command::new("sh");
    script.arg(root().join("tests/servers/rabbitmq.sh")).arg(command).arg(folder);
    script
}

/// Starts a broker in that folder; none where it is not installed.
pub fn rabbitmq(folder: &Path) -> anyhow::Result<Option<Broker>> {
    let installed = Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists();
    if !installed || !root().join("tests/servers/rabbitmq.sh").exists() {
        return Ok(None);
    }
    let started = server("start", folder).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(started.status.success(), "RabbitMQ does not start");
    let url = String::from_utf8(started.stdout)?.trim().to_owned();
    let process = std::fs::read_to_string(folder.join("pid"))?.trim().parse()?;
    Ok(Some(Broker { url, process, folder: folder.to_owned() }))
}

impl Drop for Broker {
    fn drop(&mut self) {
        server("stop", &self.folder).status().ok();
    }
}

/// How a fastify receiver is started that publishes to that broker; none where there is no node.
pub fn fastify(broker: &str) -> anyhow::Result<Option<impl Fn() -> anyhow::Result<Role> + use<>>> {
    let folder = root().join("benches/peers/fastify");
    let found = |program: &str| Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found("node") || !found("npm") {
        println!("node and npm are not installed: without fastify");
        return Ok(None);
    }
    if !folder.join("node_modules").exists() {
        let mut install = Command::new("npm");
        install.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
        if !install.stdout(Stdio::null()).status()?.success() {
            println!("npm could not install fastify: without it");
            return Ok(None);
        }
    }
    let broker = broker.to_owned();
    Ok(Some(move || {
        let mut node = Command::new("node");
        node.arg(folder.join("server.mjs")).env("QUEUE_URL", &broker).env("NODE_ENV", "production");
        Role::start_command(node)
    }))
}
