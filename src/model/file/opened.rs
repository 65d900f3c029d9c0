//! A model: a file with its architecture, tokenizer and chat template.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::{Architecture, Architectures, Keys};
#[cfg(feature = "demo")]
use crate::gguf::Aligned;
use crate::gguf::Gguf;
use crate::model::ModelError;
use crate::text::{ChatTemplate, Tokenizer, VocabData};

/// An opened model file with its hyper-parameters. Cheap to clone; sessions keep the file alive.
#[derive(Clone, Debug)]
pub struct Model {
    gguf: Arc<Gguf>,
    name: String,
    architecture: Arc<dyn Architecture>,
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
        static DEMO: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../models/demo-Q8_0.gguf"));
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
        let row = architectures.find(&name)?;
        let keys = Keys::new(&gguf, &name);
        let architecture = (row.read)(&keys)?;
        keys.refuse_unread()?;
        Ok(Model {
            gguf: Arc::new(gguf),
            name,
            architecture: Arc::from(architecture),
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
