//! Prompts that fill in the middle of a text.

use super::error::{ApiError, Kind};
use super::models::Loaded;
use crate::model::Model;
use crate::text::{EncodeOptions, Tokenizer};

/// A token of such prompts: the keys that name it in a file, and its names in vocabularies whose files do not.
struct Row {
    keys: &'static [&'static str],
    names: &'static [&'static str],
}

// Names: the vocabularies of Qwen 2.5 Coder, StarCoder, Granite Code, Refact, DeepSeek Coder, Code Llama and GLM 4.
const BEFORE: Row = Row {
    keys: &["tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"],
    names: &[
        "<|fim_prefix|>",
        "<fim_prefix>",
        "<fim-prefix>",
        "<｜fim▁begin｜>",
        "▁<PRE>",
        "<PRE>",
        "<|code_prefix|>",
    ],
};
const AFTER: Row = Row {
    keys: &["tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"],
    names: &[
        "<|fim_suffix|>",
        "<fim_suffix>",
        "<fim-suffix>",
        "<｜fim▁hole｜>",
        "▁<SUF>",
        "<SUF>",
        "<|code_suffix|>",
    ],
};
const MIDDLE: Row = Row {
    keys: &["tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"],
    names: &[
        "<|fim_middle|>",
        "<fim_middle>",
        "<fim-middle>",
        "<｜fim▁end｜>",
        "▁<MID>",
        "<MID>",
        "<|code_middle|>",
    ],
};
const REPOSITORY: Row = Row {
    keys: &["tokenizer.ggml.fim_rep_token_id"],
    names: &["<|repo_name|>", "<|fim_repo|>", "<fim-repo>", "<reponame>", "<REPO>"],
};
const FILE: Row = Row { keys: &["tokenizer.ggml.fim_sep_token_id"], names: &["<|file_sep|>", "<file_sep>"] };

impl Row {
    /// The token's id in a model.
    fn id(&self, model: &Model, tokenizer: &Tokenizer) -> Option<u32> {
        let metadata = model.gguf().metadata();
        let named = self.keys.iter().find_map(|key| metadata.opt_u32(key).ok().flatten());
        let named = named.filter(|&id| (id as usize) < tokenizer.n_vocab());
        named.or_else(|| self.names.iter().find_map(|name| tokenizer.special_id(name)))
    }
}

/// A file beside the text to fill.
pub(super) struct Beside {
    pub name: String,
    pub text: String,
}

/// The tokens of a model's prompts that fill in the middle.
#[derive(Clone, Copy, Debug)]
pub(super) struct FillTokens {
    before: u32,
    after: u32,
    middle: u32,
    /// Begins the name of the repository.
    repository: Option<u32>,
    /// Begins a file.
    file: Option<u32>,
}

impl FillTokens {
    /// The tokens of a model; `None` if its vocabulary lacks one of the three that are needed.
    pub fn of(model: &Model, tokenizer: &Tokenizer) -> Option<FillTokens> {
        Some(FillTokens {
            before: BEFORE.id(model, tokenizer)?,
            after: AFTER.id(model, tokenizer)?,
            middle: MIDDLE.id(model, tokenizer)?,
            repository: REPOSITORY.id(model, tokenizer),
            file: FILE.id(model, tokenizer),
        })
    }

    /// The tokens of a model, or an error that says what is missing.
    pub fn needed(loaded: &Loaded) -> Result<FillTokens, ApiError> {
        FillTokens::of(loaded.model(), loaded.tokenizer()).ok_or_else(|| {
            let id = &loaded.names.id;
            ApiError::new(
                Kind::NotSupported,
                format!("`{id}` has no tokens for filling in the middle (prefix, suffix, middle)"),
            )
        })
    }

    /// The prompt for the text between `before` and `after`, which begins with `begun`. Files beside it come first, in the
    /// form of a repository if the vocabulary has one. Special tokens in the texts are text.
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        before: &str,
        after: &str,
        beside: &[Beside],
        begun: &str,
    ) -> Vec<u32> {
        let plain = EncodeOptions { add_special: false, parse_special: false };
        let mut tokens = Vec::new();
        let mut add = |token: Option<u32>, text: &str| {
            tokens.extend(token);
            tokens.extend(tokenizer.encode(text, plain));
        };
        add(tokenizer.bos().filter(|_| tokenizer.adds_bos()), "");
        match (self.repository, self.file) {
            (Some(repository), Some(file)) if !beside.is_empty() => {
                // The names that llama-server gives to what a request does not name.
                add(Some(repository), "myproject\n");
                for Beside { name, text } in beside {
                    add(Some(file), &format!("{name}\n{text}\n"));
                }
                add(Some(file), "filename\n");
            }
            _ => beside.iter().for_each(|Beside { text, .. }| add(None, text)),
        }
        add(Some(self.before), before);
        add(Some(self.after), after);
        add(Some(self.middle), begun);
        tokens
    }
}
