//! The fixtures of the architectures: one tiny model each, with another implementation's logits for the same weights.

use std::path::PathBuf;

use rfgraph::gguf::Gguf;
use rfgraph::graphs::TABLE;
use rfgraph::model::{Model, Session, SessionOptions};

use super::inside::inside;
use super::reference::{Distance, distance, ids, npy};

/// The folder of one fixture.
pub struct Fixture {
    pub name: String,
    folder: PathBuf,
}

/// The fixtures of the architectures that rfgraph has, by name, and those of others, which wait for them.
pub fn all_fixtures() -> (Vec<Fixture>, Vec<Fixture>) {
    let entries = std::fs::read_dir(inside("arch")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("model.gguf").exists()).collect();
    folders.sort();
    let name = |folder: &PathBuf| folder.file_name().unwrap().to_string_lossy().into_owned();
    let all = folders.into_iter().map(|folder| Fixture { name: name(&folder), folder });
    all.partition(|fixture| TABLE.iter().any(|row| row.name == fixture.architecture()))
}

/// The fixtures of the architectures that rfgraph has, by name.
pub fn fixtures() -> Vec<Fixture> {
    all_fixtures().0
}

impl Fixture {
    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.join("model.gguf")
    }

    /// The architecture that the file names.
    pub fn architecture(&self) -> String {
        Gguf::open(&self.path())
            .unwrap()
            .metadata()
            .opt_str("general.architecture")
            .unwrap()
            .unwrap()
            .to_owned()
    }

    pub fn model(&self) -> Model {
        Model::open(self.path()).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// The distance of a session's logits from the reference. With a `ubatch` below the 48 tokens, later tokens attend
    /// to a cache that earlier ones filled.
    pub fn distance(&self, options: SessionOptions) -> Distance {
        let options = SessionOptions { n_ctx: 64, ..options };
        let found = logits_of(&self.model(), &ids(&self.folder.join("ids.txt")), &options);
        distance(&found, &npy(&self.folder.join("logits.npy")))
    }

    /// The model's weights are multiplied with activations of eight bits.
    pub fn is_quantized(&self) -> bool {
        // The experts are MXFP4.
        self.name == "gpt-oss"
    }
}

/// The logits of all tokens.
pub fn logits_of(model: &Model, tokens: &[u32], options: &SessionOptions) -> Vec<Vec<f32>> {
    let mut session = Session::new(model, options).unwrap();
    let id = session.open().unwrap();
    let mut all = Vec::new();
    session.all_logits(id, tokens, |row| all.push(row.to_vec())).unwrap();
    all
}
