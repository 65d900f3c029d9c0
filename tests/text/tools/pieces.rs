//! Calls piece by piece: what the pieces say is what is read at the end, and none is taken back.

use std::collections::BTreeMap;

use rfgraph::sampling::Rng;
use rfgraph::text::{AnswerParser, CallPiece, Delta, Part, StreamDecoder, ToolCall, ToolChoice};
use serde_json::Value;

use super::{CASES, Case, PARSED, flat_tools, nested_tools, parts, push, walk};

/// Templates whose calls come whole: their arguments are not JSON, or the call's id stands after them.
const WHOLE: [&str; 25] = [
    "ByteDance-Seed-OSS",
    "GLM-4.6",
    "GLM-4.7-Flash",
    "Kimi-K3",
    "LFM2.5-8B-A1B",
    "MiniMax-M2",
    "MiniMax-M3",
    "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "Qwen3-Coder",
    "Qwen3.5-4B",
    "Spark2.5",
    "StepFun3.5-Flash",
    "deepseek-ai-DeepSeek-V3.2",
    "deepseek-ai-DeepSeek-V4",
    "deepseek-ai-DeepSeek-V4-Flash-0731",
    "google-gemma-4-31B-it",
    "google-gemma-4-31B-it-interleaved",
    "inclusionai-ling-3.0-flash",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "muse-glimmer",
    "openbmb-MiniCPM5-1B",
    "poolside-Laguna-S-2.1",
    "poolside-Laguna-XS-2.1",
    "poolside-Laguna-XS.2",
    "tencent-Hy3",
];

/// The calls that pieces make up.
fn calls(pieces: &[CallPiece]) -> Vec<ToolCall> {
    let mut texts: Vec<(Option<String>, String, String)> = Vec::new();
    for piece in pieces {
        match piece {
            CallPiece::Begin { id, name } => texts.push((id.clone(), name.clone(), String::new())),
            CallPiece::Arguments(text) => texts.last_mut().unwrap().2.push_str(text),
            other => panic!("{other:?}"),
        }
    }
    let call = |(id, name, text): (_, _, String)| {
        let arguments = serde_json::from_str(&text).unwrap_or(Value::String(text));
        ToolCall { id, name, arguments }
    };
    texts.into_iter().map(call).collect()
}

fn without_id(call: &ToolCall) -> (&str, &Value) {
    (&call.name, &call.arguments)
}

/// The text of an answer's deltas.
#[derive(Default)]
struct Given {
    pieces: Vec<CallPiece>,
    parts: Vec<Part>,
    /// A piece of arguments came before its call.
    early: bool,
}

impl Given {
    fn take(&mut self, parser: &mut AnswerParser) {
        for delta in parser.take() {
            let Delta { pieces, calls, .. } = &delta;
            self.early |=
                calls.is_empty() && pieces.iter().any(|piece| matches!(piece, CallPiece::Arguments(_)));
            self.pieces.extend(pieces.iter().cloned());
            Part::collect(&mut self.parts, &delta);
        }
    }

    fn calls(&self) -> Vec<ToolCall> {
        self.parts.iter().flat_map(|part| part.calls.clone()).collect()
    }
}

/// Parses the first tokens of an answer in pieces, with text cut anywhere.
fn in_pieces(case: &Case, tools: &[Value], tokens: &[u32], rng: &mut Rng) -> Given {
    let prompt = case.tokenizer.encode("<|start|>assistant", PARSED);
    let mut parser = case.format.answers(tools).unwrap().parser(&prompt).with_call_pieces();
    let mut decoder = StreamDecoder::new(&case.tokenizer, true);
    let mut given = Given::default();
    for &id in tokens {
        if case.tokenizer.kind(id).is_some_and(|kind| kind == rfgraph::text::TokenKind::Normal) {
            let text = decoder.push(id).to_owned();
            let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let cut = boundaries.get((rng.next_unit() * boundaries.len() as f64) as usize).copied();
            let (first, rest) = text.split_at(cut.unwrap_or(0));
            parser.push_text(first);
            given.take(&mut parser);
            parser.push_text(rest);
        } else {
            push(&mut parser, &mut decoder, &case.tokenizer, id);
        }
        given.take(&mut parser);
    }
    let rest = decoder.finish().to_owned();
    parser.push_text(&rest);
    parser.finish();
    given.take(&mut parser);
    given
}

