//! The generator: signed deliveries over so many kept connections, each sending the next one when the last is answered. The
//! same for every receiver; a process of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::table::Series;

/// The webhook in whose name deliveries are signed, and its secret.
pub const WEBHOOK: &str = "65f0c0ffee0000001";
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Where they are sent.
pub const PATH: &str = "/webhooks/espocrm";
/// Bodies have this length: what EspoCRM sends of a meeting with a description.
const LENGTH: usize = 2048;
/// So many different deliveries are sent round and round.
const DIFFERENT: u64 = 512;

/// A delivery of one record that was edited, as EspoCRM 9.3 sends it (an update names what has changed, and no owner).
#[must_use]
pub fn body(id: &str, length: usize) -> Vec<u8> {
    let head = format!(
        r#"[{{"id":"{id}","name":"Quarterly review with the customer","dateStart":"2026-11-22 10:00:00","dateEnd":"2026-11-22 11:00:00","status":"Planned","modifiedById":"65f0c0ffee0000007","modifiedByName":"Anna","description":""#
    );
    let filler = length.saturating_sub(head.len() + 3);
    let filler = (b'a'..=b'z').cycle().take(filler);
    head.into_bytes().into_iter().chain(filler).chain(*b"\"}]").collect()
}

/// The whole request.
pub fn request(body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut mac = <Hmac<Sha256>>::new_from_slice(SECRET.as_bytes())?;
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let signature = STANDARD.encode(format!("{WEBHOOK}:{}", hex::encode(digest)));
    let legacy = STANDARD.encode([format!("{WEBHOOK}:").as_bytes(), &digest].concat());
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nSignature: {signature}\r\nX-Signature: {legacy}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Ok([head.as_bytes(), body].concat())
}

/// What was measured.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Load {
    /// Requests per second.
    pub rate: f64,
    /// Milliseconds.
    pub p50: f64,
    pub p99: f64,
    /// How many were answered with a 2xx.
    pub accepted: u64,
    /// The same, those of the warm-up included.
    #[serde(default)]
    pub all: u64,
    /// How many were answered otherwise.
    pub refused: u64,
}

/// One connection.
pub struct Sender {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Sender {
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024] })
    }

    /// True when the answer is a 2xx.
    pub async fn send(&mut self, request: &[u8]) -> anyhow::Result<bool> {
        self.stream.write_all(request).await?;
        let mut length = 0;
        loop {
            let room = self.buffer.get_mut(length..).context("the answer is too long")?;
            let read = self.stream.read(room).await?;
            anyhow::ensure!(read > 0, "the connection was closed");
            length += read;
            let answer = self.buffer.get(..length).unwrap_or_default();
            let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_ascii_lowercase();
            let announced = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let announced = announced.map_or(Ok(0), |value| value.trim().parse::<usize>())?;
            if length >= head + 4 + announced {
                return Ok(text.starts_with("http/1.1 2"));
            }
        }
    }
}

/// Measures for so long, once all connections are there and warm.
pub async fn measure(url: &str, connections: usize, time: Duration) -> anyhow::Result<Load> {
    let requests: Vec<Vec<u8>> =
        (0..DIFFERENT).map(|n| request(&body(&format!("65f0c0ffee{n:07x}"), LENGTH))).collect::<anyhow::Result<_>>()?;
    let requests = Arc::new(requests);
    let warm = run(url, connections, Duration::from_millis(300), requests.clone()).await?;
    let load = run(url, connections, time, requests).await?;
    Ok(Load { all: warm.accepted + load.accepted, ..load })
}

async fn run(url: &str, connections: usize, time: Duration, requests: Arc<Vec<Vec<u8>>>) -> anyhow::Result<Load> {
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(Sender::connect(url).await?);
    }
    let started = Instant::now();
    let end = started + time;
    let mut tasks = Vec::new();
    for (at, mut sender) in senders.into_iter().enumerate() {
        let requests = requests.clone();
        tasks.push(tokio::spawn(async move {
            let (mut millis, mut refused) = (Vec::new(), 0_u64);
            let mut next = requests.iter().cycle().skip(at * 7);
            while Instant::now() < end {
                let Some(request) = next.next() else { break };
                let sent = Instant::now();
                if sender.send(request).await? {
                    millis.push(sent.elapsed().as_secs_f64() * 1000.0);
                } else {
                    refused += 1;
                }
            }
            anyhow::Ok((millis, refused))
        }));
    }
    let (mut all, mut accepted, mut refused) = (Series::default(), 0, 0);
    for task in tasks {
        let (millis, wrong) = task.await??;
        accepted += millis.len() as u64;
        refused += wrong;
        millis.into_iter().for_each(|one| all.push(one));
    }
    let rate = accepted as f64 / started.elapsed().as_secs_f64();
    Ok(Load { rate, p50: all.quantile(0.5), p99: all.quantile(0.99), accepted, all: accepted, refused })
}
