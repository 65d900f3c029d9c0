//! The models that the server loads by name: those of `rfgraph list` and of a folder, or the given one.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use super::ServeArgs;
use super::load::LoadArgs;
use crate::cli::error::{CliError, eprintln_quietly};
use crate::cli::names::Located;
use crate::cli::options::ModelArg;
use crate::cli::sampling::SamplingArgs;
use crate::engine::OnStep;
use crate::hub::{
    Details, Entry, Event, HubError, HubOptions, Places, Preset, Reference, Store, copy, pull, remove,
};
use crate::model::{Model, ModelError};
use crate::serve::{
    Description, Library, LibraryError, ListedModel, Loaded, ModelNames, PullProgress, Server,
};

/// The name of the model that is built in.
const DEMO: &str = "demo";

/// The models by name.
pub(super) struct ModelLibrary {
    source: Source,
    load: LoadArgs,
    sampling: SamplingArgs,
    is_strict: bool,
    started: SystemTime,
    /// The demo model in lists.
    demo: OnceLock<Option<ListedModel>>,
    /// Facts of files, by path.
    details: Mutex<HashMap<PathBuf, Read>>,
}

/// The facts of a file when it was read.
struct Read {
    bytes: u64,
    modified: Option<SystemTime>,
    /// `None`: it could not be read.
    details: Option<Details>,
}

enum Source {
    /// One model; `None`: the demo.
    One(ModelNames, Option<Located>),
    Store(Box<Store>),
}

/// A model with its file; `None`: the demo.
struct Found {
    names: ModelNames,
    located: Option<Located>,
}

/// The library for these arguments; `None`: the server keeps one model.
pub(super) fn of(args: &ServeArgs) -> Result<Option<ModelLibrary>, CliError> {
    let source = match (args.model.is_given(), args.models.keep_alive) {
        (true, None) => return Ok(None),
        (true, Some(_)) => Source::One(args.names(), args.model.located()?.cloned()),
        (false, _) => {
            let of_one = [
                ("--alias", !args.alias.is_empty()),
                ("--chat-template-file", args.load.chat_template_file.is_some()),
                ("--chat-template", args.load.chat_template.is_some()),
            ];
            if let Some((option, _)) = of_one.into_iter().find(|(_, is_given)| *is_given) {
                let reason =
                    format!("{option} is about one model: name it, as in `rfgraph serve MODEL {option} …`");
                return Err(CliError::Usage(reason));
            }
            Source::Store(Box::new(store(args)?))
        }
    };
    Ok(Some(ModelLibrary {
        source,
        load: args.load.clone(),
        sampling: args.sampling.clone(),
        is_strict: args.model.is_strict(),
        started: SystemTime::now(),
        demo: OnceLock::new(),
        details: Mutex::default(),
    }))
}

fn store(args: &ServeArgs) -> Result<Store, CliError> {
    let mut places = Places::from_env();
    if let Some(folder) = &args.models.models_dir {
        if !folder.is_dir() {
            return Err(CliError::Input(format!("{} is not a folder", folder.display())));
        }
        places.folders.insert(0, folder.clone());
    }
    Ok(Store::new(places, std::env::home_dir().unwrap_or_default())?)
}

impl ModelLibrary {
    /// Gives the models to the server. A given model is loaded at once, so that its faults are known at the start.
    pub(super) fn serve(self, server: &Server) -> Result<(), CliError> {
        let only = match &self.source {
            Source::One(names, _) => Some(names.id.clone()),
            Source::Store(_) => {
                let n = self.list().len();
                let models = if n == 1 { "model" } else { "models" };
                eprintln_quietly(&format!("{n} {models}, loaded on request; GET /v1/models lists them"));
                None
            }
        };
        server.set_library(Arc::new(self));
        only.map_or(Ok(()), |id| server.load(&id).map_err(CliError::Check))
    }

