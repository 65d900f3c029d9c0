//! Answers in parts: the formats of the models, and what no answer may lose.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use rfgraph::gguf::Gguf;
use rfgraph::text::{
    ANSWER_MARKERS, AnswerFormat, AnswerParser, AnswerPlace, ChatTemplate, END_NAMES, EncodeOptions, Message,
    Part, PartKind, RenderOptions, StreamDecoder, TokenKind, Tokenizer, ToolFormat, VocabData,
};
use serde_json::json;

const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

pub(crate) static DEMO: LazyLock<VocabData> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/demo-vocab.gguf");
    VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap()
});

/// The demo's tokenizer with more control tokens and a template.
pub(crate) fn tokenizer(template: &str, control: &[&str]) -> Tokenizer {
    let mut data = VocabData { chat_template: Some(template.to_owned()), ..DEMO.clone() };
    for text in control {
        data.tokens.push((*text).to_string());
        data.kinds.as_mut().unwrap().push(TokenKind::Control);
    }
    Tokenizer::new(data).unwrap()
}

/// One token of an answer, as its generation passes it on.
pub(crate) fn push(parser: &mut AnswerParser, decoder: &mut StreamDecoder, tokenizer: &Tokenizer, id: u32) {
    match tokenizer.kind(id).unwrap() {
        kind @ (TokenKind::Control | TokenKind::Unknown | TokenKind::UserDefined) => {
            let text = decoder.finish().to_owned();
            parser.push_text(&text);
            let text = std::str::from_utf8(tokenizer.token_bytes(id)).unwrap();
            parser.push_special(id, text, kind != TokenKind::UserDefined);
        }
        _ => {
            parser.push_text(decoder.push(id));
        }
    }
}

/// The parts of the answer to a prompt.
fn parts(tokenizer: &Tokenizer, prompt: &str, answer: &str) -> Vec<Part> {
    parts_in(&AnswerFormat::of(tokenizer), tokenizer, prompt, answer)
}

/// The parts of the answer to a prompt in a format.
pub(crate) fn parts_in(
    format: &AnswerFormat,
    tokenizer: &Tokenizer,
    prompt: &str,
    answer: &str,
) -> Vec<Part> {
    let mut parser = format.parser(&tokenizer.encode(prompt, PARSED));
    let mut decoder = StreamDecoder::new(tokenizer, true);
    for id in tokenizer.encode(answer, PARSED) {
        push(&mut parser, &mut decoder, tokenizer, id);
    }
    let rest = decoder.finish().to_owned();
    parser.push_text(&rest);
    parser.finish();
    let mut parts = Vec::new();
    parser.take().iter().for_each(|delta| Part::collect(&mut parts, delta));
    let raw: String = parts.iter().map(|part| part.raw.as_str()).collect();
    assert_eq!(raw, answer, "no byte is lost");
    parts
}

/// The kinds and texts of the parts.
fn told(tokenizer: &Tokenizer, prompt: &str, answer: &str) -> Vec<(PartKind, String)> {
    parts(tokenizer, prompt, answer).into_iter().map(|part| (part.kind, part.text)).collect()
}

fn thoughts(text: &str) -> (PartKind, String) {
    (PartKind::Thoughts, text.to_owned())
}

fn text(text: &str) -> (PartKind, String) {
    (PartKind::Text, text.to_owned())
}

