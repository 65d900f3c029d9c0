//! The presets file: names of the user's own for models, with settings.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::HubError;
use crate::sampling::{Parameter, SamplerParams, Value};

/// A model of the presets file: a table `[model.NAME]`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Preset {
    /// The name.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// The file or the name of the model, as written.
    pub file: String,
    /// The context size.
    pub n_ctx: Option<usize>,
    /// The samplers' settings, by the names of [`SamplerParams::parameters`].
    sampling: Vec<(&'static str, Setting)>,
    /// The line of the table.
    pub(super) line: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Setting {
    Number(f32),
    Count(usize),
    Texts(Vec<String>),
}

/// The keys besides the samplers' settings.
const KEYS: [&str; 3] = ["file", "alias", "n_ctx"];

impl Preset {
    /// True if this is one of its names.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Sets the preset's settings, and returns their names. They were checked when the file was read.
    pub fn set(&self, params: &mut SamplerParams) -> Vec<&'static str> {
        for parameter in params.parameters() {
            if let Some((_, setting)) = self.sampling.iter().find(|(name, _)| *name == parameter.name) {
                setting.give(parameter.value);
            }
        }
        self.sampling.iter().map(|(name, _)| *name).collect()
    }

    /// Reads the presets file; no presets if there is no file.
    pub(super) fn read(path: &Path) -> Result<Vec<Preset>, HubError> {
        match fs::read_to_string(path) {
            Ok(text) => Preset::parse(&text).map_err(|(at, problem)| {
                let line = 1 + text.get(..at.min(text.len())).unwrap_or(&text).matches('\n').count();
                HubError::Preset { path: path.to_owned(), line, problem }
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(HubError::file("read", path)(error)),
        }
    }

    /// The presets of a text; the error has a byte's place.
    fn parse(text: &str) -> Result<Vec<Preset>, Fault> {
        let document = DeTable::parse(text)
            .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let mut presets: Vec<Preset> = Vec::new();
        for (key, value) in document.get_ref() {
            if key.get_ref() != "model" {
                let problem = format!("unknown key `{}`; expected [model.NAME]", key.get_ref());
                return Err((key.span().start, problem));
            }
            for (name, table) in table(value)? {
                let at = name.span().start;
                let line = 1 + text[..at].matches('\n').count();
                let preset = Preset::of(name.get_ref(), at, line, table)?;
                for used in std::iter::once(&preset.name).chain(&preset.aliases) {
                    if let Some(other) = presets.iter().find(|other| other.is_named(used)) {
                        return Err((at, format!("the name `{used}` is also one of model `{}`", other.name)));
                    }
                }
                presets.push(preset);
            }
        }
        Ok(presets)
    }

    fn of(name: &str, at: usize, line: usize, value: &Spanned<DeValue<'_>>) -> Result<Preset, Fault> {
        let mut preset = Preset {
            name: name.into(),
            aliases: Vec::new(),
            file: String::new(),
            n_ctx: None,
            sampling: Vec::new(),
            line,
        };
        let mut params = SamplerParams::default();
        for (key, value) in table(value)? {
            match key.get_ref().as_ref() {
                "file" => preset.file = text(value)?,
                "alias" => preset.aliases = texts(value)?,
                "n_ctx" => preset.n_ctx = Some(count(value)?),
                name => {
                    let parameter =
                        params.parameters().into_iter().find(|parameter| is_called(parameter, name));
                    let parameter = parameter.ok_or_else(|| (key.span().start, unknown(name)))?;
                    let name = parameter.name;
                    let setting = Setting::of(value, &parameter.value)?;
                    setting.give(parameter.value);
                    params.check().map_err(|error| (value.span().start, error.to_string()))?;
                    preset.sampling.push((name, setting));
                }
            }
        }
        if preset.file.is_empty() {
            return Err((at, format!("model `{name}` has no `file`")));
        }
        Ok(preset)
    }
}

/// A place in the text, and what is wrong there.
type Fault = (usize, String);

/// True if a key is a parameter's name, or its option's with `_` for `-`.
fn is_called(parameter: &Parameter<'_>, key: &str) -> bool {
    let names = [Some(parameter.name), Some(parameter.flag), parameter.alias];
    names.into_iter().flatten().any(|name| name.replace('-', "_") == key)
}

fn unknown(key: &str) -> String {
    let mut params = SamplerParams::default();
    let sampling = params.parameters();
    let names = KEYS.into_iter().chain(sampling.iter().map(|parameter| parameter.name));
    format!("unknown key `{key}`; the keys are {}", names.collect::<Vec<_>>().join(", "))
}

impl Setting {
    fn of(value: &Spanned<DeValue<'_>>, kind: &Value<'_>) -> Result<Setting, Fault> {
        match kind {
            Value::Number(..) => number(value).map(Setting::Number),
            Value::Count(..) => count(value).map(Setting::Count),
            Value::Texts(_) => texts(value).map(Setting::Texts),
        }
    }

    fn give(&self, to: Value<'_>) {
        match (self, to) {
            (Setting::Number(from), Value::Number(to, _)) => *to = *from,
            (Setting::Count(from), Value::Count(to, _)) => *to = *from,
            (Setting::Texts(from), Value::Texts(to)) => to.clone_from(from),
            _ => {}
        }
    }
}

fn wrong(at: Range<usize>, expected: &str, found: &DeValue<'_>) -> Fault {
    (at.start, format!("expected {expected}, found {}", found.type_str()))
}

fn table<'t, 'i>(value: &'t Spanned<DeValue<'i>>) -> Result<&'t DeTable<'i>, Fault> {
    value.get_ref().as_table().ok_or_else(|| wrong(value.span(), "a table", value.get_ref()))
}

fn text(value: &Spanned<DeValue<'_>>) -> Result<String, Fault> {
    let text = value.get_ref().as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| wrong(value.span(), "a text", value.get_ref()))
}

/// One text or a list of texts.
fn texts(value: &Spanned<DeValue<'_>>) -> Result<Vec<String>, Fault> {
    match value.get_ref().as_array() {
        Some(array) => array.iter().map(text).collect(),
        None => text(value).map(|text| vec![text]),
    }
}

fn count(value: &Spanned<DeValue<'_>>) -> Result<usize, Fault> {
    let parsed = value.get_ref().as_integer().and_then(|n| usize::from_str_radix(n.as_str(), n.radix()).ok());
    parsed.ok_or_else(|| wrong(value.span(), "0 or a positive integer", value.get_ref()))
}

fn number(value: &Spanned<DeValue<'_>>) -> Result<f32, Fault> {
    let float = value.get_ref().as_float().and_then(|number| number.as_str().parse().ok());
    let integer = value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
    float.or(integer).ok_or_else(|| wrong(value.span(), "a number", value.get_ref()))
}

/// The path of a preset's file, which is relative to the folder of the presets file.
pub(super) fn path_of(preset: &Preset, presets: &Path, home: &Path) -> PathBuf {
    let file = super::places::expand(PathBuf::from(&preset.file), home);
    presets.parent().map_or_else(|| file.clone(), |folder| folder.join(&file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (usize, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("models.toml");
        fs::write(&path, text).unwrap();
        match Preset::read(&path) {
            Err(HubError::Preset { line, problem, .. }) => (line, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn presets_have_names_files_and_settings() {
        let text = "[model.small]\nfile = \"a/b:Q8_0\"\nalias = [\"s\", \"tiny\"]\nn_ctx = 0x1000\ntemp = 0\n\
                    top-k = 7\nrepeat_penalty = 1.5\n\n[model.\"with space\"]\nfile = '~/x.gguf'\n";
        let error = Preset::parse(text).unwrap_err();
        assert!(error.1.starts_with("unknown key `top-k`"), "{error:?}");
        let presets = Preset::parse(&text.replace("top-k", "top_k")).unwrap();
        let [small, spaced] = &presets[..] else { panic!("{presets:?}") };
        assert!(small.is_named("small") && small.is_named("tiny") && !small.is_named("smal"));
        assert_eq!((small.n_ctx, small.file.as_str()), (Some(4096), "a/b:Q8_0"));
        assert_eq!(path_of(spaced, Path::new("/c/models.toml"), Path::new("/h")), Path::new("/h/x.gguf"));
        assert_eq!(path_of(small, Path::new("/c/models.toml"), Path::new("/h")), Path::new("/c/a/b:Q8_0"));
        let mut params = SamplerParams::default();
        let mut set = small.set(&mut params);
        set.sort_unstable();
        assert_eq!(set, ["repeat_penalty", "temperature", "top_k"]);
        assert_eq!(params.temperature.value, 0.0);
        let top_k = params.parameters().into_iter().find(|parameter| parameter.name == "top_k").unwrap();
        assert!(matches!(top_k.value, Value::Count(7, _)));
    }

    #[test]
    fn faults_have_their_line() {
        for (text, line, problem) in [
            ("[model.a]\nfile = 'x'\nheat = 3\n", 3, "unknown key `heat`; the keys are file, alias, n_ctx, "),
            ("\n[modell.a]\n", 2, "unknown key `modell`"),
            ("[model.a]\nfile = 'x'\ntop_p = 3.0\n", 3, "top_p is 3; expected a number from 0 to 1"),
            ("[model.a]\nfile = 'x'\nn_ctx = -1\n", 3, "expected 0 or a positive integer"),
            ("[model.a]\nfile = 'x'\ntemp = 'hot'\n", 3, "expected a number, found string"),
            ("[model.a]\nfile = 3\n", 2, "expected a text"),
            ("[model.a]\n\nn_ctx = 3\n", 1, "model `a` has no `file`"),
            (
                "[model.a]\nfile = 'x'\n[model.b]\nfile = 'y'\nalias = 'a'\n",
                3,
                "the name `a` is also one of model `a`",
            ),
            ("[model.a]\nfile = 'x'\nfile = 'y'\n", 3, "duplicate key"),
            ("[model.a]\nfile = \n", 2, ""),
        ] {
            let (at, said) = fault(text);
            assert!(at == line && said.contains(problem), "{text}: line {at}: {said}");
        }
    }

    #[test]
    fn a_missing_file_has_no_presets() {
        assert_eq!(Preset::read(Path::new("/nothing/models.toml")).unwrap(), []);
    }
}