    fn found(&self) -> Vec<Found> {
        let store = match &self.source {
            Source::One(names, located) => {
                return vec![Found { names: names.clone(), located: located.clone() }];
            }
            Source::Store(store) => store,
        };
        let presets = store.presets().iter().filter_map(|preset| {
            let path = store.find(&preset.name).ok().flatten()?;
            let names = ModelNames { id: preset.name.clone(), aliases: preset.aliases.clone() };
            Some(Found { names, located: Some(Located { path, preset: Some(preset.clone()) }) })
        });
        let entries = store.list().into_iter().map(|entry| {
            let names = ModelNames { id: entry.name.clone(), aliases: Vec::new() };
            Found { names, located: Some(Located::at(entry.path())) }
        });
        let mut all: Vec<Found> = Vec::new();
        for found in presets.chain(entries) {
            // Of several models with one name the first is meant, as in `find`.
            if all.iter().all(|other| !other.names.has(&found.names.id)) {
                all.push(found);
            }
        }
        if all.is_empty() {
            all.extend(demo());
        }
        all
    }

    /// The model with this id.
    fn with_id(&self, id: &str) -> Result<Found, LibraryError> {
        let found = self.found().into_iter().find(|found| found.names.id == id);
        found.or_else(|| demo().filter(|demo| demo.names.id == id)).ok_or(LibraryError::Unknown)
    }

    fn listed(&self, found: Found) -> Option<ListedModel> {
        let Some(located) = &found.located else {
            let demo = self.demo.get_or_init(|| listed_demo(found.names, self.started));
            return demo.clone();
        };
        let file = std::fs::metadata(&located.path).ok()?;
        let (bytes, modified) = (file.len(), file.modified().ok());
        let details = self.details(&located.path, bytes, modified);
        Some(ListedModel {
            names: found.names,
            modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
            bytes: details.as_ref().map_or(bytes, |details| details.bytes),
            parameters: details.as_ref().map_or(0, |details| details.parameters),
            n_ctx_train: details.as_ref().and_then(|details| details.n_ctx_train),
            architecture: details.as_ref().map(|details| details.architecture.clone()).unwrap_or_default(),
            format: details.map(|details| details.format).unwrap_or_default(),
        })
    }

    /// The facts of a file; read once for each state of the file.
    fn details(&self, path: &Path, bytes: u64, modified: Option<SystemTime>) -> Option<Details> {
        let mut all = self.details.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(path) {
            Some(read) if (read.bytes, read.modified) == (bytes, modified) => read.details.clone(),
            _ => {
                let details = Details::read(path);
                let details = details.inspect_err(|error| tracing::warn!("{}: {error}", path.display())).ok();
                all.insert(path.to_owned(), Read { bytes, modified, details: details.clone() });
                details
            }
        }
    }

    fn store(&self) -> Result<&Store, LibraryError> {
        match &self.source {
            Source::One(..) => Err(LibraryError::Unsupported),
            Source::Store(store) => Ok(store),
        }
    }

    /// The model of the store that may be changed under this id.
    fn entry(&self, id: &str) -> Result<(&Store, Entry), LibraryError> {
        let store = self.store()?;
        if let Some(preset) = store.preset(id) {
            return Err(LibraryError::Invalid(is_preset(preset)));
        }
        // The id is the name of the first of several.
        let entry = store.list().into_iter().find(|entry| entry.name == id);
        match entry {
            Some(entry) => Ok((store, entry)),
            None if id == DEMO => Err(LibraryError::Invalid("the model `demo` is built in".to_string())),
            None => Err(LibraryError::Unknown),
        }
    }
}

fn is_preset(preset: &Preset) -> String {
    format!("`{}` is a preset for `{}`; give the model's own name", preset.name, preset.file)
}

/// The model that is built in; `None` in builds without it.
fn demo() -> Option<Found> {
    let names = ModelNames { id: DEMO.to_string(), aliases: Vec::new() };
    cfg!(feature = "demo").then_some(Found { names, located: None })
}

fn listed_demo(names: ModelNames, started: SystemTime) -> Option<ListedModel> {
    #[cfg(feature = "demo")]
    {
        let details = Details::of(Model::demo().ok()?.gguf());
        let Details { architecture, format, parameters, n_ctx_train, bytes, .. } = details;
        Some(ListedModel { names, modified: started, bytes, parameters, architecture, format, n_ctx_train })
    }
    #[cfg(not(feature = "demo"))]
    {
        let _ = (names, started);
        None
    }
}

impl Library for ModelLibrary {
    fn list(&self) -> Vec<ListedModel> {
        self.found().into_iter().filter_map(|found| self.listed(found)).collect()
    }