#[test]
fn thoughts_between_any_pair_of_markers_are_told_apart() {
    let pairs = ANSWER_MARKERS.iter().filter(|row| format!("{:?}", row.role) == "Thoughts");
    let mut n = 0;
    for row in pairs {
        let (open, close) = (row.open, row.close.unwrap());
        // As text that the template shows, and as the vocabulary's special tokens.
        let tokens: Vec<&str> = [open, close]
            .into_iter()
            .map(|marker| marker.strip_suffix("thought").unwrap_or(marker))
            .filter(|marker| marker.starts_with(['<', '[']) && !marker.contains("<|sep|>"))
            .collect();
        let in_template = tokenizer(&format!("{{{{ '{open}{close}' }}}}"), &[]);
        let in_vocabulary = tokenizer("", &tokens);
        let all = if tokens.len() == 2 { vec![in_template, in_vocabulary] } else { vec![in_template] };
        for tokenizer in all {
            let answer = format!("{open}\nI think.\n{close}\n\nYes.\n");
            let expected = [thoughts("I think."), text("Yes.\n")];
            assert_eq!(told(&tokenizer, "", &answer), expected, "{open}");
            // The template opened them.
            let answer = format!("I think.\n{close}\n\nYes.\n");
            assert_eq!(told(&tokenizer, &format!("Hi{open}\n"), &answer), expected, "{open}");
            // Or opened and closed them.
            let prompt = format!("Hi{open}\n\n{close}\n\n");
            assert_eq!(told(&tokenizer, &prompt, "\nYes.\n"), [text("Yes.\n")], "{open}");
            // Cut in the thoughts.
            assert_eq!(told(&tokenizer, "", &format!("{open}\nI th ")), [thoughts("I th ")], "{open}");
            n += 1;
        }
    }
    assert!(n > 20, "{n}");
}

#[test]
fn a_marker_in_the_text_is_text() {
    let by_template = tokenizer("<think></think>", &[]);
    // Thoughts begin an answer; later the marker is what the answer talks about.
    let answer = "Write <think> and </think> around it.";
    assert_eq!(told(&by_template, "", answer), [text(answer)]);
    // The spelling is not the token.
    let by_token = tokenizer("<think></think>", &["<think>", "</think>"]);
    let mut parser = AnswerFormat::of(&by_token).parser(&[]);
    parser.push_text("<think>");
    parser.push_text("a</think>b");
    assert_eq!(parser.finish()[0].text, "<think>a</think>b");
    // A marker that closes nothing is shown.
    assert_eq!(told(&by_token, "", "a</think>b"), [text("a</think>b")]);
}

#[test]
fn control_tokens_are_hidden_and_markers_that_do_not_fit_are_shown() {
    let tokenizer = tokenizer("", &["<|channel|>", "<|message|>", "<|other|>"]);
    assert_eq!(told(&tokenizer, "", "a<|channel|>b<|other|>c"), [text("a<|channel|>bc")]);
}

fn harmony() -> Tokenizer {
    tokenizer(
        "",
        &["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"],
    )
}

#[test]
fn channels_are_told_apart() {
    let tokenizer = harmony();
    let prompt = "<|start|>user<|message|>Hi<|end|><|start|>assistant";
    let final_ = "<|start|>assistant<|channel|>final<|message|>Hello.";
    let answer = format!("<|channel|>analysis<|message|>They greet.<|end|>{final_}");
    assert_eq!(told(&tokenizer, prompt, &answer), [thoughts("They greet."), text("Hello.")]);
    assert_eq!(told(&tokenizer, prompt, "<|channel|>final<|message|>Hello."), [text("Hello.")]);
    // The template may write the header.
    let prompt = format!("{prompt}<|channel|>analysis<|message|>");
    assert_eq!(told(&tokenizer, &prompt, &format!("Hm.<|end|>{final_}")), [thoughts("Hm."), text("Hello.")]);
    // Two messages of text are two parts.
    let answer =
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>final<|message|>Done.";
    assert_eq!(told(&tokenizer, "<|start|>assistant", answer), [text("I look."), text("Done.")]);
    // A header that is none, and a plain answer.
    let answer = "<|channel|>analysis a b<|message|>x";
    assert_eq!(told(&tokenizer, "<|start|>assistant", answer), [text(answer)]);
    assert_eq!(told(&tokenizer, "<|start|>assistant", "Hello there"), [text("Hello there")]);
    assert_eq!(
        told(&tokenizer, "Once", ",<|channel|>analysis a<|message|> girl"),
        [text(",<|channel|>analysis a<|message|> girl")]
    );
    assert_eq!(told(&tokenizer, "<|start|>assistant", "<|channel|>anal"), [text("<|channel|>anal")]);
}

