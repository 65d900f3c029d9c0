//! Tokens that end an answer, and tokens whose kind in the file contradicts their name.
//!
//! A file names some of these tokens by id, but rarely all: a model may end a message with a token that no key
//! mentions. So names decide too, whatever kind the file gives the token.

use super::special::looks_like_marker;
use super::spelling::byte_token;
use super::{TokenKind, VocabData};

/// A name of tokens that end an answer.
#[derive(Clone, Copy, Debug)]
pub struct EndName {
    /// The token's text.
    pub name: &'static str,
    /// Models that use it.
    pub models: &'static str,
    /// The list that it is from.
    pub source: &'static str,
}

const LLAMA_CPP: &str = "llama.cpp";
const TEMPLATE: &str = "the models' chat templates";

const fn end(name: &'static str, models: &'static str, source: &'static str) -> EndName {
    EndName { name, models, source }
}

/// All names of tokens that end an answer.
pub const END_NAMES: &[EndName] = &[
    end("<|eot_id|>", "Llama 3", LLAMA_CPP),
    end("<|eom_id|>", "Llama 3 (before a tool's result)", LLAMA_CPP),
    end("<|eot|>", "Llama 4", TEMPLATE),
    end("<|im_end|>", "ChatML: Qwen and others", LLAMA_CPP),
    end("<|end|>", "Phi 3; not where it only closes a message", LLAMA_CPP),
    end("<|return|>", "gpt-oss", LLAMA_CPP),
    end("<|call|>", "gpt-oss", LLAMA_CPP),
    end("<|calls|>", "Solar Open", LLAMA_CPP),
    end("<|flush|>", "Solar Open", LLAMA_CPP),
    end("<end_of_turn>", "Gemma 1 to 3", LLAMA_CPP),
    end("<turn|>", "Gemma 4", LLAMA_CPP),
    end("<|tool_response>", "Gemma 4", LLAMA_CPP),
    end("<eos>", "Gemma", LLAMA_CPP),
    end("</s>", "SentencePiece vocabularies; not where it is a tag of HTML", LLAMA_CPP),
    end("<|endoftext|>", "GPT-2, Phi, Qwen", LLAMA_CPP),
    end("<|end_of_text|>", "Llama 3, Granite", LLAMA_CPP),
    end("<|end_of_turn|>", "OpenChat", TEMPLATE),
    end("<|END_OF_TURN_TOKEN|>", "Command R", TEMPLATE),
    end("<|assistant_end|>", "Apertus", TEMPLATE),
    end("[|endofturn|]", "EXAONE", TEMPLATE),
    end("<end_of_utterance>", "SmolVLM, Granite Docling", LLAMA_CPP),
    end("<｜end▁of▁sentence｜>", "DeepSeek", TEMPLATE),
    end("<|EOT|>", "DeepSeek Coder", TEMPLATE),
    end("<EOT>", "Code Llama", LLAMA_CPP),
    end("_<EOT>", "Code Llama", LLAMA_CPP),
    end("[EOT]", "Kimi K2", LLAMA_CPP),
    end("[EOS]", "Kimi K2", LLAMA_CPP),
    end("[e~[", "MiniMax M2", LLAMA_CPP),
    end("<|fim_pad|>", "Qwen (fill in the middle)", LLAMA_CPP),
    end("<fim-pad>", "StarCoder (fill in the middle)", LLAMA_CPP),
    end("<fim_pad>", "Granite (fill in the middle)", LLAMA_CPP),
    end("<PAD>", "fill in the middle", LLAMA_CPP),
    end("[PAD]", "Kimi K2", LLAMA_CPP),
    end("<|fim_repo|>", "fill in the middle", LLAMA_CPP),
    end("<|repo_name|>", "Qwen (fill in the middle)", LLAMA_CPP),
    end("<fim-repo>", "StarCoder (fill in the middle)", LLAMA_CPP),
    end("<REPO>", "fill in the middle", LLAMA_CPP),
    end("<reponame>", "Granite (fill in the middle)", LLAMA_CPP),
    end("<|file_sep|>", "Qwen (fill in the middle)", LLAMA_CPP),
];