    fn find(&self, name: &str) -> Result<String, LibraryError> {
        let found = self.found();
        let named = found.iter().find(|found| found.names.id == name);
        let named = named.or_else(|| found.iter().find(|found| found.names.has(name)));
        if let Some(found) = named {
            return Ok(found.names.id.clone());
        }
        let entry = match &self.source {
            Source::One(..) => None,
            Source::Store(store) => store.entry(name).map_err(of_hub)?,
        };
        match entry {
            Some(entry) => Ok(entry.name),
            None => demo().filter(|_| name == DEMO).map(|demo| demo.names.id).ok_or(LibraryError::Unknown),
        }
    }

    fn describe(&self, id: &str) -> Result<Description, LibraryError> {
        let Found { located, .. } = self.with_id(id)?;
        let path = located.as_ref().map(|located| located.path.clone());
        let given = ModelArg::found(located, self.is_strict);
        let described = || {
            let model = given.open()?;
            let sampling = self.sampling.choose(&model, &model.tokenizer()?, &given)?.params;
            Ok(Description { model, sampling })
        };
        described().map_err(|error: CliError| of_command(error, path.as_deref()))
    }

    fn load(&self, id: &str, on_step: OnStep) -> Result<Loaded, LibraryError> {
        let Found { names, located } = self.with_id(id)?;
        let path = located.as_ref().map(|located| located.path.clone());
        let given = ModelArg::found(located, self.is_strict);
        let loaded = self.load.load(&given, &self.sampling, names, on_step);
        loaded.map_err(|error| of_command(error, path.as_deref()))
    }

    fn pull(
        &self,
        name: &str,
        on_progress: &mut dyn FnMut(PullProgress) -> ControlFlow<()>,
    ) -> Result<(), LibraryError> {
        let store = self.store()?;
        let reference: Reference = name.parse().map_err(of_hub)?;
        let options = HubOptions::from_env(store.places().hub.clone());
        let pulled = pull(&reference, &options, &mut |event| match event {
            Event::Bytes { done, total } => on_progress(PullProgress { done, total }),
            _ => on_progress(PullProgress { done: 0, total: 0 }),
        });
        pulled.map(|pulled| tracing::info!("a client downloaded {}", pulled.name)).map_err(of_hub)
    }

    fn delete(&self, id: &str) -> Result<(), LibraryError> {
        let (store, entry) = self.entry(id)?;
        remove(store, &entry).map_err(of_hub)?;
        tracing::info!("a client deleted {}", entry.name);
        Ok(())
    }

    fn copy(&self, id: &str, name: &str) -> Result<(), LibraryError> {
        let (store, entry) = self.entry(id)?;
        copy(store, &entry, name).map_err(of_hub)
    }
}

/// A hub's error without the folders of this machine, which are no client's business.
fn of_hub(error: HubError) -> LibraryError {
    match &error {
        HubError::Several { name, candidates } => {
            // Each has a name and, after two blanks, a path.
            let names = candidates.iter().map(|line| line.split("  ").next().unwrap_or_default());
            let names = names.collect::<Vec<_>>().join(", ");
            LibraryError::Invalid(format!("`{name}` fits several models; give the full name of one: {names}"))
        }
        HubError::NotOurs { name, owner, .. } => {
            LibraryError::Invalid(format!("{name} is in {owner}, which this server only reads"))
        }
        HubError::Reference { .. } | HubError::Name { .. } | HubError::NoVariant { .. } => {
            LibraryError::Invalid(error.to_string())
        }
        HubError::Offline { what, .. } => {
            LibraryError::Failed(format!("{what} is not here, and downloads are turned off"))
        }
        HubError::File { .. } | HubError::Space { .. } | HubError::Preset { .. } => {
            tracing::error!("{error}");
            LibraryError::Failed("the models' files cannot be changed; the server's log says why".to_string())
        }
        _ => LibraryError::Failed(error.to_string()),
    }
}

/// The error of loading, without the folder of the file.
fn of_command(error: CliError, path: Option<&Path>) -> LibraryError {
    let mut message = error.to_string();
    if let Some(folder) = path.and_then(Path::parent) {
        message = message.replace(&format!("{}/", folder.display()), "");
    }
    match error {
        CliError::Model(error) if lacks_memory(&error) => LibraryError::Memory(message),
        _ => LibraryError::Failed(message),
    }
}

fn lacks_memory(error: &ModelError) -> bool {
    matches!(error, ModelError::Exec(error) if error.is_out_of_memory())
}