#[test]
fn calls_of_channels_have_name_and_arguments() {
    let tokenizer = harmony();
    for header in [
        "<|channel|>commentary to=functions.get_weather <|constrain|>json",
        " to=functions.get_weather<|channel|>commentary json",
        "<|start|>assistant to=functions.get_weather<|channel|>commentary <|constrain|>json",
    ] {
        let answer = format!("{header}<|message|>{{\"city\": \"Oslo\"}}");
        let parts = parts(&tokenizer, "<|start|>assistant", &answer);
        assert_eq!(parts.len(), 1, "{header}");
        assert_eq!(parts[0].kind, PartKind::ToolCall, "{header}");
        assert_eq!(parts[0].calls[0].name, "get_weather");
        assert_eq!(parts[0].calls[0].arguments, json!({"city": "Oslo"}));
        // Cut in the arguments it is not a call.
        let answer = format!("{header}<|message|>{{\"city\": \"Os");
        assert_eq!(told(&tokenizer, "<|start|>assistant", &answer), [text(&answer)]);
    }
}

#[test]
fn calls_in_an_answer_are_parts() {
    let hermes = tokenizer("<tool_call>\n</tool_call>", &["<think>", "</think>"]);
    let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>";
    let answer = format!("<think>\nhm\n</think>\n\nI look.\n{call}\n{call}");
    let parts = parts(&hermes, "", &answer);
    let kinds: Vec<PartKind> = parts.iter().map(|part| part.kind).collect();
    assert_eq!(kinds, [PartKind::Thoughts, PartKind::Text, PartKind::ToolCall, PartKind::ToolCall]);
    assert_eq!(parts[1].text, "I look.");
    assert_eq!((parts[2].calls[0].name.as_str(), &parts[2].calls[0].arguments), ("f", &json!({"a": 1})));
    // In the middle of a line, without its end, or without a call in it, it is text.
    for answer in
        [format!("Write {call}"), "<tool_call>\n{\"name\": \"f\"".into(), "<tool_call>f</tool_call> x".into()]
    {
        assert_eq!(told(&hermes, "", &answer), [text(&answer)]);
    }
    let mistral = tokenizer("", &["[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]"]);
    let answer = "[THINK]hm[/THINK][TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{}";
    let calls: Vec<String> = self::parts(&mistral, "", answer)
        .into_iter()
        .flat_map(|part| part.calls)
        .map(|call| call.name)
        .collect();
    assert_eq!(calls, ["f", "g"]);
    let gemma = tokenizer("", &["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|\"|>"]);
    let answer =
        "<|channel>thought\nhm\n<channel|><|tool_call>call:f{a:<|\"|>x<|\"|>,b:[1,{c:true}]}<tool_call|>";
    let parts = self::parts(&gemma, "", answer);
    assert_eq!(parts[0].text, "hm");
    assert_eq!(parts[1].calls[0].arguments, json!({"a": "x", "b": [1, {"c": true}]}));
}

#[test]
fn a_constraint_begins_with_the_text() {
    let tokenizer = tokenizer("", &["<think>", "</think>"]);
    let format = AnswerFormat::of(&tokenizer);
    let mut parser = format.parser(&[]);
    assert_eq!(
        (parser.place(), parser.thoughts_token()),
        (AnswerPlace::Start, tokenizer.special_id("<think>"))
    );
    parser.push_special(tokenizer.special_id("<think>").unwrap(), "<think>", true);
    parser.push_text("hm");
    assert_eq!((parser.place(), parser.thoughts_token()), (AnswerPlace::Thoughts, None));
    parser.push_special(tokenizer.special_id("</think>").unwrap(), "</think>", true);
    assert_eq!((parser.place(), parser.thoughts_token()), (AnswerPlace::Text, None));
    assert_eq!(format.parser(&tokenizer.encode("Hi<think>\n", PARSED)).place(), AnswerPlace::Thoughts);
    assert_eq!(
        format.parser(&tokenizer.encode("Hi<think>\n\n</think>\n\n", PARSED)).place(),
        AnswerPlace::Text
    );
    let harmony = harmony();
    let format = AnswerFormat::of(&harmony);
    let place = |prompt: &str| format.parser(&harmony.encode(prompt, PARSED)).place();
    assert_eq!(place("<|start|>assistant"), AnswerPlace::Markup);
    assert_eq!(place("<|start|>assistant<|channel|>analysis<|message|>"), AnswerPlace::Thoughts);
    assert_eq!(place("<|start|>assistant<|channel|>final<|message|>"), AnswerPlace::Text);
}

