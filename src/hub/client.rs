//! HTTP: redirects, the token, back-off, and limits on what is waited for and read.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde::de::DeserializeOwned;
use ureq::http::header::{AUTHORIZATION, LINK, LOCATION, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Response, Uri};
use ureq::{Agent, Body};

use super::HubError;

/// A secret that proves to Hugging Face who asks. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token; `None` if the text is empty.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (!text.is_empty()).then(|| Token(text.into()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Settings of downloads: endpoint and limits.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Address of the server.
    pub endpoint: String,
    /// The token, if there is one. It is sent to the endpoint only, and not over unencrypted HTTP to another machine.
    /// A program that shows what the crate `log` is given at level trace shows it too: ureq writes whole requests there.
    pub token: Option<Token>,
    /// Use the cache only.
    pub offline: bool,
    /// The cache: the folder `hub` of Hugging Face's programs.
    pub cache: PathBuf,
    /// Time without a byte after which a connection counts as stalled.
    pub stall: Duration,
    /// The first pause before another attempt; each further pause is twice as long, a minute at most.
    pub pause: Duration,
    /// Attempts without progress before the download fails.
    pub attempts: u32,
}

/// Hugging Face's own address.
const ENDPOINT: &str = "https://huggingface.co";

impl HubOptions {
    /// The options of the environment, with the cache in `cache`: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`.
    pub fn from_env(cache: PathBuf) -> HubOptions {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.trim().is_empty());
        let is_on =
            |value: String| matches!(value.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true");
        HubOptions {
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()),
            token: variable("HF_TOKEN").and_then(|text| Token::new(&text)),
            offline: variable("HF_HUB_OFFLINE").is_some_and(is_on),
            cache,
            stall: Duration::from_secs(30),
            pause: Duration::from_secs(1),
            attempts: 6,
        }
    }
}

/// A failed attempt.
pub(super) enum Failure {
    /// Another attempt may succeed, after this time if the server says so.
    Again(HubError, Option<Duration>),
    /// No further attempt makes sense.
    Final(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Failure {
        Failure::Final(error)
    }
}

/// Asked while waiting; `Break` ends the download.
pub(super) type Stop<'s> = &'s mut dyn FnMut() -> ControlFlow<()>;

/// A connection to one endpoint.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    origin: Origin,
    authorization: Option<HeaderValue>,
    pause: Duration,
    attempts: u32,
}

/// Scheme, host and port: what a token is for.
#[derive(PartialEq, Eq)]
struct Origin(String, String, u16);

impl Origin {
    fn of(url: &str) -> Option<Origin> {
        let uri: Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let default = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(default);
        Some(Origin(scheme, uri.host()?.to_ascii_lowercase(), port))
    }

    fn is_this_machine(&self) -> bool {
        let host = self.1.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

impl Client {
    /// Redirects that are followed at most.
    const REDIRECTS: usize = 8;
    /// The longest wait that a server's `Retry-After` is followed for.
    const PATIENCE: Duration = Duration::from_secs(300);
    const LONGEST_PAUSE: Duration = Duration::from_secs(60);

    pub(super) fn new(options: &HubOptions) -> Result<Client, HubError> {
        let endpoint = options.endpoint.trim_end_matches('/').to_owned();
        let wrong = |reason| HubError::Setting { variable: "HF_ENDPOINT", reason };
        let origin = Origin::of(&endpoint).ok_or_else(|| wrong("not an http:// or https:// address"))?;
        if endpoint.contains(['@', '?', '#']) {
            return Err(wrong("an address with a user name, a query or a fragment is not supported"));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("rfgraph/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(options.stall))
            .timeout_recv_response(Some(options.stall))
            .timeout_per_read(Some(options.stall))
            .timeout_per_write(Some(options.stall));
        if origin.is_this_machine() {
            config = config.proxy(None);
        }
        let may_send = origin.0 == "https" || origin.is_this_machine();
        if options.token.is_some() && !may_send {
            tracing::warn!("the token of HF_TOKEN is not sent: {endpoint} is not encrypted");
        }
        let token = options.token.as_ref().filter(|_| may_send);
        let authorization = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0)).map_err(|_| {
                HubError::Setting { variable: "HF_TOKEN", reason: "it has characters that no token has" }
            })?;
            value.set_sensitive(true);
            Ok::<_, HubError>(value)
        });
        Ok(Client {
            agent: config.build().new_agent(),
            endpoint,
            origin,
            authorization: authorization.transpose()?,
            pause: options.pause,
            attempts: options.attempts.max(1),
        })
    }

