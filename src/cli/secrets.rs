//! `secrets`: the key with which tokens and secrets are sealed at rest.

use anyhow::Context as _;
use clap::{Args as ClapArgs, Subcommand};
use secrecy::ExposeSecret as _;
use serde_json::json;
use store::Store;

use super::say;
use crate::app::secrets;
use crate::config::Config;
use crate::vault::Vault;

/// What to do.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// Makes a new key and seals everything anew with it, all or nothing; the service may run meanwhile and takes it over. Keys
    /// that sealed something until now stay in the key file, for older backups, until the next rotation.
    Rotate,
    /// Tells how many secrets each key has sealed, and whether all of them can be opened.
    Status,
}

pub(super) async fn run(config: &Config, args: &Args) -> anyhow::Result<()> {
    let store = Store::open(config.database.url.expose_secret()).await;
    let store = store.context("the database cannot be used; check database.url")?;
    let vault = Vault::open(config)?;
    let done = match args.what {
        What::Rotate => rotate(&store, &vault, args.json).await,
        What::Status => status(&store, &vault, args.json).await,
    };
    store.close().await?;
    done
}

async fn rotate(store: &Store, vault: &Vault, as_json: bool) -> anyhow::Result<()> {
    let rotated = secrets::rotate(store, vault).await?;
    if as_json {
        return say(&serde_json::to_string_pretty(&rotated)?);
    }
    say(&format!("{} secrets are sealed with the new key {}", rotated.sealed + rotated.kept, rotated.key_id))?;
    match vault.file() {
        Some(path) => say(&format!("keep a copy of {} with the backups", path.display())),
        None => say("security.previous_encryption_keys is needed for older backups only, from now on"),
    }
}

async fn status(store: &Store, vault: &Vault, as_json: bool) -> anyhow::Result<()> {
    let (by_key, closed) = secrets::survey(store, vault).await?;
    if as_json {
        let told = json!({ "key_id": vault.key_id(), "sealed": by_key, "closed": closed });
        say(&serde_json::to_string_pretty(&told)?)?;
    } else {
        say(&format!("the key {} is in force", vault.key_id()))?;
        for (key, count) in &by_key {
            say(&format!("{key}  {count} secrets"))?;
        }
    }
    if closed.is_empty() {
        return Ok(());
    }
    anyhow::bail!("these cannot be opened with any known key: {}", closed.join(", "))
}