/// Tokenizers with the markers as control tokens, and as text that the template shows.
static FORMATS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let texts: Vec<&str> =
        ANSWER_MARKERS.iter().flat_map(|row| std::iter::once(row.open).chain(row.close)).collect();
    let whole: Vec<&str> = texts.iter().copied().filter(|text| text.starts_with(['<', '['])).collect();
    let mut tokens = vec!["<|open|>", "<|close|>", "<|sep|>", "<|begin|>", "<|channel>", "<|\"|>", "[ARGS]"];
    tokens.extend(whole.iter().filter(|text| !text.contains("thought") && text.matches('<').count() < 2));
    tokens.sort_unstable();
    tokens.dedup();
    let harmony = "<|start|><|channel|><|message|><|constrain|><|end|>";
    vec![tokenizer("", &tokens), tokenizer(&texts.concat(), &[]), self::harmony(), tokenizer(harmony, &[])]
});

/// Pieces of answers: markers whole and in part, headers, calls, white space, words.
fn soup() -> impl Strategy<Value = Vec<String>> {
    let markers: Vec<&str> =
        ANSWER_MARKERS.iter().flat_map(|row| std::iter::once(row.open).chain(row.close)).collect();
    let harmony = vec![
        "<|start|>",
        "<|channel|>",
        "<|message|>",
        "<|end|>",
        "<|constrain|>",
        "assistant",
        "analysis",
        "final",
        "commentary",
        " to=functions.f",
        " json",
    ];
    let words = vec!["a", " ", "\n", "\n\n", "<", "</", "<th", "[", "é", "🦙", "<|", "|>", "think>", "user"];
    let calls = vec![
        "{\"name\": \"f\", \"arguments\": {}}",
        "f[ARGS]{}",
        "call:f{a:1}",
        "<function=f>\n</function>",
        "{}",
    ];
    let think = vec!["<think>", "</think>", "<tool_call>", "</tool_call>"];
    let piece = prop_oneof![
        2 => prop::sample::select(markers),
        3 => prop::sample::select(think),
        3 => prop::sample::select(harmony),
        4 => prop::sample::select(words),
        1 => prop::sample::select(calls),
    ];
    prop::collection::vec(piece.prop_map(str::to_owned), 0..14)
}

/// A text's special tokens, and the text between them.
fn segments(tokenizer: &Tokenizer, text: &str) -> Vec<(String, Option<u32>)> {
    let mut all: Vec<(String, Option<u32>)> = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let ends = (1..=rest.len()).rev().filter(|&n| rest.is_char_boundary(n));
        let special = ends.filter_map(|n| Some((n, tokenizer.special_id(&rest[..n])?))).next();
        let n = special.map_or(c.len_utf8(), |(n, _)| n);
        match all.last_mut() {
            Some((text, None)) if special.is_none() => text.push(c),
            _ => all.push((rest[..n].to_owned(), special.map(|(_, id)| id))),
        }
        rest = &rest[n..];
    }
    all
}

fn cut_parts(tokenizer: &Tokenizer, prompt: &str, text: &str, cuts: &[usize]) -> Vec<Part> {
    cut_parts_in(&AnswerFormat::of(tokenizer), tokenizer, prompt, text, cuts)
}

