//! Figures beside figures: `cargo bench --bench figures -- WHAT`, each in one run on one machine, with its spread.
//!
//! - `receive [SECONDS [ROUNDS]]`: our receiver beside the thinnest one there could be (`benches/floor`) and beside what people
//!   would write (`benches/peers/fastify`, where node is there), in turns;
//! - `way [CHANGES [ROUNDS]]`: from the webhook to the write on the other side, beside the thinnest way there could be;
//! - `sweep [MAILBOXES]`: a sweep in which nothing has changed;
//! - `pages [LINKS [HISTORY]]`: each page and list of the administration on a large database.
//!
//! The other systems are stubs in processes of their own (`stub`). With RabbitMQ where `rabbitmq-server` is installed.

#![recursion_limit = "256"]

mod load;
mod pages;
mod peers;
mod process;
mod receive;
mod stub;
mod sweep;
mod table;
mod way;
mod world;

use std::time::Duration;

fn threads(count: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(count).enable_all().build()?)
}

fn main() -> anyhow::Result<()> {
    // One that is there already is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // `cargo bench` adds a flag of its own.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["receive"] => receive::orchestrate(Duration::from_secs(2), 5),
        ["receive", seconds] => receive::orchestrate(Duration::from_secs_f64(seconds.parse()?), 5),
        ["receive", seconds, rounds] => {
            receive::orchestrate(Duration::from_secs_f64(seconds.parse()?), rounds.parse()?)
        }
        ["way"] => way::orchestrate(3000, 3),
        ["way", changes] => way::orchestrate(changes.parse()?, 3),
        ["way", changes, rounds] => way::orchestrate(changes.parse()?, rounds.parse()?),
        ["pages"] => pages::orchestrate(100_000, 1_000_000),
        ["pages", links] => pages::orchestrate(links.parse()?, 1_000_000),
        ["pages", links, entries] => pages::orchestrate(links.parse()?, entries.parse()?),
        ["sweep"] => sweep::orchestrate(1000),
        ["sweep", mailboxes] => sweep::orchestrate(mailboxes.parse()?),
        ["role", "load", url, connections, seconds] => {
            let time = Duration::from_secs_f64(seconds.parse()?);
            let load = threads(1)?.block_on(load::measure(url, connections.parse()?, time))?;
            println!("{}", serde_json::to_string(&load)?);
            Ok(())
        }
        ["role", "receiver", folder, queue] => receive::serve(folder, queue),
        ["role", "way", stub, folder, queue, rest @ ..] => way::serve(stub, folder, queue, rest),
        ["role", "pages", stub, folder] => pages::serve(stub, folder),
        ["role", "pages-seed", stub, folder, entries, users] => {
            threads(2)?.block_on(pages::seed(stub, folder, entries.parse()?, users.parse()?))
        }
        ["role", "stub", users, espo, graph] => {
            let millis = |text: &str| anyhow::Ok(Duration::from_millis(text.parse()?));
            let size = stub::Size { users: users.parse()?, espo: millis(espo)?, graph: millis(graph)? };
            actix_web::rt::System::new().block_on(stub::serve(size))
        }
        ["role", "sweep-seed", stub, folder, users] => threads(2)?.block_on(sweep::seed(stub, folder, users.parse()?)),
        ["role", "sweep", stub, folder] => threads(2)?.block_on(sweep::measure(stub, folder)),
        _ => {
            println!("usage: cargo bench --bench figures -- receive | way | sweep | pages");
            Ok(())
        }
    }
}
