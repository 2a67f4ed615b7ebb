//! Somebody at the web pages: cookies by hand, forms with their token, no scripts.

use std::collections::BTreeMap;

use serde_json::Value;

use super::World;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub text: String,
}

impl Answer {
    pub fn location(&self) -> &str {
        self.headers.get("location").map_or("", String::as_str)
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// A browser at one service.
pub struct Site<'a> {
    world: &'a World,
    pub cookies: BTreeMap<String, String>,
    pub headers: Vec<(&'static str, String)>,
}

impl World {
    /// A browser that nobody has signed in.
    pub fn site(&self) -> Site<'_> {
        let headers = vec![("Origin", self.url.clone()), ("Accept-Language", "en".to_owned())];
        Site { world: self, cookies: BTreeMap::new(), headers }
    }

    /// A browser of the holder of the admin token.
    pub fn admin_site(&self) -> Site<'_> {
        let mut site = self.site();
        let answer = site.post("/sign-in", &[("token", &self.token)]);
        assert_eq!((answer.status, answer.location()), (303, "/"), "{}", answer.text);
        site
    }

    /// A browser of an EspoCRM user.
    pub fn user_site(&self, name: &str) -> Site<'_> {
        let mut site = self.site();
        let answer = site.post("/sign-in", &[("user", name), ("password", &format!("{name}-Pass1"))]);
        assert_eq!(answer.status, 303, "{}", answer.text);
        site
    }
}

impl Site<'_> {
    fn send(&mut self, method: &str, path: &str, more: &[(&str, String)], body: Option<String>) -> Answer {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers: Vec<(&str, String)> =
            self.headers.iter().map(|(name, value)| (*name, value.clone())).collect();
        headers.extend_from_slice(more);
        if !cookies.is_empty() {
            headers.push(("Cookie", cookies.join("; ")));
        }
        let (answer, set) = self.world.plain(method, path, &headers, body);
        for cookie in set {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((&cookie, ""));
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    /// The page, which must be there.
    pub fn page(&mut self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8", "GET {path}");
        answer.text
    }

    /// The session's token, from a page that everybody has.
    pub fn csrf(&mut self) -> String {
        let text = self.page("/sessions");
        let start = text.split("name=\"csrf\" value=\"").nth(1).unwrap();
        start.split('"').next().unwrap().to_owned()
    }

    /// Sends a form as it is.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.send("POST", path, &[("Content-Type", "application/x-www-form-urlencoded".to_owned())], Some(body))
    }

    /// Sends a form with the token.
    pub fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf();
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        self.post(path, &fields)
    }

    /// Sends a form that must be accepted; gives the page that it leads to.
    pub fn does(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.submit(path, fields);
        assert_eq!(answer.status, 303, "POST {path}: {}", answer.text);
        let to = answer.location().to_owned();
        let text = self.page(&to);
        assert!(!text.contains("class=\"flash bad\""), "POST {path}: {text}");
        text
    }

    /// A request to the API with the session; `csrf` goes along when given.
    pub fn api(&mut self, method: &str, path: &str, csrf: Option<&str>, body: Option<&Value>) -> Answer {
        let more: Vec<(&str, String)> = csrf.map(|csrf| ("X-CSRF-Token", csrf.to_owned())).into_iter().collect();
        self.send(method, &format!("/api/v1{path}"), &more, body.map(Value::to_string))
    }
}
