//! Parses the command line, runs the command, prints what went wrong.

use std::process::ExitCode;

use clap::Parser as _;
use espo_outlook::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    // reqwest and sqlx are built without a TLS provider of their own. Only a second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("espo-outlook: {error:#}");
            ExitCode::FAILURE
        }
    }
}
