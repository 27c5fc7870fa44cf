//! A visitor's browser: one HTTP request at a time, and a cookie jar.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// PHP's name for the cookie that holds the session's id.
const SESSION_COOKIE: &str = "PHPSESSID";

/// What kind of body a request has: one that PHP leaves alone, or the fields of a form.
const BYTES: &str = "application/octet-stream";
const FORM: &str = "application/x-www-form-urlencoded";

/// Longer than any wait for a session lock that ends well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser; a clone is the same visitor's second tab.
#[derive(Clone)]
pub(crate) struct Browser {
    port: u16,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// A new visitor of the site on `port`.
    pub(crate) fn new(port: u16) -> Browser {
        Browser { port, cookies: BTreeMap::new() }
    }

    /// This visitor, sent to the site on another port.
    pub(crate) fn at(mut self, port: u16) -> Browser {
        self.port = port;
        self
    }

    /// The page's text.
    ///
    /// # Panics
    /// When its status is not 200.
    pub(crate) fn get(&mut self, page: &str) -> String {
        text(self.get_bytes(page))
    }

    /// The page's bytes, as [`Browser::get`].
    pub(crate) fn get_bytes(&mut self, page: &str) -> Vec<u8> {
        self.request("GET", page, b"").expect_status("200")
    }

    /// Asks for a page of a site that may be in trouble: the status, and the page's text.
    pub(crate) fn visit(&mut self, page: &str) -> (String, String) {
        let Answer { status, body } = self.request("GET", page, b"");
        (status, text(body))
    }

    /// Asks for a page on which PHP refuses to start a session.
    ///
    /// # Panics
    /// When its status is not 500.
    pub(crate) fn refused(&mut self, page: &str) {
        self.request("GET", page, b"").expect_status("500");
    }

    /// Sends `body` to the page, otherwise as [`Browser::get`].
    pub(crate) fn post(&mut self, page: &str, body: &[u8]) -> String {
        text(self.request("POST", page, body).expect_status("200"))
    }

    /// Presses a button of a form on the first page, which sends the browser elsewhere.
    ///
    /// # Panics
    /// When its status is not 303.
    pub(crate) fn press(&mut self, form: &str) {
        self.send("POST", "", FORM, form.as_bytes()).expect_status("303");
    }

    /// The session's id, if the site has given one.
    pub(crate) fn session_id(&self) -> Option<&str> {
        self.cookies.get(SESSION_COOKIE).map(String::as_str)
    }

    /// Makes the site believe that it gave this id.
    pub(crate) fn set_session_id(&mut self, id: &str) {
        self.cookies.insert(SESSION_COOKIE.to_owned(), id.to_owned());
    }

    fn request(&mut self, method: &str, page: &str, body: &[u8]) -> Answer {
        self.send(method, page, BYTES, body)
    }

    fn send(&mut self, method: &str, page: &str, kind: &str, body: &[u8]) -> Answer {
        let cookies: Vec<_> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
        // HTTP/1.0: the answer comes unchunked and ends with the connection.
        let head = format!(
            "{method} /{page} HTTP/1.0\r\nHost: 127.0.0.1\r\nCookie: {}\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            cookies.join("; "),
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("PHP listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer in time");
        self.receive(&answer)
    }

    fn receive(&mut self, answer: &[u8]) -> Answer {
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let head = str::from_utf8(&answer[..end]).expect("a head of text");
        let body = answer[end + 4..].to_vec();
        let status = head.split(' ').nth(1).expect("a status").to_owned();
        for line in head.lines().skip(1) {
            let (name, value) = line.split_once(": ").expect("a header line");
            if name.eq_ignore_ascii_case("set-cookie") {
                self.take_cookie(value);
            }
        }
        Answer { status, body }
    }

    fn take_cookie(&mut self, cookie: &str) {
        let mut parts = cookie.split("; ");
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a cookie");
        if parts.any(|attribute| attribute == "Max-Age=0") {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

struct Answer {
    status: String,
    body: Vec<u8>,
}

impl Answer {
    fn expect_status(self, status: &str) -> Vec<u8> {
        let Answer { status: got, body } = self;
        assert_eq!(got, status, "the page says: {}", String::from_utf8_lossy(&body));
        body
    }
}

fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).expect("a page of text")
}