/// The parts of a text whose special tokens are passed whole and whose other text is cut after each of `cuts` characters.
pub(crate) fn cut_parts_in(
    format: &AnswerFormat,
    tokenizer: &Tokenizer,
    prompt: &str,
    text: &str,
    cuts: &[usize],
) -> Vec<Part> {
    let mut parser = format.parser(&tokenizer.encode(prompt, PARSED));
    let mut parts = Vec::new();
    let mut cuts = cuts.iter().cycle();
    for (text, special) in segments(tokenizer, text) {
        if let Some(id) = special {
            parser.push_special(id, &text, true);
        } else {
            let mut chars: std::collections::VecDeque<char> = text.chars().collect();
            while !chars.is_empty() {
                let n = (*cuts.next().unwrap()).min(chars.len());
                let piece: String = chars.drain(..n).collect();
                parser.push_text(&piece);
            }
        }
        parser.take().iter().for_each(|delta| Part::collect(&mut parts, delta));
    }
    parser.finish();
    parser.take().iter().for_each(|delta| Part::collect(&mut parts, delta));
    parts
}

const PROMPTS: [&str; 5] = [
    "",
    "Hi<think>\n",
    "Hi<think>\n\n</think>\n\n",
    "<|start|>assistant",
    "<|start|>assistant<|channel|>analysis<|message|>",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// The raw texts of the parts are the answer, whatever is in it; its parts do not depend on the division into pieces;
    /// and all but markers is in their texts.
    #[test]
    fn no_answer_loses_a_byte(
        pieces in soup(), cuts in prop::collection::vec(1usize..6, 1..8), prompt in prop::sample::select(PROMPTS.to_vec()),
        format in 0usize..4,
    ) {
        let tokenizer = &FORMATS[format];
        let answer = pieces.concat();
        let one = cut_parts(tokenizer, prompt, &answer, &[1]);
        let raw: String = one.iter().map(|part| part.raw.as_str()).collect();
        prop_assert_eq!(&raw, &answer);
        let other = cut_parts(tokenizer, prompt, &answer, &cuts);
        prop_assert_eq!(&one, &other);
        for part in &one {
            prop_assert_eq!(part.kind == PartKind::ToolCall, !part.calls.is_empty());
            prop_assert!(!part.raw.is_empty());
        }
    }

    /// Words reach the reader in their order, between whatever markers they stand.
    #[test]
    fn words_are_shown(pieces in soup(), format in 0usize..4) {
        let tokenizer = &FORMATS[format];
        let answer: String = pieces.iter().enumerate().map(|(n, piece)| format!("{piece}w{n}w")).collect();
        let parts = cut_parts(tokenizer, "", &answer, &[3]);
        let shown: String = parts.iter().map(|part| if part.kind == PartKind::ToolCall { &part.raw } else { &part.text }).cloned().collect();
        let mut at = 0;
        for n in 0..pieces.len() {
            let word = format!("w{n}w");
            // A header's words are no text.
            if let Some(found) = shown[at..].find(&word) {
                at += found + word.len();
            } else {
                prop_assert!(false, "{} is lost: {:?} of {:?}", word, shown, answer);
            }
        }
    }
}

/// A template gets an earlier answer's thoughts under the name that it reads, and keeps them where its authors do.
#[test]
fn templates_get_the_thoughts_that_they_keep() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/templates/real");
    let answer =
        Message { reasoning_content: Some("THOUGHTS".into()), ..Message::new("assistant", "ANSWER") };
    for (name, keeps_last, keeps_older) in [
        ("openai-gpt-oss-120b", true, false),
        ("LFM2.5-8B-A1B", true, false),
        ("Qwen-Qwen3-0.6B", true, false),
        ("upstage-Solar-Open-100B", true, false),
        ("poolside-Laguna-S-2.1", true, true),
    ] {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::new(&source, "<s>", "</s>").unwrap();
        let mut messages = vec![Message::new("user", "Hi"), answer.clone()];
        let last = template.render(&messages, false).unwrap();
        assert!(last.contains("ANSWER"), "{name}");
        assert_eq!(last.contains("THOUGHTS"), keeps_last, "{name}: {last}");
        messages.push(Message::new("user", "And?"));
        let older = template.render(&messages, true).unwrap();
        assert!(older.contains("ANSWER"), "{name}");
        assert_eq!(older.contains("THOUGHTS"), keeps_older, "{name}: {older}");
    }
}

