//! The chat page: its files, built into the program, and the headers that bind it.
//!
//! The page is plain HTML, CSS and JavaScript modules in `src/serve/page/`: no build step, and no other host.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// The rules of the page: nothing but its own files, no inline code, no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data: blob:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal,)*) => {
        /// The page's files: names and bytes.
        const FILES: &[(&str, &[u8])] = &[$(($name, include_bytes!(concat!("page/", $name)))),*];
    };
}

files! {
    "index.html",
    "announce.js",
    "answer.js",
    "api.js",
    "app.js",
    "archive.js",
    "chat.css",
    "chats.js",
    "code.js",
    "composer.js",
    "dialogs.js",
    "docs.css",
    "docs.html",
    "docs.js",
    "dom.js",
    "early.js",
    "files.js",
    "format.js",
    "growing.js",
    "highlight.js",
    "history.js",
    "icons.js",
    "inline.js",
    "kept.js",
    "layout.css",
    "live.js",
    "log.js",
    "markdown.js",
    "message.js",
    "parameters.js",
    "requests.js",
    "server.js",
    "settings.js",
    "sidebar.js",
    "sse.js",
    "store.js",
    "style.css",
    "theme.js",
    "thoughts.js",
    "tokens.js",
    "tools.js",
    "tree.js",
}

/// A file with its type and the hash of its bytes, by which browsers keep it.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: String,
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let asset = |&(name, bytes): &(&'static str, &'static [u8])| {
        let kind = match name.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        let hash = Sha256::digest(bytes);
        let tag = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
        Asset { name, kind, bytes, tag: format!("\"{tag}\"") }
    };
    FILES.iter().map(asset).collect()
});

/// The paths of the page's files.
pub(super) fn paths() -> impl Iterator<Item = String> {
    FILES.iter().map(|(name, _)| path(name))
}

/// The path of a file.
fn path(name: &str) -> String {
    match name {
        "index.html" => "/".to_string(),
        name => format!("/{}", name.trim_end_matches(".html")),
    }
}

/// True if a path is a file of the page.
pub(super) fn is_file(path: &str) -> bool {
    paths().any(|file| file == path)
}

/// A file of the page.
pub(super) fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| self::path(asset.name) == path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let is_known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == asset.tag.as_bytes());
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => asset.bytes.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, asset.tag.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        // All are plain ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/serve/page");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut found: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        let mut served: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        found.sort_unstable();
        served.sort_unstable();
        assert_eq!(found, served);
    }

    #[test]
    fn the_page_is_small_and_has_no_inline_code_and_no_other_host() {
        // The page of routes is another page.
        let of_chat = FILES.iter().filter(|(name, _)| !name.starts_with("docs."));
        let total: usize = of_chat.map(|(_, bytes)| bytes.len()).sum();
        assert!(total <= 150_000, "{total} bytes");
        for (name, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            assert!(!text.contains("innerHTML") && !text.contains("eval("), "{name}");
            let hosts = text.match_indices("://").filter(|(at, _)| {
                let before = &text[..*at];
                before.ends_with("http") || before.ends_with("https")
            });
            for (at, _) in hosts {
                let rest = &text[at + 3..];
                assert!(
                    rest.starts_with("www.w3.org/"),
                    "{name} names a host: {}",
                    &rest[..rest.len().min(30)]
                );
            }
            if *name == "index.html" {
                assert!(!text.contains("<style") && !text.contains(" onclick") && !text.contains("<script>"));
            }
        }
    }
}
