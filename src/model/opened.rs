//! A model: a file with its architecture, tokenizer and chat template.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::{Architecture, Architectures, KeyReport, Keys, ModelError};
#[cfg(feature = "demo")]
use crate::gguf::Aligned;
use crate::gguf::Gguf;
use crate::text::{ChatTemplate, Tokenizer, VocabData};

/// An opened model file with its hyper-parameters. Cheap to clone; sessions keep the file alive.
#[derive(Clone, Debug)]
pub struct Model {
    gguf: Arc<Gguf>,
    name: String,
    architecture: Arc<dyn Architecture>,
    keys: Arc<KeyReport>,
    tokenizer: Arc<OnceLock<Tokenizer>>,
}

impl Model {
    /// Opens a GGUF file and reads its hyper-parameters. Weights are not read.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, ModelError> {
        Model::from_gguf(Gguf::open(path.as_ref())?)
    }

    /// The demo model that is built into the library: five million weights, trained on sums, words and little stories.
    #[cfg(feature = "demo")]
    pub fn demo() -> Result<Model, ModelError> {
        static DEMO: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/demo-Q8_0.gguf"));
        Model::from_gguf(Gguf::from_bytes(&DEMO.0)?)
    }

    /// A model of an open file.
    ///
    /// # Errors
    /// See [`Model::open`].
    pub fn from_gguf(gguf: Gguf) -> Result<Model, ModelError> {
        Model::from_gguf_with(gguf, &Architectures::built_in())
    }

    /// A model of an open file, whose architecture is looked up in `architectures`.
    ///
    /// # Errors
    /// See [`Model::open`].
    pub fn from_gguf_with(gguf: Gguf, architectures: &Architectures) -> Result<Model, ModelError> {
        let name = gguf.metadata().str("general.architecture")?.to_string();
        refuse_other_types(&gguf, &name)?;
        let row = architectures.find(&name)?;
        let keys = Keys::new(&gguf, &name);
        let architecture = (row.read)(&keys)?;
        let keys = keys.finish()?;
        keys.log(&gguf, &name);
        Ok(Model {
            gguf: Arc::new(gguf),
            name,
            architecture: Arc::from(architecture),
            keys: Arc::new(keys),
            tokenizer: Arc::default(),
        })
    }

    /// The file.
    pub fn gguf(&self) -> &Arc<Gguf> {
        &self.gguf
    }

    /// The architecture's name.
    pub fn architecture_name(&self) -> &str {
        &self.name
    }

    /// The architecture with its hyper-parameters.
    pub fn architecture(&self) -> &dyn Architecture {
        &*self.architecture
    }

    /// The report on the file's keys: read, assumed, ignored, unknown.
    pub fn keys(&self) -> &KeyReport {
        &self.keys
    }

    /// Refuses a file with keys of its architecture that rfgraph does not know. They may change the model's computation.
    ///
    /// # Errors
    /// [`ModelError::UnknownKeys`] names them.
    pub fn refuse_unknown_keys(&self) -> Result<(), ModelError> {
        match self.keys.unknown.is_empty() {
            true => Ok(()),
            false => Err(ModelError::UnknownKeys {
                architecture: self.name.clone(),
                names: self.keys.unknown.clone(),
            }),
        }
    }

    /// The file's tokenizer, which the first call makes.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer.clone());
        }
        let tokenizer = Tokenizer::new(VocabData::from_metadata(self.gguf.metadata())?)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer).clone())
    }

    /// The file's chat template.
    pub fn chat_template(&self, tokenizer: &Tokenizer) -> Result<ChatTemplate, ModelError> {
        Ok(ChatTemplate::of(tokenizer)?)
    }
}

/// Refuses files that hold a part of a model, or changes to one.
fn refuse_other_types(gguf: &Gguf, architecture: &str) -> Result<(), ModelError> {
    let key = "general.type";
    let kind = match gguf.metadata().opt_str(key)? {
        Some(kind) => kind,
        None if architecture == "clip" => "mmproj",
        None => return Ok(()),
    };
    let reason = match kind {
        "adapter" => {
            "an adapter (LoRA) changes a model and is none; give the model, or a file into which it is merged"
        }
        "imatrix" => "an importance matrix helps to quantize a model and is none; give the model",
        "mmproj" => "this is the part of a model that sees or hears; give the file of its text model",
        _ => return Ok(()),
    };
    Err(ModelError::Value { key: key.into(), value: format!("`{kind}`"), reason: reason.into() })
}