    /// The address of a path on the endpoint; the path is encoded.
    pub(super) fn url(&self, path: &str) -> String {
        use std::fmt::Write;
        let mut url = format!("{}/", self.endpoint);
        for byte in path.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                    url.push(char::from(byte))
                }
                // Writing to a String cannot fail.
                _ => _ = write!(url, "%{byte:02X}"),
            }
        }
        url
    }

    /// One request, with its redirects. The token goes to the endpoint only. A status that is neither a success nor
    /// 416 is a failure.
    pub(super) fn get(&self, url: &str, headers: &[(HeaderName, String)]) -> Result<Response<Body>, Failure> {
        let mut at = url.to_owned();
        for _ in 0..=Client::REDIRECTS {
            let origin = self.origin_of_step(url, &at)?;
            let mut request = self.agent.get(&at);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some(authorization) = self.authorization.as_ref().filter(|_| origin == self.origin) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.call().map_err(|error| broken(&at, &error))?;
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => {
                    let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                    at = to.and_then(|to| resolve(&at, to)).ok_or_else(|| answer(&at, "it leads nowhere"))?;
                }
                200..=299 | 416 => return Ok(response),
                _ => return Err(self.refused(&at, response)),
            }
        }
        Err(answer(url, "it leads from address to address without end").into())
    }

    /// The origin of an address that a request for `url` has led to, if it may go there.
    fn origin_of_step(&self, url: &str, at: &str) -> Result<Origin, HubError> {
        let origin = Origin::of(at).ok_or_else(|| answer(url, "it leads to an address that is not HTTP"))?;
        match self.origin.0 == "https" && origin.0 != "https" {
            true => Err(answer(url, "it leads to an unencrypted address")),
            false => Ok(origin),
        }
    }

    /// A JSON answer of at most 16 MiB, and the address of the next page, if there is one. Tried again as
    /// [`Client::patiently`] does.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        url: &str,
        stop: Stop<'_>,
    ) -> Result<(T, Option<String>), HubError> {
        const MOST: u64 = 16 << 20;
        self.patiently(stop, |_, _| {
            let mut response = self.get(url, &[])?;
            let next = next_page(response.headers()).and_then(|next| resolve(url, &next));
            let body = response.body_mut().with_config().limit(MOST).read_to_vec();
            let body = body.map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => answer(url, "it is larger than 16 MiB").into(),
                other => broken(url, &other),
            })?;
            let value = serde_json::from_slice(&body).map_err(|error| answer(url, &error.to_string()))?;
            Ok((value, next))
        })
    }

    /// Attempts until one succeeds, with pauses between. An attempt that calls its first argument has made progress:
    /// the count of attempts begins again. The second argument is `stop`.
    pub(super) fn patiently<T>(
        &self,
        stop: Stop<'_>,
        mut attempt: impl FnMut(&mut dyn FnMut(), Stop<'_>) -> Result<T, Failure>,
    ) -> Result<T, HubError> {
        let mut failed = 0;
        loop {
            let mut progressed = false;
            let (error, asked) = match attempt(&mut || progressed = true, stop) {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(error, asked)) => (error, asked),
            };
            failed = if progressed { 1 } else { failed + 1 };
            let pause = asked.unwrap_or_else(|| {
                self.pause.saturating_mul(1 << (failed - 1).min(16)).min(Client::LONGEST_PAUSE)
            });
            if failed >= self.attempts || pause > Client::PATIENCE {
                return Err(error);
            }
            tracing::info!("{error}; another attempt in {:.1} s", pause.as_secs_f64());
            wait(pause, stop)?;
        }
    }

    /// The page of the repository that an address is about.
    fn page(&self, url: &str) -> String {
        let path = url.strip_prefix(&self.endpoint).unwrap_or_default().trim_start_matches('/');
        let path = path.strip_prefix("api/models/").unwrap_or(path);
        let name: Vec<&str> = path.split('/').take(2).collect();
        format!("{}/{}", self.endpoint, name.join("/"))
    }

    /// The failure for a status.
    fn refused(&self, url: &str, mut response: Response<Body>) -> Failure {
        let status = response.status().as_u16();
        let wait = retry_after(response.headers());
        let said = words(&mut response);
        let is_ours = Origin::of(url).is_some_and(|origin| origin == self.origin);
        let page = self.page(url);
        let has_token = self.authorization.is_some();
        let advice = match status {
            401 | 403 if !is_ours => "the link has expired; run the same command again".into(),
            401 if !has_token => {
                "the repository does not exist, or it is private or gated: set HF_TOKEN to a token \
                of an account that may read it"
                    .to_owned()
            }
            401 => "the token of HF_TOKEN is not valid, or its account may not read the repository".into(),
            403 if !has_token => {
                format!("the model is gated: accept its terms at {}, and set HF_TOKEN", page)
            }
            403 => format!(
                "the account of HF_TOKEN may not read it: accept the model's terms at {}, or use a token with the right \
                 to read gated repositories",
                page
            ),
            404 => {
                "check the spelling of the name; a renamed or deleted repository is not found either".into()
            }
            429 => match wait {
                Some(wait) => {
                    format!("too many requests; try again in {} s, or set HF_TOKEN", wait.as_secs())
                }
                None => "too many requests; try again later, or set HF_TOKEN".into(),
            },
            408 | 425 | 500..=599 => "the server has a problem; try again later".into(),
            _ => "the request was not accepted".into(),
        };
        let error = HubError::Status { url: shown(url), status, said, advice };
        match status {
            408 | 425 | 429 | 500..=599 => Failure::Again(error, wait),
            // A signed address that has expired: the endpoint gives another one.
            401 | 403 if !is_ours => Failure::Again(error, None),
            _ => Failure::Final(error),
        }
    }
}

