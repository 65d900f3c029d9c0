//! Names of repositories and of their files, checked before they become paths.

use std::fmt;
use std::str::FromStr;

use super::HubError;

/// A model on Hugging Face: `USER/REPO` or `USER/REPO:QUANT`.
///
/// `QUANT` is a quantization such as `Q4_K_M`, or the path of a GGUF file in the repository. The prefixes `hf.co/`
/// and `https://huggingface.co/` are accepted and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    user: String,
    repo: String,
    quant: Option<String>,
}

/// Accepted and dropped.
const PREFIXES: [&str; 5] = ["https://", "http://", "huggingface.co/", "hf.co/", "hf://"];

/// The longest name of a user or repository: Hugging Face's own limit.
const MAX_NAME: usize = 96;

impl FromStr for Reference {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Reference, HubError> {
        let wrong = |reason| HubError::Reference { text: text.into(), reason };
        let mut rest = text;
        for prefix in PREFIXES {
            rest = rest.strip_prefix(prefix).unwrap_or(rest);
        }
        let (path, quant) = match rest.split_once(':') {
            Some((path, quant)) => (path, Some(quant)),
            None => (rest, None),
        };
        let (user, repo) = path.split_once('/').ok_or_else(|| wrong("it has no `/`"))?;
        for name in [user, repo] {
            check_name(name).map_err(wrong)?;
        }
        if let Some(quant) = quant {
            check_path(quant).map_err(wrong)?;
        }
        Ok(Reference { user: user.into(), repo: repo.into(), quant: quant.map(str::to_owned) })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        self.quant.as_ref().map_or(Ok(()), |quant| write!(f, ":{quant}"))
    }
}

impl Reference {
    /// `USER/REPO`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.user, self.repo)
    }

    /// The quantization or file, if one is given.
    pub fn quant(&self) -> Option<&str> {
        self.quant.as_deref()
    }

    /// The repository's folder in the cache.
    pub(super) fn folder(&self) -> String {
        format!("models--{}--{}", self.user, self.repo)
    }

    /// The repository of a folder in the cache.
    pub(super) fn of_folder(folder: &str) -> Option<Reference> {
        let (user, repo) = folder.strip_prefix("models--")?.split_once("--")?;
        format!("{user}/{repo}").parse().ok()
    }
}

/// Checks the name of a user or repository. `--` separates the two in the cache, so that neither may have it.
fn check_name(name: &str) -> Result<(), &'static str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match name {
        "" => Err("a part of it is empty"),
        _ if name.len() > MAX_NAME => Err("a part of it has more than 96 characters"),
        _ if !name.chars().all(is_plain) => {
            Err("it has characters other than letters, digits, `-`, `_` and `.`")
        }
        _ if name.contains("--") || name.contains("..") => Err("it has `--` or `..`"),
        _ if name.starts_with(['-', '.']) || name.ends_with(['-', '.']) => {
            Err("a part of it begins or ends with `-` or `.`")
        }
        _ => Ok(()),
    }
}

/// Checks the path of a file in a repository: it must stay below the folder that it is joined to, on every system.
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > 1024 {
        return Err("a path is longer than 1024 bytes");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("a path is absolute, or has an empty part"),
            "." | ".." => return Err("a path has a part `.` or `..`"),
            _ if name.len() > 255 => return Err("a file name is longer than 255 bytes"),
            _ if name.chars().any(|c| c.is_control() || "\\:".contains(c)) => {
                return Err("a path has a control character, `\\` or `:`");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks a hexadecimal number of this many digits, such as a commit or a checksum.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_with_and_without_prefix() {
        for text in ["a/b-c.d:Q8_0", "hf.co/a/b-c.d:Q8_0", "https://huggingface.co/a/b-c.d:Q8_0"] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), "a/b-c.d:Q8_0");
            assert_eq!(Reference::of_folder(&reference.folder()).unwrap().repository(), "a/b-c.d");
        }
    }

    #[test]
    fn names_that_would_leave_the_cache_are_refused() {
        for text in [
            "a", "a/", "/b", "a/b/c", "../b", "a/..", "a--b/c", "a/b:", "a/b:../c", "a/b:/c", "-a/b", "a/b\n",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
    }

    proptest! {
        /// Paths that pass the check stay below the folder that they are joined to.
        #[test]
        fn checked_paths_stay_below_their_folder(path in "([a.\\\\/:\u{0}\n]|\\.\\./|//){0,12}") {
            if check_path(&path).is_ok() {
                let joined = std::path::Path::new("/root").join(&path);
                prop_assert!(joined.starts_with("/root") && joined.components().all(|part|
                    !matches!(part, std::path::Component::ParentDir)), "{path:?}");
                prop_assert!(joined.components().count() > 2);
            }
        }
    }
}
