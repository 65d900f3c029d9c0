//! Calls of tools in the forms of real models: found, enforced and read.

mod forms;
mod pieces;
mod reading;

use std::sync::LazyLock;

use rfgraph::engine::{GenerateOptions, Generation, Next, Stop};
use rfgraph::model::RowOutput;
use rfgraph::sampling::{Rng, Sampler, SamplerParams, Stage};
use rfgraph::text::{
    Constraint, ConstraintFactory, EncodeOptions, Part, PartKind, StreamDecoder, TokenKind, Tokenizer,
    ToolChoice, ToolFormat, VocabData,
};
use serde_json::{Value, json};

use crate::answers::{DEMO, push, real_templates};

/// Markers that are single tokens in the vocabularies of the models.
const TOKENS: [&str; 47] = [
    "<tool_call>",
    "</tool_call>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_RESPONSE|>",
    "<|END_RESPONSE|>",
    "<|tools_prefix|>",
    "<|tools_suffix|>",
    "<|message_sep|>",
    "<|role_sep|>",
    "<|function_call|>",
    "<|open|>",
    "<|close|>",
    "<|sep|>",
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    "]<]minimax[>[",
    "[TOOL_CALLS]",
    "[CALL_ID]",
    "[ARGS]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "｜DSML｜",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|constrain|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
    "<|python_tag|>",
];

const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

fn function(name: &str, parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "d", "parameters": parameters}})
}

/// Tools with arguments of every kind that all formats can write.
fn flat_tools() -> Vec<Value> {
    let weather = json!({"type": "object", "properties": {
        "city": {"type": "string", "description": "Where"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["C", "3", "true", "a b"]},
        "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{1,3}$"},
        "short": {"type": "string", "minLength": 2, "maxLength": 5},
        "hourly": {"type": "boolean"},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
        "near": {"$ref": "#/$defs/Near"}
    }, "required": ["days", "near"], "$defs": {"Near": {"title": "Near", "enum": ["sea", "hill"]}}});
    vec![
        function("get_weather", weather),
        function("now", json!({"type": "object", "properties": {}})),
        function(
            "note",
            json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}),
        ),
    ]
}

/// Tools whose arguments are lists, objects and values of several kinds.
fn nested_tools() -> Vec<Value> {
    let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["name"], "additionalProperties": false});
    let order = json!({"type": "object", "properties": {
        "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "minItems": 1, "maxItems": 2},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": null},
        "id": {"type": ["integer", "string"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "place": {"$ref": "#/$defs/Item"}
    }, "required": ["items", "id"], "$defs": {"Item": item}});
    vec![function("order", order)]
}

/// A walk over allowed tokens: chosen at random, but those that close something more often. `None` if it is long.
fn walk(tokenizer: &Tokenizer, constraint: &mut Constraint, rng: &mut Rng) -> Option<Vec<u32>> {
    let mut tokens = Vec::new();
    let mut logits = vec![0.0f32; tokenizer.n_vocab()];
    let closes = |id: u32| {
        let text = tokenizer.token_text(id).unwrap_or_default();
        text.len() < 3 && text.contains(['"', '}', ']', '<', '\n', '\'', ',', 'Ċ'])
    };
    while tokens.len() < 600 {
        if constraint.is_complete() {
            return Some(tokens);
        }
        logits.fill(0.0);
        constraint.mask(&mut logits).unwrap();
        let allowed: Vec<u32> =
            (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(id, _)| id).collect();
        let ends = |id: &&u32| tokenizer.is_end_of_generation(**id);
        if allowed.iter().any(|id| ends(&id)) && rng.next_unit() < 0.4 {
            return Some(tokens);
        }
        let closing: Vec<u32> = allowed.iter().copied().filter(|&id| closes(id)).collect();
        let markers: Vec<u32> =
            allowed.iter().copied().filter(|&id| id as usize >= DEMO.tokens.len()).collect();
        let from = if !markers.is_empty() && rng.next_unit() < 0.3 { &markers } else { &allowed };
        let from = if !closing.is_empty() && rng.next_unit() < 0.4 { &closing } else { from };
        let from: Vec<u32> = from.iter().copied().filter(|id| !ends(&id)).collect();
        let Some(&token) = from.get((rng.next_unit() * from.len() as f64) as usize) else {
            return Some(tokens);
        };
        constraint.accept(token).unwrap();
        tokens.push(token);
    }
    None
}

/// The parts of an answer.
fn parts(format: &ToolFormat, tokenizer: &Tokenizer, tools: &[Value], tokens: &[u32]) -> Vec<Part> {
    let prompt = tokenizer.encode("<|start|>assistant", PARSED);
    let mut parser = format.answers(tools).unwrap().parser(&prompt);
    let mut decoder = StreamDecoder::new(tokenizer, true);
    tokens.iter().for_each(|&id| push(&mut parser, &mut decoder, tokenizer, id));
    let rest = decoder.finish().to_owned();
    parser.push_text(&rest);
    parser.finish();
    let mut parts = Vec::new();
    parser.take().iter().for_each(|delta| Part::collect(&mut parts, delta));
    parts
}