/// Pieces of the same call joined.
fn joined(pieces: &[CallPiece]) -> Vec<(String, String)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    for piece in pieces {
        match piece {
            CallPiece::Begin { name, .. } => calls.push((name.clone(), String::new())),
            CallPiece::Arguments(text) => calls.last_mut().unwrap().1.push_str(text),
            other => panic!("{other:?}"),
        }
    }
    calls
}

#[test]
fn pieces_are_the_calls_that_are_read_whole() {
    let (mut n, mut whole) = (0, BTreeMap::new());
    for (i, case) in CASES.iter().enumerate() {
        let mut early = false;
        for (tools, choice) in [(flat_tools(), ToolChoice::Required), (nested_tools(), ToolChoice::Auto)] {
            let constraint = case.format.constraint(&case.factory, &tools, &choice, true).unwrap();
            for seed in 0..4 {
                let mut rng = Rng::new(seed << 32 | i as u64);
                let Some(tokens) = walk(&case.tokenizer, &mut constraint.clone(), &mut rng) else { continue };
                let at_once = parts(&case.format, &case.tokenizer, &tools, &tokens);
                let given = in_pieces(case, &tools, &tokens, &mut rng);
                let wanted: Vec<ToolCall> = at_once.iter().flat_map(|part| part.calls.clone()).collect();
                let text = case.tokenizer.decode(&tokens, true);
                let context = format!("{}: {text:?}: {:?}", case.name, given.pieces);
                let found = calls(&given.pieces);
                assert_eq!(found, given.calls(), "{context}");
                assert_eq!(
                    found.iter().map(without_id).collect::<Vec<_>>(),
                    wanted.iter().map(without_id).collect::<Vec<_>>(),
                    "{context}"
                );
                // A piece has an id where the whole text, with markers in an argument, may be read without one.
                for (found, wanted) in found.iter().zip(&wanted).filter(|(_, wanted)| wanted.id.is_some()) {
                    assert_eq!(found.id, wanted.id, "{context}");
                }
                let shown = |parts: &[Part]| {
                    parts
                        .iter()
                        .map(|part| (part.kind, part.text.clone(), part.raw.clone()))
                        .collect::<Vec<_>>()
                };
                assert_eq!(shown(&given.parts), shown(&at_once), "{context}");
                early |= given.early;
                n += wanted.len();
            }
        }
        let name = case.name.split(',').next().unwrap();
        *whole.entry(name).or_insert(true) &= !early;
    }
    let whole: Vec<&str> = whole.into_iter().filter(|(_, whole)| *whole).map(|(name, _)| name).collect();
    assert!(n > 500, "{n} calls");
    assert_eq!(whole, WHOLE);
}

/// An answer that is cut has the beginning of the pieces that the whole answer has, and its last call ends where it does.
#[test]
fn an_answer_that_is_cut_takes_nothing_back() {
    let (mut n_cut, tools) = (0, flat_tools());
    for (i, case) in CASES.iter().enumerate() {
        let constraint = case.format.constraint(&case.factory, &tools, &ToolChoice::Required, true).unwrap();
        let mut rng = Rng::new(i as u64);
        let Some(tokens) = walk(&case.tokenizer, &mut constraint.clone(), &mut rng) else { continue };
        let all = joined(&in_pieces(case, &tools, &tokens, &mut rng).pieces);
        for _ in 0..6 {
            let cut = (rng.next_unit() * tokens.len() as f64) as usize;
            let given = in_pieces(case, &tools, &tokens[..cut], &mut rng);
            let some = joined(&given.pieces);
            let text = case.tokenizer.decode(&tokens[..cut], true);
            let context = format!("{}: {text:?}: {:?}", case.name, given.pieces);
            assert_eq!(calls(&given.pieces), given.calls(), "{context}");
            let raw: String = given.parts.iter().map(|part| part.raw.as_str()).collect();
            assert_eq!(raw, text, "bytes are lost: {context}");
            for (n, (name, arguments)) in some.iter().enumerate() {
                if !given.early {
                    continue;
                }
                assert_eq!(*name, all[n].0, "{context}");
                // A character that is cut is replaced at the end.
                let arguments = arguments.trim_end_matches('\u{fffd}');
                assert!(all[n].1.starts_with(arguments), "{context}: {:?}", all[n]);
                n_cut += usize::from(all[n].1.len() > arguments.len());
            }
        }
    }
    assert!(n_cut > 50, "{n_cut} calls were cut");
}
