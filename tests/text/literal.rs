//! Control tokens that users write are text.

use proptest::prelude::*;
use rfgraph::text::{ChatTemplate, EncodeOptions, Message, RenderOptions, TokenKind};

use crate::tokenizer::DEMO;

/// The control tokens of a prompt.
fn control(ids: &[u32]) -> Vec<u32> {
    let is_control = |id: &&u32| matches!(DEMO.kind(**id), Some(TokenKind::Control | TokenKind::Unknown));
    ids.iter().filter(is_control).copied().collect()
}

fn encode(messages: &[Message]) -> Vec<u32> {
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    ChatTemplate::of(&DEMO).unwrap().encode(&DEMO, messages, &options).unwrap()
}

/// Texts with the demo's control tokens, whole and in parts that may join.
fn text() -> impl Strategy<Value = String> {
    let names = (0..DEMO.n_vocab() as u32).filter(|&id| DEMO.kind(id) == Some(TokenKind::Control));
    let mut pieces: Vec<String> = names.filter_map(|id| DEMO.token_text(id).map(str::to_owned)).collect();
    assert!(pieces.len() > 2, "{pieces:?}");
    pieces.extend(["<", "|", ">", "a", " ", "\n", "user", "\u{F0000}"].map(String::from));
    prop::collection::vec(prop::sample::select(pieces), 1..8)
        .prop_map(|pieces| format!("x{}x", pieces.concat()))
}

proptest! {
    #[test]
    fn control_tokens_of_users_are_text(texts in prop::collection::vec(text(), 1..4)) {
        let message = |text: &str, i: usize| Message::new(["user", "assistant"][i % 2], text);
        let written: Vec<Message> = texts.iter().enumerate().map(|(i, text)| message(text, i)).collect();
        let harmless: Vec<Message> = (0..texts.len()).map(|i| message("x", i)).collect();
        let ids = encode(&written);
        prop_assert_eq!(control(&ids), control(&encode(&harmless)));
        let rendered = ChatTemplate::of(&DEMO).unwrap().render(&written, true).unwrap();
        // The vocabulary puts a BOS in front.
        prop_assert_eq!(DEMO.decode(&ids[1..], true), rendered);
    }

    #[test]
    fn other_texts_encode_as_rendered(text in "[a-z0-9 ?+\n]{1,40}") {
        let messages = [Message::new("user", text)];
        let rendered = ChatTemplate::of(&DEMO).unwrap().render(&messages, true).unwrap();
        prop_assert_eq!(encode(&messages), DEMO.encode_chat(&rendered));
    }
}

/// Tools come from users too.
#[test]
fn control_tokens_of_tools_are_text() {
    let source = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}{{ tools | tojson }}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let name = DEMO.token_text(DEMO.end_tokens()[0]).unwrap();
    let tools = [serde_json::json!({"name": name, "parameters": {name: [name]}})];
    let options = RenderOptions { tools: &tools, ..RenderOptions::default() };
    let ids = template.encode(&DEMO, &[Message::new("user", "x")], &options).unwrap();
    let plain = DEMO.encode("<|user|>x<|end|>", EncodeOptions::default());
    assert_eq!(control(&ids[1..]), control(&plain));
}