/// Checks that the calls of an answer are of the tools and valid, and returns their number.
fn check(parts: &[Part], tools: &[Value]) -> Result<usize, String> {
    let mut n = 0;
    for call in parts.iter().flat_map(|part| &part.calls) {
        n += 1;
        let tool = tools.iter().find(|tool| tool["function"]["name"] == call.name);
        let Some(tool) = tool else { return Err(format!("no tool {}", call.name)) };
        let validator = jsonschema::validator_for(&tool["function"]["parameters"]).unwrap();
        if let Err(error) = validator.validate(&call.arguments) {
            return Err(format!("{error} in {}", call.arguments));
        }
    }
    Ok(n)
}

/// The demo's tokenizer with a template, and with more tokens of this kind.
fn tokenizer(template: &str, tokens: &[&str], kind: TokenKind) -> Tokenizer {
    let mut data = VocabData { chat_template: Some(template.to_owned()), ..DEMO.clone() };
    for text in tokens {
        data.tokens.push((*text).to_string());
        data.kinds.as_mut().unwrap().push(kind);
    }
    Tokenizer::new(data).unwrap()
}

/// A format with the vocabulary that it is tried with.
struct Case {
    name: String,
    tokenizer: Tokenizer,
    format: ToolFormat,
    factory: ConstraintFactory,
}

/// The formats of all templates, with their markers as text, as control tokens, and as user-defined tokens.
static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for (name, template, plain) in real_templates() {
        let source = plain.chat_template().unwrap().to_owned();
        let tokens: Vec<&str> = TOKENS.into_iter().filter(|token| source.contains(*token)).collect();
        let control = tokenizer(&source, &tokens, TokenKind::Control);
        let defined = tokenizer(&source, &tokens, TokenKind::UserDefined);
        for (kind, tokenizer) in [("text", plain), ("control", control), ("user-defined", defined)] {
            // The tokens of headers are control tokens in every vocabulary.
            let has_headers = source.contains("<|start|>");
            if kind != "text" && tokens.is_empty() || kind == "user-defined" && has_headers {
                continue;
            }
            let format = ToolFormat::of(&template, &tokenizer);
            let factory = ConstraintFactory::new(&tokenizer).unwrap();
            all.push(Case { name: format!("{name}, {kind}"), tokenizer, format, factory });
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
});

/// Walks through the answers of every format that a choice allows; fails where `complain` does. Returns how many
/// answers ended, of how many, and how many calls they had.
fn walk_all(
    choice: &ToolChoice,
    parallel: bool,
    seeds: u64,
    complain: impl Fn(&Case, &[Part], usize) -> Option<String>,
) -> (usize, usize, usize) {
    let (mut failures, mut ended, mut all, mut calls) = (Vec::new(), 0, 0, 0);
    for (n, case) in CASES.iter().enumerate() {
        for tools in [flat_tools(), nested_tools()] {
            let constraint = case.format.constraint(&case.factory, &tools, choice, parallel);
            let constraint = constraint.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            for seed in 0..seeds {
                all += 1;
                let mut rng = Rng::new(seed << 32 | n as u64);
                let Some(tokens) = walk(&case.tokenizer, &mut constraint.clone(), &mut rng) else { continue };
                ended += 1;
                let parts = parts(&case.format, &case.tokenizer, &tools, &tokens);
                let text = case.tokenizer.decode(&tokens, true);
                let raw: String = parts.iter().map(|part| part.raw.as_str()).collect();
                let complaint = match check(&parts, &tools) {
                    Err(error) => Some(error),
                    Ok(_) if raw != text => Some("bytes are lost".into()),
                    Ok(n) => {
                        calls += n;
                        complain(case, &parts, n)
                    }
                };
                if let Some(complaint) = complaint {
                    failures.push(format!("{}, {seed}: {complaint}: {text:?}: {parts:?}", case.name));
                }
            }
        }
    }
    let first = failures[..failures.len().min(10)].join("\n");
    assert!(failures.is_empty(), "{} of {ended}:\n{first}", failures.len());
    (ended, all, calls)
}

fn has_text(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.kind == PartKind::Text && !part.text.trim().is_empty())
}

#[test]
fn required_calls_of_every_format_are_read_and_valid() {
    let (ended, all, calls) = walk_all(&ToolChoice::Required, true, 3, |_, parts, n| {
        (n == 0 || has_text(parts)).then(|| "no call, or text beside calls".into())
    });
    assert!(ended > all * 2 / 3 && calls > ended, "{ended} of {all}, {calls} calls");
}