/// Waits, asking `stop` several times a second.
pub(super) fn wait(time: Duration, stop: Stop<'_>) -> Result<(), HubError> {
    let end = Instant::now() + time;
    loop {
        if stop().is_break() {
            return Err(HubError::Stopped);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// An address without its query, which may hold a signature.
pub(super) fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    plain.chars().filter(|c| !c.is_control()).take(300).collect()
}

pub(super) fn answer(url: &str, problem: &str) -> HubError {
    let problem = problem.chars().filter(|c| !c.is_control()).take(300).collect();
    HubError::Answer { url: shown(url), problem }
}

/// The failure for a connection that broke.
pub(super) fn broken(url: &str, error: &ureq::Error) -> Failure {
    let network = |problem: String| HubError::Network { url: shown(url), problem };
    match error {
        ureq::Error::Timeout(_) => Failure::Again(network("nothing came for too long".into()), None),
        ureq::Error::HostNotFound => Failure::Again(network("the host's name is not known".into()), None),
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => answer(url, "the address is not valid").into(),
        // The messages of other errors are about the connection; addresses are not in them.
        other => Failure::Again(network(other.to_string()), None),
    }
}

/// The server's reason for a refusal, one short line.
fn words(response: &mut Response<Body>) -> String {
    let header = response.headers().get("x-error-message").and_then(|value| value.to_str().ok());
    let text = header.map(str::to_owned).or_else(|| {
        #[derive(serde::Deserialize)]
        struct Said {
            error: String,
        }
        let body = response.body_mut().with_config().limit(64 << 10).read_to_vec().ok()?;
        serde_json::from_slice(&body).ok().map(|said: Said| said.error)
    });
    text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The time that `Retry-After` asks to wait, in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

/// The target of `Link: <…>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get(LINK)?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

/// The address that a reference on a page leads to.
fn resolve(page: &str, to: &str) -> Option<String> {
    let (scheme, rest) = page.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    match to {
        _ if to.contains("://") => Some(to.to_owned()),
        _ if to.starts_with("//") => Some(format!("{scheme}:{to}")),
        _ if to.starts_with('/') => Some(format!("{scheme}://{host}{to}")),
        _ => {
            let path = rest.split(['?', '#']).next()?;
            let folder = path.rsplit_once('/').map_or(host, |(folder, _)| folder);
            Some(format!("{scheme}://{folder}/{to}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_not_shown() {
        let options = HubOptions { token: Token::new("hf_secret\n"), ..HubOptions::from_env("/x".into()) };
        assert!(!format!("{options:?}").contains("secret"));
        assert_eq!(Token::new(" \n"), None);
    }

    fn client(endpoint: &str) -> Client {
        let options = HubOptions::from_env("/x".into());
        Client::new(&HubOptions { endpoint: endpoint.into(), token: Token::new("hf_secret"), ..options })
            .unwrap()
    }

    #[test]
    fn tokens_are_not_sent_unencrypted_to_another_machine() {
        for (endpoint, expected) in
            [("https://example.com", true), ("http://127.0.0.1:1", true), ("http://example.com", false)]
        {
            assert_eq!(client(endpoint).authorization.is_some(), expected, "{endpoint}");
        }
    }

    #[test]
    fn encrypted_requests_do_not_become_unencrypted() {
        let step = |endpoint: &str, to: &str| client(endpoint).origin_of_step(endpoint, to).is_ok();
        assert!(step("https://a", "https://b/x") && step("http://a", "http://b"));
        assert!(!step("https://a", "http://a") && !step("https://a", "ftp://b"));
    }

    #[test]
    fn references_are_resolved() {
        for (to, expected) in [
            ("https://b/c?d", "https://b/c?d"),
            ("//b/c", "http://b/c"),
            ("/c?d", "http://a:1/c?d"),
            ("c", "http://a:1/x/c"),
        ] {
            assert_eq!(resolve("http://a:1/x/y?z=/w", to).as_deref(), Some(expected));
        }
    }

    #[test]
    fn origins_have_scheme_host_and_port() {
        let same = |a: &str, b: &str| Origin::of(a) == Origin::of(b);
        assert!(same("https://A/x", "https://a:443/y"));
        assert!(!same("https://a", "http://a") && !same("https://a", "https://a:444"));
        assert!(!same("https://a", "https://a.b") && !same("https://a@b", "https://a"));
        assert!(Origin::of("ftp://a").is_none() && Origin::of("a/b").is_none());
        let local = |url| Origin::of(url).unwrap().is_this_machine();
        assert!(local("http://127.0.0.1:8/") && local("http://[::1]:8/") && !local("http://127.0.0.1.evil/"));
    }

    #[test]
    fn waits_are_read_as_seconds_and_dates() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("soon"), None);
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((95..=100).contains(&of(&date).unwrap().as_secs()));
        assert_eq!(of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    }
}
