//! A model: a file, its architecture and its text.

use std::path::Path;
use std::sync::Arc;

use super::batch::{bucket, whole_graph};
use super::{Architecture, CacheLayout, CacheTypes, Keys, ModelError};
#[cfg(feature = "demo")]
use crate::gguf::Aligned;
use crate::gguf::Gguf;
use crate::graph::GraphDef;
use crate::text::{ChatTemplate, Needs, Tokenizer, VocabData};

/// A model file that was read and understood. Cheap to share: sessions keep the file alive.
#[derive(Clone, Debug)]
pub struct Model {
    gguf: Arc<Gguf>,
    name: String,
    architecture: Arc<dyn Architecture>,
}

impl Model {
    /// Opens a GGUF file and reads its hyper-parameters. No weight is touched.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, ModelError> {
        Model::from_gguf(Gguf::open(path.as_ref())?)
    }

    /// The demo model that is built into the library: five million weights that know sums, words and
    /// little stories.
    #[cfg(feature = "demo")]
    pub fn demo() -> Result<Model, ModelError> {
        static DEMO: &Aligned<[u8]> = &Aligned(*include_bytes!("../../models/demo-Q8_0.gguf"));
        Model::from_gguf(Gguf::from_bytes(&DEMO.0)?)
    }

    /// A model of an open file.
    pub fn from_gguf(gguf: Gguf) -> Result<Model, ModelError> {
        let name = gguf.metadata().str("general.architecture")?.to_string();
        let row = crate::graphs::TABLE.iter().find(|row| row.name == name);
        let known = || crate::graphs::TABLE.iter().map(|row| row.name).collect();
        let row = row.ok_or_else(|| ModelError::Architecture { name: name.clone(), known: known() })?;
        let keys = Keys::new(&gguf, &name);
        let architecture = (row.read)(&keys)?;
        keys.refuse_unread()?;
        Ok(Model { gguf: Arc::new(gguf), name, architecture: Arc::from(architecture) })
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

    /// The file's tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        Ok(Tokenizer::new(VocabData::from_metadata(self.gguf.metadata())?)?)
    }

    /// The file's chat template.
    pub fn chat_template(&self, tokenizer: &Tokenizer) -> Result<ChatTemplate, ModelError> {
        Ok(ChatTemplate::of(tokenizer)?)
    }

    /// The graph of a batch of `n_tokens` of which the logits of `n_outputs` are wanted.
    pub fn graph(
        &self,
        n_tokens: usize,
        n_outputs: usize,
        cache: CacheLayout,
        cache_types: CacheTypes,
    ) -> Result<GraphDef, ModelError> {
        whole_graph(self, n_tokens, n_outputs, cache, cache_types, Needs::Logits)
    }

    /// The graphs of every batch that a session of one sequence makes plans for: prompts of up to `ubatch` tokens, and
    /// one token of which this is wanted.
    pub fn graphs_of_session(
        &self,
        ubatch: usize,
        cache: CacheLayout,
        cache_types: CacheTypes,
        wants: &[Needs],
    ) -> Result<Vec<GraphDef>, ModelError> {
        let mut sizes: Vec<usize> = (1..=ubatch).map(bucket).collect();
        sizes.dedup();
        let prompts = sizes.into_iter().map(|n| (n, Needs::Logits));
        let decoding = wants.iter().map(|&want| (1, want));
        let graph = |(n, want)| whole_graph(self, n, 1, cache, cache_types, want);
        prompts.chain(decoding).map(graph).collect()
    }
}