#[test]
fn a_named_tool_is_the_one_that_is_called() {
    let choice = ToolChoice::Named("get_weather".into());
    for case in CASES.iter() {
        let constraint = case.format.constraint(&case.factory, &flat_tools(), &choice, false).unwrap();
        let Some(tokens) = walk(&case.tokenizer, &mut constraint.clone(), &mut Rng::new(7)) else { continue };
        let parts = parts(&case.format, &case.tokenizer, &flat_tools(), &tokens);
        let names: Vec<&str> =
            parts.iter().flat_map(|part| &part.calls).map(|call| call.name.as_str()).collect();
        assert_eq!(names, ["get_weather"], "{}: {parts:?}", case.name);
    }
}

#[test]
fn chosen_calls_are_valid_and_text_is_free() {
    let texts = std::cell::Cell::new(0);
    let (ended, all, calls) = walk_all(&ToolChoice::Auto, true, 4, |_, parts, _| {
        texts.set(texts.get() + usize::from(has_text(parts)));
        None
    });
    assert!(
        ended > all / 2 && calls > 100 && texts.get() > ended / 4,
        "{ended} of {all}, {calls} calls, {texts:?} texts"
    );
}

#[test]
fn tool_choice_none_forbids_calls() {
    let (ended, all, calls) =
        walk_all(&ToolChoice::None, true, 2, |_, _, n| (n > 0).then(|| "a call".into()));
    assert!(ended > all / 2 && calls == 0, "{ended} of {all}");
}

/// A text is not read as a call where its first characters are a call's marker: the constraint takes over.
#[test]
fn a_marker_in_a_chosen_answer_begins_a_call() {
    let mut n = 0;
    for case in CASES.iter().filter(|case| case.name.contains("Qwen3-0.6B") || case.name.contains("Seed-OSS"))
    {
        let marker = if case.name.contains("Seed") { "<seed:tool_call>" } else { "<tool_call>" };
        let mut constraint =
            case.format.constraint(&case.factory, &flat_tools(), &ToolChoice::Auto, true).unwrap();
        let options = PARSED;
        for token in case.tokenizer.encode(&format!("I look.\n{marker}"), options) {
            constraint.accept(token).unwrap();
        }
        let mut logits = vec![0.0f32; case.tokenizer.n_vocab()];
        constraint.mask(&mut logits).unwrap();
        let allowed: Vec<u32> =
            (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(id, _)| id).collect();
        // Nothing but the line end of the form.
        let texts: Vec<&str> = allowed.iter().filter_map(|&id| case.tokenizer.token_text(id)).collect();
        assert!(texts.iter().all(|text| text.starts_with('Ċ')), "{}: {texts:?}", case.name);
        n += 1;
    }
    assert!(n >= 4, "{n} formats");
}

/// A generation whose model prefers nothing keeps to the calls from its first token; in formats with headers too,
/// where the constraint is about thoughts and headers.
#[test]
fn a_generation_calls_a_tool_where_it_must() {
    let names = ["openai-gpt-oss-120b", "muse-glimmer", "Qwen-Qwen3-0.6B", "GLM-4.7-Flash"];
    let (mut n, tools) = (0, flat_tools());
    for case in CASES.iter().filter(|case| names.iter().any(|name| case.name.starts_with(name))) {
        let constraint = case.format.constraint(&case.factory, &tools, &ToolChoice::Required, false).unwrap();
        let n_vocab = case.tokenizer.n_vocab();
        for seed in 0..4 {
            let params = SamplerParams { order: vec![Stage::Temperature], seed, ..SamplerParams::default() };
            let sampler = Sampler::new(params, n_vocab).unwrap();
            let options = GenerateOptions { max_tokens: Some(3000), ..GenerateOptions::default() };
            let prompt = case.tokenizer.encode("<|start|>assistant", PARSED);
            let parser = case.format.answers(&tools).unwrap().parser(&prompt);
            let generation = Generation::new(&case.tokenizer, sampler, options).unwrap();
            let mut generation = generation.in_parts(parser).constrained(constraint.clone());
            let (mut rng, mut logits, mut parts) = (Rng::new(seed), vec![0.0f32; n_vocab], Vec::new());
            let stop = loop {
                for (id, logit) in (0..).zip(&mut logits) {
                    let text = case.tokenizer.token_text(id).unwrap_or_default();
                    let closes = text.len() < 3 && text.contains(['"', '}', '<', '|'])
                        || id as usize >= DEMO.tokens.len();
                    *logit = rng.next_unit() as f32 * 4.0 + if closes { 6.0 } else { 0.0 };
                }
                let advance = generation.advance(RowOutput::Logits(&logits)).unwrap();
                advance.deltas.iter().for_each(|delta| Part::collect(&mut parts, delta));
                if let Next::Stopped(stop) = advance.next {
                    break stop;
                }
            };
            if stop == Stop::EndOfGeneration {
                n += 1;
                assert_eq!(check(&parts, &tools), Ok(1), "{}: {parts:?}", case.name);
                assert!(!has_text(&parts), "{}: {parts:?}", case.name);
            }
        }
    }
    assert!(n > 20, "{n} answers");
}
