//! A browser as far as signing in needs one: it follows redirects by GET and keeps cookies per host.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::runtime::Handle;
use url::Url;

/// Where a browser ended.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub text: String,
    /// Every address that was visited, the last one included.
    pub visited: Vec<Url>,
}

/// One browser; two of them share nothing.
pub struct Browser {
    runtime: Handle,
    client: reqwest::Client,
    cookies: BTreeMap<(String, String), String>,
    /// Addresses with this text in them are not opened: the browser stops before it.
    pub stop_before: Option<String>,
}

impl Browser {
    pub fn new(runtime: Handle) -> Self {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build()
            .unwrap();
        Self { runtime, client, cookies: BTreeMap::new(), stop_before: None }
    }

    /// Opens an address and follows where it leads.
    pub fn open(&mut self, url: &str) -> Page {
        let mut url: Url = url.parse().unwrap();
        let mut visited = vec![url.clone()];
        for _ in 0..10 {
            let (status, location, text) = self.get(&url);
            let Some(next) = location.filter(|_| (300..400).contains(&status)) else {
                return Page { status, text, visited };
            };
            url = url.join(&next).unwrap();
            visited.push(url.clone());
            if self.stop_before.as_ref().is_some_and(|stop| url.as_str().contains(stop.as_str())) {
                return Page { status, text, visited };
            }
        }
        panic!("redirected in circles: {visited:?}");
    }

    fn get(&mut self, url: &Url) -> (u16, Option<String>, String) {
        // As in a browser, cookies are of a host, whatever its port.
        let host = url.host_str().unwrap_or_default().to_owned();
        let own = self.cookies.iter().filter(|((of, _), _)| *of == host);
        let cookies: Vec<String> = own.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut request = self.client.get(url.clone()).header("Accept", "text/html");
        if !cookies.is_empty() {
            request = request.header("Cookie", cookies.join("; "));
        }
        let (status, set, location, text) = self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let all = |name: &str| -> Vec<String> {
                let values = answer.headers().get_all(name).into_iter();
                values.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect()
            };
            let (set, location) = (all("set-cookie"), all("location").into_iter().next());
            (answer.status().as_u16(), set, location, answer.text().await.unwrap())
        });
        for cookie in set {
            let pair = cookie.split(';').next().unwrap_or_default();
            if let Some((name, value)) = pair.split_once('=') {
                self.cookies.insert((host.clone(), name.trim().to_owned()), value.trim().to_owned());
            }
        }
        (status, location, text)
    }
}
