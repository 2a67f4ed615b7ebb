//! The binary as a child process.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_espo-outlook");

/// One run of `serve` after the other, with the same configuration and folder.
pub struct Product {
    child: Option<Child>,
    pub env: BTreeMap<String, String>,
    folder: PathBuf,
    name: String,
    roles: Option<String>,
    wrapper: &'static [&'static str],
}

/// The binary, started by a wrapper if there is one.
fn prepared(wrapper: &[&str], args: &[&str], env: &BTreeMap<String, String>, folder: &Path) -> Command {
    let line: Vec<&str> = wrapper.iter().copied().chain([BINARY]).collect();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).args(args).current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ESPO_OUTLOOK_") || name == "RUST_LOG") {
        command.env_remove(name);
    }
    if !env.contains_key("LOG__FILTER") && !env.contains_key("LOG__LEVEL") {
        command.env("RUST_LOG", "info");
    }
    command.env("NO_COLOR", "1");
    // What is no setting of ours is called as it is called everywhere.
    let name = |key: &str| if key.starts_with("SSL_") { key.to_owned() } else { format!("ESPO_OUTLOOK_{key}") };
    command.envs(env.iter().map(|(key, value)| (name(key), value)));
    command
}

/// Runs a command of the binary to its end.
pub fn command(args: &[&str], env: &BTreeMap<String, String>, folder: &Path) -> Output {
    prepared(&[], args, env, folder).output().unwrap()
}

impl Product {
    pub fn new(folder: &Path, wrapper: &'static [&'static str], env: BTreeMap<String, String>) -> Self {
        Self { child: None, env, folder: folder.to_owned(), name: "product".to_owned(), roles: None, wrapper }
    }

    /// The same program beside this one, on another address and with other roles.
    pub fn beside(&self, name: &str, bind: &str, roles: &str) -> Self {
        let mut env = self.env.clone();
        env.insert("SERVER__BIND".to_owned(), bind.to_owned());
        let (folder, wrapper) = (self.folder.clone(), self.wrapper);
        Self { child: None, env, folder, name: name.to_owned(), roles: Some(roles.to_owned()), wrapper }
    }

    pub fn set_roles(&mut self, roles: &str) {
        self.roles = Some(roles.to_owned());
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let errors = log.try_clone().unwrap();
        let mut args = vec!["serve"];
        args.extend(self.roles.iter().flat_map(|roles| ["--roles", roles]));
        let mut command = prepared(self.wrapper, &args, &self.env, &self.folder);
        self.child = Some(command.stdout(log).stderr(errors).spawn().unwrap());
    }

    pub fn command(&self, args: &[&str]) -> Output {
        command(args, &self.env, &self.folder)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    pub fn log(&self) -> String {
        std::fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and SIGKILL when it does not end by itself. True when it ended by itself.
    pub fn stop(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return true };
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().ok();
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if child.try_wait().ok().flatten().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().ok();
        child.wait().ok();
        false
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// SIGSTOP: it does nothing any more, and does not know.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// How it ended, if it has ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        self.child.as_mut()?.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// How large files may become that it writes; none lifts that.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let done = Command::new("prlimit").args(["--pid", &id, &format!("--fsize={limit}:unlimited")]).status();
        assert!(done.unwrap().success());
    }

    /// Memory in KiB: all that is resident, and of it what is its own. The rest are pages of the program's file, which are shared,
    /// and many in a debug build.
    pub fn resident(&self) -> (u64, u64) {
        let id = self.child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let read = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap()
        };
        (read("VmRSS:"), read("RssAnon:"))
    }
}
