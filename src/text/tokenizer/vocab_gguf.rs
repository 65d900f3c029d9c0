//! The vocabulary in a GGUF file's metadata.

use crate::gguf::{Metadata, Value, ValueType};

use super::vocab_data::warn_out_of_range;
use super::{TokenKind, TokenizerError, VocabData};

impl VocabData {
    /// Reads the `tokenizer.*` keys. [`Tokenizer::new`] checks that the required ones are present and consistent.
    ///
    /// Special tokens that the file does not name get the usual ids of the algorithm, such as 2 for `</s>`. The special
    /// tokens that strip white space follow from the model's name, as no key lists them.
    ///
    /// # Errors
    /// [`TokenizerError::Metadata`] names a key whose value has the wrong type.
    ///
    /// [`Tokenizer::new`]: super::Tokenizer::new
    pub fn from_metadata(metadata: &Metadata) -> Result<VocabData, TokenizerError> {
        let owned = |key| metadata.opt_str(key).map(|text| text.map(str::to_owned));
        let list = |key| {
            let strings = metadata.opt_strings(key)?;
            Ok::<_, TokenizerError>(
                strings.map(|s| s.iter().map(str::to_owned).collect()).unwrap_or_default(),
            )
        };
        let kinds = metadata.opt_i32s("tokenizer.ggml.token_type")?.map(|numbers| kinds_of(&numbers));
        let model = owned("tokenizer.ggml.model")?.unwrap_or_default();
        let tokens: Vec<String> = list("tokenizer.ggml.tokens")?;
        let default = defaults(&model);
        let ids = |key| ids_of(metadata, key, tokens.len());
        let id = |key, default: Option<u32>| {
            let default = default.filter(|&id| (id as usize) < tokens.len());
            ids(key).first().copied().or(default)
        };
        let (eos, eot) = (ids("tokenizer.ggml.eos_token_id"), ids("tokenizer.ggml.eot_token_id"));
        let default_eos = default.eos.filter(|&id| (id as usize) < tokens.len());
        let mut ends = Vec::new();
        for key in END_KEYS {
            ends.extend(ids(key));
        }
        ends.extend(eos.iter().chain(&eot));
        // One that is not a text fails where a chat needs it: a plain prompt does not.
        let (chat_template, chat_template_problem) = match owned("tokenizer.chat_template") {
            Ok(template) => (template, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let charsmap = metadata.opt_i32s("tokenizer.ggml.precompiled_charsmap")?;
        let mut data = VocabData {
            bos: id("tokenizer.ggml.bos_token_id", default.bos),
            eos: eos.first().copied().or(default_eos),
            unk: id("tokenizer.ggml.unknown_token_id", default.unk),
            pad: id("tokenizer.ggml.padding_token_id", default.pad),
            sep: id("tokenizer.ggml.seperator_token_id", default.sep),
            model,
            pre: owned("tokenizer.ggml.pre")?,
            scores: metadata.opt_f32s("tokenizer.ggml.scores")?.map(|scores| scores.into_owned()),
            kinds,
            merges: list("tokenizer.ggml.merges")?,
            eot: eot.first().copied(),
            ends,
            add_bos: metadata.opt_bool("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.opt_bool("tokenizer.ggml.add_eos_token")?,
            add_sep: metadata.opt_bool("tokenizer.ggml.add_sep_token")?,
            add_space_prefix: metadata.opt_bool("tokenizer.ggml.add_space_prefix")?,
            remove_extra_spaces: metadata.opt_bool("tokenizer.ggml.remove_extra_whitespaces")?,
            // Some files use signed bytes: the low eight bits are the byte.
            precompiled_charsmap: charsmap.iter().flat_map(|bytes| bytes.iter()).map(|&b| b as u8).collect(),
            lowercase: metadata.opt_bool("tokenizer.ggml.normalizer.lowercase")?,
            strip_accents: metadata.opt_bool("tokenizer.ggml.normalizer.strip_accents")?,
            chat_template,
            chat_template_problem,
            tokens,
            ..VocabData::default()
        };
        // A key that names no token: none is added.
        if data.bos.is_none() && metadata.get("tokenizer.ggml.bos_token_id").is_some() {
            data.add_bos = Some(false);
        }
        if data.eos.is_none() && metadata.get("tokenizer.ggml.eos_token_id").is_some() {
            data.add_eos = Some(false);
        }
        // A name that is not UTF-8 is none of those that matter.
        let name = metadata.opt_str("general.name").ok().flatten().unwrap_or_default();
        let architecture = metadata.opt_str("general.architecture")?.unwrap_or_default();
        data.strip_by_name(name, architecture);
        Ok(data)
    }

    /// Sets the tokens that strip white space, which the models' original tokenizers define and GGUF does not.
    fn strip_by_name(&mut self, name: &str, architecture: &str) {
        let pre = self.pre.as_deref().unwrap_or_default();
        let name = name.to_lowercase();
        let named =
            |wanted: &str| self.tokens.iter().zip(0..).find(|(text, _)| *text == wanted).map(|(_, id)| id);
        if ["jina-v2-de", "jina-v2-es", "jina-v2-code"].contains(&pre)
            || ["nomic-bert-moe", "jina-bert-v3"].contains(&architecture)
        {
            self.strip_before.extend(named("<mask>"));
        } else if name.contains("modern-bert") {
            self.strip_before.extend(named("[MASK]"));
        } else if name.contains("phi-3") || name.contains("phi3") {
            let kinds = self.kinds.iter().flatten();
            let special = kinds.zip(&self.tokens).zip(0..).filter(|((kind, text), _)| {
                let special =
                    matches!(kind, TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined);
                (special || *text == "</s>") && !["<unk>", "<s>", "<|endoftext|>"].contains(&text.as_str())
            });
            self.strip_after.extend(special.map(|(_, id)| id));
        }
    }
}

/// Keys of tokens that end an answer, besides EOS and EOT.
const END_KEYS: [&str; 8] = [
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.eos_token_ids",
    "tokenizer.ggml.eot_token_ids",
    "tokenizer.ggml.eom_token_ids",
    "tokenizer.ggml.eog_token_ids",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// The ids of a key: one, or a list. An id that is not a token's is dropped with a warning.
fn ids_of(metadata: &Metadata, key: &str, n_vocab: usize) -> Vec<u32> {
    let numbers: Vec<i128> = match metadata.get(key) {
        None => return Vec::new(),
        Some(Value::Array(list)) if list.element_type() != ValueType::String => {
            (0..list.len()).filter_map(|index| list.get(index)?.integer()).collect()
        }
        Some(value) => match value.integer() {
            Some(number) => vec![number],
            None => {
                tracing::warn!("{key} is not a token's number: it is ignored");
                return Vec::new();
            }
        },
    };
    let is_token = |&number: &i128| (0..n_vocab as i128).contains(&number);
    if let Some(&number) = numbers.iter().find(|number| !is_token(number)) {
        warn_out_of_range(key, number, n_vocab);
    }
    numbers.into_iter().filter(is_token).filter_map(|number| u32::try_from(number).ok()).collect()
}

/// The kinds with these numbers. A number that no kind has, such as 0 ("undefined"), is that of an ordinary token.
fn kinds_of(numbers: &[i32]) -> Vec<TokenKind> {
    let known = |&number: &i32| TokenKind::from_number(number.into());
    if let Some((index, number)) = numbers.iter().enumerate().find(|(_, number)| known(number).is_none()) {
        let n = numbers.iter().filter(|number| known(number).is_none()).count();
        tracing::warn!(
            "tokenizer.ggml.token_type[{index}] is {number}, and kinds go from 1 to 6; {n} such tokens are taken for \
             ordinary ones"
        );
    }
    numbers.iter().map(|number| known(number).unwrap_or(TokenKind::Normal)).collect()
}

/// The ids of an algorithm's special tokens when a file does not name them.
#[derive(Default)]
struct Defaults {
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    sep: Option<u32>,
}

fn defaults(model: &str) -> Defaults {
    match model {
        "llama" => Defaults { bos: Some(1), eos: Some(2), unk: Some(0), ..Defaults::default() },
        "bert" => Defaults { bos: Some(101), sep: Some(102), unk: Some(100), pad: Some(0), eos: None },
        "t5" => Defaults { eos: Some(1), unk: Some(2), pad: Some(0), ..Defaults::default() },
        _ => Defaults::default(),
    }
}