/// Pairs of tokens that end the answers of models in which `<|end|>` closes a message inside of an answer: gpt-oss,
/// Solar Open.
const SEVERAL_MESSAGES: [[&str; 2]; 2] = [["<|return|>", "<|call|>"], ["<|calls|>", "<|flush|>"]];

/// Tokens that show that `</s>` is a tag of HTML: Gemma's vocabularies have one for every tag.
const HTML: [&str; 2] = ["<|tool_response>", "</table>"];

fn is_end_name(text: &str) -> bool {
    END_NAMES.iter().any(|end| end.name == text)
}

/// The tokens that end an answer: those that the file names by id, and those with one of the [`END_NAMES`].
pub(super) fn end_of_generation(data: &VocabData) -> Vec<u32> {
    let mut ids: Vec<u32> = data.eos.into_iter().chain(data.eot).chain(data.ends.iter().copied()).collect();
    let has = |name: &str| data.tokens.iter().any(|text| text == name);
    // Looked up only in vocabularies with a token that depends on them.
    let closes_message = || SEVERAL_MESSAGES.iter().any(|pair| pair.iter().all(|name| has(name)));
    let is_html = || HTML.iter().any(|name| has(name));
    let ends = |text: &str| match text {
        "<|end|>" => !closes_message(),
        "</s>" => !is_html(),
        _ => is_end_name(text),
    };
    let named = data.tokens.iter().zip(0..).filter(|(text, _)| ends(text));
    ids.extend(named.map(|(_, id)| id));
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Most tokens that a warning names.
const MOST_NAMED: usize = 16;

/// Corrects kinds that contradict the tokens: a token that ends an answer, or that the file names by id, and that looks
/// like a marker or has one of the [`END_NAMES`], is structure; `<0x0A>` is a byte in a vocabulary that has bytes. Says so.
pub(super) fn correct_kinds(data: &VocabData, ends: &[u32], has_bytes: bool, kinds: &mut [TokenKind]) {
    // Many files of Qwen and others make them user-defined, which changes little.
    let (mut changed, mut user_defined) = (Vec::new(), Vec::new());
    let named = data.named_ids().into_iter().filter_map(|(_, id)| id);
    for id in named.chain(ends.iter().copied()) {
        let (Some(text), Some(kind)) = (data.tokens.get(id as usize), kinds.get_mut(id as usize)) else {
            continue;
        };
        if !kind.is_structure() && (looks_like_marker(text) || is_end_name(text)) {
            let list = if *kind == TokenKind::UserDefined { &mut user_defined } else { &mut changed };
            list.push(text.as_str());
            *kind = TokenKind::Control;
        }
    }
    let first = |texts: &[&str]| texts[..texts.len().min(MOST_NAMED)].join(", ");
    if !changed.is_empty() {
        let list = first(&changed);
        tracing::warn!("tokenizer.ggml.token_type does not say so, but these are control tokens: {list}");
    }
    if !user_defined.is_empty() {
        let list = first(&user_defined);
        tracing::debug!(
            "tokenizer.ggml.token_type makes tokens user-defined that are control tokens: {list}"
        );
    }
    if has_bytes {
        let mut have = [false; 256];
        let bytes = |id: usize| data.tokens.get(id).and_then(|text| byte_token(text)).map(usize::from);
        (0..kinds.len())
            .filter(|&id| kinds[id] == TokenKind::Byte)
            .filter_map(bytes)
            .for_each(|b| have[b] = true);
        let missing: Vec<usize> = (0..kinds.len())
            .filter(|&id| kinds[id] == TokenKind::Normal && bytes(id).is_some_and(|byte| !have[byte]))
            .collect();
        missing.iter().for_each(|&id| kinds[id] = TokenKind::Byte);
        if !missing.is_empty() {
            let n = missing.len();
            tracing::warn!(
                "tokenizer.ggml.token_type calls {n} tokens normal that are bytes, such as <0x0A>"
            );
        }
    }
}
