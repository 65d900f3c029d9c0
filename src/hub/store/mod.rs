//! All models on this machine, by name. Each source has a file; none but Hugging Face's cache is ever written.

mod folder;
mod hugging_face;
mod llama_cpp;
mod ollama;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::places::Places;
use super::preset::{Preset, path_of};
use super::pull::Pulled;
use super::{HubError, Reference};

pub(super) use hugging_face::{RepoEntry, of_repository};

/// The location of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// Hugging Face's cache.
    HuggingFace,
    /// A folder of GGUF files.
    Folder,
    /// llama.cpp's cache.
    LlamaCpp,
    /// ollama's store.
    Ollama,
}

impl Source {
    /// The source in words.
    pub fn name(self) -> &'static str {
        match self {
            Source::HuggingFace => "Hugging Face's cache",
            Source::Folder => "the models folder",
            Source::LlamaCpp => "llama.cpp's cache",
            Source::Ollama => "ollama's store",
        }
    }
}

/// A model that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The full name, such as `USER/REPO:QUANT`.
    pub name: String,
    /// Its location.
    pub source: Source,
    /// Its files, the first part first.
    pub files: Vec<PathBuf>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Time at which the newest file was written.
    pub modified: Option<SystemTime>,
    /// Shorter names.
    short: Vec<String>,
}

impl Entry {
    /// An entry; `None` if there is no file or one cannot be read.
    fn new(name: String, source: Source, files: Vec<PathBuf>, short: Vec<String>) -> Option<Entry> {
        let (mut bytes, mut modified) = (0, None);
        for file in &files {
            let there = fs::metadata(file).ok().filter(|there| there.is_file())?;
            bytes += there.len();
            modified = modified.max(there.modified().ok());
        }
        (!files.is_empty()).then_some(Entry { name, source, files, bytes, modified, short })
    }

    /// The path of the first or only file, which opens the model.
    pub fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// The file itself, behind all links: equal for two names of one content.
    fn content(&self) -> PathBuf {
        fs::canonicalize(self.path()).unwrap_or_else(|_| self.path().to_owned())
    }
}

/// Names and files of all models on this machine.
///
/// The presets are read once; the folders are read by each call, since other programs write to them.
#[derive(Clone, Debug)]
pub struct Store {
    places: Places,
    home: PathBuf,
    presets: Vec<Preset>,
}

impl Store {
    /// The store of this user, by environment ([`Places::from_env`]).
    ///
    /// # Errors
    /// The presets file has a fault.
    pub fn from_env() -> Result<Store, HubError> {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        Store::new(Places::from_env(), home)
    }

    /// The store of these places; `home` replaces `~` in the presets.
    ///
    /// # Errors
    /// The presets file has a fault.
    pub fn new(places: Places, home: PathBuf) -> Result<Store, HubError> {
        let presets = Preset::read(&places.presets)?;
        Ok(Store { places, home, presets })
    }

    /// The places that are searched.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The presets.
    pub fn presets(&self) -> &[Preset] {
        &self.presets
    }

    /// The preset of a name.
    pub fn preset(&self, name: &str) -> Option<&Preset> {
        self.presets.iter().find(|preset| preset.is_named(name))
    }

    /// All models, sorted by name. A content that has several names in one source is listed once.
    pub fn list(&self) -> Vec<Entry> {
        let Places { hub, folders, llama_cpp, ollama, .. } = &self.places;
        let mut all = hugging_face::list(hub);
        all.extend(folders.iter().flat_map(|folder| folder::list(folder)));
        all.extend(llama_cpp.iter().flat_map(|folder| llama_cpp::list(folder)));
        all.extend(ollama.iter().flat_map(|folder| ollama::list(folder)));
        all.sort_by(|a, b| (&a.name, a.source).cmp(&(&b.name, b.source)));
        all.dedup_by(|a, b| (&a.name, a.content()) == (&b.name, b.content()));
        all
    }

    /// The path of the model with this name; `None` if there is none.
    ///
    /// The preset of the name wins. Else the full name must be equal, else equal but for upper and lower case, else it
    /// must be a shorter name: without user, quantization, folder or ending.
    ///
    /// # Errors
    /// The name fits several models, or a preset names a file that is not there.
    pub fn find(&self, name: &str) -> Result<Option<PathBuf>, HubError> {
        if let Some(preset) = self.preset(name) {
            return self.find_preset(preset).map(Some);
        }
        Ok(self.entry(name)?.map(|entry| entry.path().to_owned()))
    }

    fn find_preset(&self, preset: &Preset) -> Result<PathBuf, HubError> {
        let path = path_of(preset, &self.places.presets, &self.home);
        if path.is_file() {
            return Ok(path);
        }
        self.entry(&preset.file)?.map(|entry| entry.path().to_owned()).ok_or_else(|| HubError::Preset {
            path: self.places.presets.clone(),
            line: preset.line,
            problem: format!(
                "the file of model `{}`, {}, is neither a file nor the name of a model that is here",
                preset.name,
                preset.file.escape_debug()
            ),
        })
    }

    /// The model with this name, presets aside.
    ///
    /// # Errors
    /// The name fits several models.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>, HubError> {
        let plain =
            name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string());
        let rules: [&dyn Fn(&Entry) -> bool; 4] = [
            &|entry| entry.name == name || entry.name == plain,
            &|entry| entry.name.eq_ignore_ascii_case(&plain),
            &|entry| entry.short.contains(&plain),
            &|entry| entry.short.iter().any(|short| short.eq_ignore_ascii_case(&plain)),
        ];
        let all = self.list();
        for rule in rules {
            let mut fits: Vec<&Entry> = all.iter().filter(|entry| rule(entry)).collect();
            let mut contents: Vec<PathBuf> = Vec::new();
            fits.retain(|entry| {
                let content = entry.content();
                let is_new = !contents.contains(&content);
                contents.push(content);
                is_new
            });
            if let Some(one) = one_of(name, &fits)? {
                return Ok(Some(one.clone()));
            }
        }
        Ok(None)
    }
}

/// The one model that fits: of several quantizations of one repository the default, as for a download.
fn one_of<'e>(name: &str, fits: &[&'e Entry]) -> Result<Option<&'e Entry>, HubError> {
    let repository = |entry: &Entry| entry.name.split_once(':').map(|(repository, _)| repository.to_owned());
    let is_default = |entry: &&&Entry| entry.name.ends_with(&format!(":{}", Pulled::DEFAULT));
    match fits {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        [first, rest @ ..] => {
            let of_one_repository = rest
                .iter()
                .all(|entry| entry.source == Source::HuggingFace && repository(entry) == repository(first));
            let mut defaults = fits.iter().filter(is_default);
            match (defaults.next(), defaults.next()) {
                (Some(default), None) if of_one_repository => Ok(Some(default)),
                _ => Err(HubError::Several {
                    name: name.into(),
                    candidates: fits
                        .iter()
                        .map(|entry| format!("{}  {}", entry.name, entry.path().display()))
                        .collect(),
                }),
            }
        }
    }
}

/// A path's part after the last `/`.
fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
