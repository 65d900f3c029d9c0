//! The folders and files of this user, by environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The locations of models and presets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Hugging Face's cache: where downloads go.
    pub hub: PathBuf,
    /// Folders of GGUF files.
    pub folders: Vec<PathBuf>,
    /// llama.cpp's caches, which are only read.
    pub llama_cpp: Vec<PathBuf>,
    /// ollama's stores, which are only read.
    pub ollama: Vec<PathBuf>,
    /// The presets file, which may be missing.
    pub presets: PathBuf,
}

impl Places {
    /// The places by the variables of the environment: `HF_HUB_CACHE`, `HF_HOME`, `RFGRAPH_MODELS`, `LLAMA_CACHE`,
    /// `OLLAMA_MODELS`, `XDG_CACHE_HOME`, `XDG_CONFIG_HOME`, and the programs' own defaults.
    pub fn from_env() -> Places {
        Places::from(|name| std::env::var_os(name))
    }

    /// The places by a function that gives the value of a variable.
    pub fn from(variable: impl Fn(&str) -> Option<OsString>) -> Places {
        let home =
            variable("HOME").or_else(|| variable("USERPROFILE")).map(PathBuf::from).unwrap_or_default();
        let path = |name: &str| {
            variable(name).filter(|value| !value.is_empty()).map(|value| expand(value.into(), &home))
        };
        let cache = path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let hub_home = path("HF_HOME").unwrap_or_else(|| cache.join("huggingface"));
        let llama_cpp = match path("LLAMA_CACHE") {
            Some(folder) => vec![folder],
            None => vec![cache.join("llama.cpp"), home.join("Library/Caches/llama.cpp")],
        };
        let ollama = match path("OLLAMA_MODELS") {
            Some(folder) => vec![folder],
            // The second is that of its service.
            None => vec![home.join(".ollama/models"), PathBuf::from("/usr/share/ollama/.ollama/models")],
        };
        Places {
            hub: path("HF_HUB_CACHE").unwrap_or_else(|| hub_home.join("hub")),
            folders: vec![path("RFGRAPH_MODELS").unwrap_or_else(|| cache.join("rfgraph"))],
            llama_cpp,
            ollama,
            presets: config.join("rfgraph/models.toml"),
        }
    }
}

/// A path with `~/` at its begin replaced.
pub(super) fn expand(path: PathBuf, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Places {
        Places::from(|name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn variables_win_over_defaults_in_their_order() {
        let plain = of(&[("HOME", "/h")]);
        assert_eq!(plain.hub, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(plain.presets, Path::new("/h/.config/rfgraph/models.toml"));
        assert_eq!(plain.folders, [Path::new("/h/.cache/rfgraph")]);
        assert_eq!(of(&[("HOME", "/h"), ("HF_HOME", "~/x")]).hub, Path::new("/h/x/hub"));
        assert_eq!(of(&[("HF_HOME", "/x"), ("HF_HUB_CACHE", "/y")]).hub, Path::new("/y"));
        assert_eq!(of(&[("HOME", "/h"), ("HF_HOME", "")]).hub, plain.hub);
        let xdg = of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/c"), ("XDG_CONFIG_HOME", "/d")]);
        assert_eq!((xdg.hub, xdg.presets), ("/c/huggingface/hub".into(), "/d/rfgraph/models.toml".into()));
        assert_eq!(of(&[("LLAMA_CACHE", "/l")]).llama_cpp, [Path::new("/l")]);
        assert_eq!(of(&[("OLLAMA_MODELS", "/o")]).ollama, [Path::new("/o")]);
    }
}
