//! Parses the command line, runs the command, prints what went wrong.

// An optimised build looks into futures that lie inside each other more deeply than the usual limit.
#![recursion_limit = "256"]

use std::process::ExitCode;

use clap::Parser as _;
use espo_outlook::cli::Cli;

/// Unoptimised futures of a reconciliation are large, and they lie inside each other.
const STACK: usize = 16 << 20;

fn main() -> ExitCode {
    // reqwest and sqlx are built without a TLS provider of their own. Only a second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK).build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => Err(anyhow::Error::from(error).context("the runtime cannot be started")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("espo-outlook: {error:#}");
            ExitCode::FAILURE
        }
    }
}
