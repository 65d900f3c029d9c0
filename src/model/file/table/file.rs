//! The keys that do not belong to an architecture.

use super::KeyRow;

const TOKENIZER: &str = "the tokenizer";
const TEMPLATE: &str = "the chat template";
const FILE: &str = "the reader of files";

/// The keys that do not belong to an architecture, by their full names.
pub const FILE_KEYS: &[KeyRow] = &[
    KeyRow::none("general.architecture", "the architecture").by("the table of architectures"),
    KeyRow::none("general.alignment", "alignment of tensor data in bytes").by(FILE).absent("32"),
    KeyRow::none(
        "general.type",
        "`model`; files of type `adapter`, `imatrix` or `mmproj` are not models and are refused",
    )
    .by(FILE)
    .absent("`model`"),
    KeyRow::none("general.quantization_version", "version of the block formats"),
    KeyRow::none("general.file_type", "number of the mix that most tensors have"),
    KeyRow::none("general.tensor_extra.*", "precision of activations that the writer suggests for tensors"),
    KeyRow::none("general.sampling.*", "settings of samplers that the model's authors suggest")
        .by("`rfgraph run`"),
    KeyRow::none(
        "general.name",
        "name of the model; tells ModernBERT and Phi 3 models, whose special tokens strip spaces",
    )
    .by(TOKENIZER),
    KeyRow::none("general.*", "name, authors, licence, links, tags and origin of the model"),
    KeyRow::none("split.*", "place in a split model").by(FILE).absent("the model is one file"),
    KeyRow::none("tokenizer.ggml.model", "family of the tokenizer").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.pre", "pre-tokenizer").by(TOKENIZER).absent("`default`"),
    KeyRow::none("tokenizer.ggml.tokens", "texts of the tokens").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.token_type", "kinds of the tokens").by(TOKENIZER).absent("all are normal"),
    KeyRow::none("tokenizer.ggml.token_type_count", "number of sentence types, of encoders"),
    KeyRow::none("tokenizer.ggml.scores", "scores of the tokens").by(TOKENIZER).absent("all are 0"),
    KeyRow::none("tokenizer.ggml.merges", "merges of byte-pair encoding").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.bos_token_id", "begins a text").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.eos_token_id", "ends a text").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.eot_token_id", "ends a message").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.eom_token_id", "ends a message that goes on").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.unknown_token_id", "stands for unknown text").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.seperator_token_id", "separates texts; the name is misspelt in the format")
        .by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.padding_token_id", "pads batches").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.cls_token_id", "begins a text of an encoder"),
    KeyRow::none("tokenizer.ggml.mask_token_id", "stands for a hidden token in training"),
    KeyRow::none("tokenizer.ggml.eos_token_ids", "each ends an answer").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.eot_token_ids", "each ends an answer").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.eom_token_ids", "each ends an answer").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.eog_token_ids", "each ends an answer").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.fim_pad_token_id", "ends an answer").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.fim_rep_token_id", "ends an answer").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.fim_sep_token_id", "ends an answer").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.fim_*", "tokens of fill-in-the-middle prompts"),
    KeyRow::none("tokenizer.ggml.prefix_token_id", "older name of a fill-in-the-middle token"),
    KeyRow::none("tokenizer.ggml.suffix_token_id", "older name of a fill-in-the-middle token"),
    KeyRow::none("tokenizer.ggml.middle_token_id", "older name of a fill-in-the-middle token"),
    KeyRow::none("tokenizer.ggml.add_bos_token", "prompts begin with BOS").by(TOKENIZER).absent("by family"),
    KeyRow::none("tokenizer.ggml.add_eos_token", "prompts end with EOS").by(TOKENIZER).absent("no"),
    KeyRow::none("tokenizer.ggml.add_sep_token", "texts end with the separator")
        .by(TOKENIZER)
        .absent("by family"),
    KeyRow::none("tokenizer.ggml.add_space_prefix", "a space before the text")
        .by(TOKENIZER)
        .absent("by family"),
    KeyRow::none("tokenizer.ggml.remove_extra_whitespaces", "runs of spaces count as one")
        .by(TOKENIZER)
        .absent("by family"),
    KeyRow::none("tokenizer.ggml.precompiled_charsmap", "normalization of characters").by(TOKENIZER),
    KeyRow::none("tokenizer.ggml.normalizer.*", "lower case and accents").by(TOKENIZER),
    KeyRow::changes("tokenizer.ggml.suppress_tokens", &[], "tokens that an answer may not have"),
    KeyRow::none(
        "tokenizer.huggingface.json",
        "the tokenizer in another format; `tokenizer.ggml.*` has it too",
    ),
    KeyRow::none("tokenizer.rwkv.world", "the vocabulary of RWKV models in another format"),
    KeyRow::none("tokenizer.chat_template", "the chat template").by(TEMPLATE),
    KeyRow::none("tokenizer.chat_template.*", "further chat templates by name"),
    KeyRow::none("tokenizer.chat_templates", "names of the further chat templates"),
    KeyRow::none("quantize.imatrix.*", "origin of the importance matrix that the quantizer used"),
    KeyRow::changes(
        "diffusion.*",
        &[],
        "a diffusion model, which does not write an answer from left to right",
    ),
    KeyRow::changes("xielu.*", &[], "parameters of the activation xIELU"),
];