/// The text that a real template renders after its own generation prompt for an answer, and the prompt.
fn rendered(
    template: &ChatTemplate,
    answer: &Message,
    tools: &[serde_json::Value],
) -> Option<(String, String)> {
    let variables = json!({"enable_thinking": true, "thinking": true}).as_object().unwrap().clone();
    let render = |messages: &[Message], add_generation_prompt| {
        let variables = variables.clone();
        template
            .render_with(messages, &RenderOptions { add_generation_prompt, tools, variables, now: None })
            .ok()
    };
    let user = Message::new("user", "Hi");
    let prompt = render(std::slice::from_ref(&user), true)?;
    let whole = render(&[user, answer.clone()], false)?;
    let mut written = whole.strip_prefix(&prompt)?.trim_end();
    // The token that ends the answer does not reach the parser.
    let ends = END_NAMES.iter().map(|end| end.name).chain(["<|message_sep|>"]);
    for end in ends {
        written = written.strip_suffix(end).unwrap_or(written);
    }
    Some((prompt.clone(), written.to_owned()))
}

/// The real templates, each with its name and a tokenizer that has it.
pub(crate) fn real_templates() -> Vec<(String, ChatTemplate, Tokenizer)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text/templates/real");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all = Vec::new();
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "jinja")) {
        let source = std::fs::read_to_string(&path).unwrap();
        let Ok(template) = ChatTemplate::new(&source, "<s>", "</s>") else { continue };
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        all.push((name, template, tokenizer(&source, &[])));
    }
    all
}

/// The answers that real templates write into a prompt are read as they were given.
#[test]
fn thoughts_in_the_renderings_of_real_templates_are_told_apart() {
    let answer =
        Message { reasoning_content: Some("THOUGHTS".into()), ..Message::new("assistant", "ANSWER") };
    let (mut n, mut failures) = (0, Vec::new());
    for (name, template, tokenizer) in real_templates() {
        let Some((prompt, written)) = rendered(&template, &answer, &[]) else { continue };
        if !written.contains("THOUGHTS") {
            continue;
        }
        n += 1;
        let parts = told(&tokenizer, &prompt, &written);
        let of =
            |kind| parts.iter().filter(|part| part.0 == kind).map(|part| part.1.as_str()).collect::<String>();
        // The token after the text ends the answer in the model's vocabulary.
        if of(PartKind::Thoughts) != "THOUGHTS" || !of(PartKind::Text).starts_with("ANSWER") {
            failures.push(format!("{name}: {written:?} {parts:?}"));
        }
    }
    assert!(failures.is_empty(), "{} of {n}:\n{}", failures.len(), failures.join("\n"));
    assert!(n >= 20, "{n} templates");
}

#[test]
fn calls_in_the_renderings_of_real_templates_are_read() {
    let tool = json!({"type": "function", "function": {"name": "get_weather", "description": "d", "parameters":
        {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}}}});
    let call = |arguments| {
        let call = json!({"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": arguments}});
        Message { tool_calls: vec![call], ..Message::new("assistant", "") }
    };
    let arguments = json!({"city": "Oslo", "n": 3});
    let (mut n, mut failures) = (0, Vec::new());
    for (name, template, tokenizer) in real_templates() {
        let tools = std::slice::from_ref(&tool);
        let as_text = || rendered(&template, &call(json!(arguments.to_string())), tools);
        let Some((prompt, written)) = rendered(&template, &call(arguments.clone()), tools).or_else(as_text)
        else {
            continue;
        };
        if !written.contains("get_weather") {
            continue;
        }
        let format = ToolFormat::of(&template, &tokenizer);
        let parts = parts_in(&format.answers(tools).unwrap(), &tokenizer, &prompt, &written);
        let mut calls = parts.iter().flat_map(|part| &part.calls);
        n += 1;
        if !calls.any(|call| call.name == "get_weather" && call.arguments == arguments) {
            failures.push(format!("{name}: {written:?}: {parts:?}"));
        }
    }
    assert!(failures.is_empty(), "{} of {n}:\n{}", failures.len(), failures.join("\n"));
    assert!(n >= 40, "{n} templates");
}
