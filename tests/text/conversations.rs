//! Nothing said is dropped: every message is in the prompt, or there is an error.

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;
use rfgraph::text::{ChatTemplate, Message, RenderOptions, TemplateError};
use serde_json::{Value, json};

use crate::templates::{fixtures, now};

/// The templates of real models, by name.
static TEMPLATES: LazyLock<Vec<(String, ChatTemplate)>> = LazyLock::new(|| {
    let mut templates = Vec::new();
    for entry in fs::read_dir(fixtures().join("templates/real")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            let source = fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            templates.push((name, ChatTemplate::new(&source, "<s>", "</s>").unwrap()));
        }
    }
    templates.sort_by(|one, other| one.0.cmp(&other.0));
    templates
});

fn tools() -> Vec<Value> {
    let city = json!({"type": "object", "properties": {"city": {"type": "string", "description": "Where"}}});
    let weather = json!({"name": "weather", "description": "The weather", "parameters": city});
    vec![json!({"type": "function", "function": weather})]
}

/// Renders as a chat does; with tools if a message needs them.
fn render(template: &ChatTemplate, messages: &[Message]) -> Result<String, TemplateError> {
    let tools = tools();
    let uses_tools = messages.iter().any(|message| message.role == "tool");
    let options = RenderOptions {
        add_generation_prompt: true,
        tools: if uses_tools { &tools } else { &[] },
        now: Some(now()),
        ..RenderOptions::default()
    };
    template.render_with(messages, &options)
}

/// A text with a word that no other message has, among marks that templates treat in special ways.
fn text(n: usize) -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "word",
        " ",
        "  ",
        "\n",
        "\n\n",
        "<b>",
        "&",
        "\"quoted\"",
        "it's",
        "{{ x }}",
        "{% if %}",
        "#",
        "한국어",
        "🦙",
        "é",
        "1.50",
        "[1, 2]",
        "\\n",
        "\t",
        "<|x|>",
        "'",
        "-",
        "None",
        "```",
        "\u{a0}",
        "%s",
        "</s",
        "http://x.y/z?a=b",
    ]);
    let pieces = || prop::collection::vec(piece.clone(), 0..6).prop_map(|pieces| pieces.concat());
    (pieces(), 0..9999_u32, pieces())
        .prop_map(move |(before, id, after)| format!("{before}q{n}w{id}z{after}"))
}

/// A conversation: perhaps a system message, turns, perhaps tools, a last question.
fn conversation() -> impl Strategy<Value = Vec<Message>> {
    let texts = (text(0), text(1), text(2), text(3), text(4), text(5), text(6), text(7));
    (texts, any::<[bool; 6]>()).prop_map(|(texts, [system, turn, tool, said, json_result, late_system])| {
        let mut messages = Vec::new();
        if system {
            messages.push(Message::new("system", texts.0));
        }
        if turn {
            messages.push(Message::new("user", texts.1));
            messages.push(Message::new("assistant", texts.2));
        }
        if late_system {
            messages.push(Message::new("system", texts.7));
        }
        if tool {
            let call = json!({"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}});
            let content = if said { texts.3 } else { String::new() };
            let result = if json_result { json!({"sky": texts.4, "t": [1, -2.5]}).to_string() } else { texts.4 };
            let id = Some("call00001".to_owned());
            messages.push(Message::new("user", texts.5));
            messages.push(Message { tool_calls: vec![call], ..Message::new("assistant", content) });
            messages.push(Message { tool_call_id: id, name: Some("weather".into()), ..Message::new("tool", result) });
            messages.push(Message::new("assistant", "q8z Fine."));
        }
        messages.push(Message::new("user", texts.6));
        messages
    })
}

/// Letters and digits: what is left of a text however a template writes its marks.
fn letters(text: &str) -> String {
    text.chars().filter(|character| character.is_alphanumeric()).collect()
}

/// The first message that the prompt does not have.
fn missing<'m>(messages: &'m [Message], prompt: &str) -> Option<&'m Message> {
    let folded = letters(prompt);
    messages.iter().find(|message| {
        let text = message.content.trim();
        // JSON writes `\n` with a letter.
        let escaped = letters(&serde_json::to_string(text).unwrap());
        !prompt.contains(text) && !folded.contains(&letters(text)) && !folded.contains(&escaped)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_in_the_prompt_or_there_is_an_error(messages in conversation()) {
        for (name, template) in TEMPLATES.iter() {
            if let Ok(prompt) = render(template, &messages) {
                let missing = missing(&messages, &prompt);
                prop_assert!(missing.is_none(), "{}: {:?} is missing in {:?}", name, missing, prompt);
            }
        }
    }
}

/// Conversations that a chat has. The templates that refuse one are listed with the number of those refused, so that an
/// error cannot hide behind the property.
#[test]
fn real_templates_take_what_chats_say() {
    let turns = || {
        vec![Message::new("user", "One?"), Message::new("assistant", "Two."), Message::new("user", "Three?")]
    };
    let with = |first: Message| [vec![first], turns()].concat();
    let cases = [
        vec![Message::new("user", "One?")],
        turns(),
        with(Message::new("system", "Be kind.")),
        vec![
            Message::new("user", "One?"),
            Message::new("assistant", "<think>Hm.</think>\n\nTwo."),
            Message::new("user", "Three?"),
        ],
    ];
    let mut refusals: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, template) in TEMPLATES.iter() {
        for messages in &cases {
            if render(template, messages).is_err() {
                *refusals.entry(name).or_default() += 1;
            }
        }
    }
    // Jinja2 fails with these too: they are made for tools and loop over them, or want a variable of their own.
    let expected = BTreeMap::from([
        ("CohereForAI-c4ai-command-r-plus-tool_use", 4),
        ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", 4),
        ("NousResearch-Hermes-3-Llama-3.1-8B-tool_use", 4),
        ("fireworks-ai-llama-3-firefunction-v2", 4),
    ]);
    assert_eq!(refusals, expected);
    assert!(TEMPLATES.len() >= 70, "{}", TEMPLATES.len());
}

fn rendered(source: &str, messages: &[Message]) -> Result<String, TemplateError> {
    ChatTemplate::new(source, "<s>", "</s>").unwrap().render(messages, false)
}

#[test]
fn a_refused_system_message_goes_before_the_first_user_message() {
    let refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
                   {% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let ignores = "{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let fails =
        "{% for m in messages %}{{ {'user': 'U', 'assistant': 'A'}[m.role] + m.content }}\n{% endfor %}";
    let system = Message::new("system", "Be kind");
    let user = Message::new("user", "Lily had a dog");
    let both = [system.clone(), user.clone()];
    assert_eq!(rendered(refuses, &both).unwrap(), "user: Be kind\nLily had a dog\n");
    assert_eq!(rendered(ignores, &both).unwrap(), "user: Be kind\nLily had a dog\n");
    assert_eq!(rendered(fails, &both).unwrap(), "UBe kind\nLily had a dog\n");
    let gemma = fs::read_to_string(fixtures().join("templates/real/google-gemma-2-2b-it.jinja")).unwrap();
    let expected = "<s><start_of_turn>user\nBe kind\nLily had a dog<end_of_turn>\n";
    assert_eq!(rendered(&gemma, &both).unwrap(), expected);
    // Later ones go there too, in their order.
    let late =
        [user.clone(), Message::new("assistant", "Yes."), system.clone(), Message::new("user", "Why?")];
    assert_eq!(
        rendered(ignores, &late).unwrap(),
        "user: Be kind\nLily had a dog\nassistant: Yes.\nuser: Why?\n"
    );
    // Without a user there is no place for it.
    assert!(matches!(rendered(refuses, &[system]), Err(TemplateError::Refused(_))));
    // A template that refuses everything says why.
    let error = rendered("{{ raise_exception('no') }}", &both).unwrap_err();
    assert!(matches!(&error, TemplateError::Refused(why) if why == "no"), "{error}");
}

#[test]
fn typed_parts_reach_templates_that_take_nothing_else() {
    let messages = [Message::new("user", "Hi"), Message::new("assistant", "Yo")];
    for source in [
        "{% for m in messages %}{{ m.role }}: {% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %};{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content[0].text }};{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content|map(attribute='text')|join }};{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m['content'][0]['text'] }};{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ (m.content|selectattr('type', 'equalto', 'text')|list)[0]['text'] }};{% endfor %}",
    ] {
        assert_eq!(rendered(source, &messages).unwrap(), "user: Hi;assistant: Yo;", "{source}");
    }
}

#[test]
fn a_text_beside_a_tool_call_is_not_lost() {
    let call = json!({"function": {"name": "f", "arguments": {}}});
    let said = Message { tool_calls: vec![call], ..Message::new("assistant", "I will look.") };
    let messages = [Message::new("user", "Hi"), said];
    let either = "{% for m in messages %}[{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% else %}{{ m.content }}{% endif %}]{% endfor %}";
    assert_eq!(rendered(either, &messages).unwrap(), "[Hi][I will look.][f]");
}

#[test]
fn a_dropped_message_is_an_error_that_names_it() {
    let only_users = "{% for m in messages if m.role == 'user' %}{{ m.content }}\n{% endfor %}";
    let messages =
        [Message::new("user", "Hi"), Message::new("assistant", "I said this."), Message::new("user", "So?")];
    let error = rendered(only_users, &messages).unwrap_err();
    assert!(matches!(&error, TemplateError::Dropped { index: 1, .. }), "{error}");
    assert!(error.to_string().contains("the assistant message 1 (\"I said this.\")"), "{error}");
    for constant in [
        "",
        "   ",
        "hello",
        "{{ messages[0].role }}",
        "{{ messages|length }}",
        "{# {{ messages[0].content }} #}",
    ] {
        assert!(
            matches!(rendered(constant, &messages[..1]), Err(TemplateError::Dropped { .. })),
            "{constant:?}"
        );
    }
    // Marks alone are a text too.
    let marks = [Message::new("user", "?!")];
    assert!(matches!(rendered("x", &marks), Err(TemplateError::Dropped { .. })));
    assert_eq!(rendered("{{ messages[0].content }}", &marks).unwrap(), "?!");
}

/// Letters with something between them are not the text, unless it is the JSON of a result, which templates write anew.
#[test]
fn a_text_in_pieces_is_an_error() {
    let pieces =
        "{% for m in messages %}{% for c in m.content|string %}{{ c|tojson }}{% endfor %}{% endfor %}";
    for text in ["Hello", "한국어 🦙", "[a] {b}"] {
        let rendered = rendered(pieces, &[Message::new("user", text)]);
        assert!(matches!(rendered, Err(TemplateError::Dropped { index: 0, .. })), "{text}: {rendered:?}");
    }
    let repr = "{% for m in messages %}{{ [m]|string|safe|list }}{% endfor %}";
    let rendered_apart = rendered(repr, &[Message::new("user", "Hello")]);
    assert!(matches!(rendered_apart, Err(TemplateError::Dropped { index: 0, .. })), "{rendered_apart:?}");
    let anew = "{% for m in messages %}{{ m.content|replace('\"', \"'\")|replace(':', ': ') }}{% endfor %}";
    let json = "{\"a\": [1, \"b\"]}";
    assert!(rendered(anew, &[Message::new("tool", json)]).is_ok());
    assert!(rendered(anew, &[Message::new("user", json)]).is_err());
    let spaced = "{% for m in messages %}{{ m.content|replace('\n', ' ')|replace(' ', '   ') }}{% endfor %}";
    assert!(rendered(spaced, &[Message::new("user", "One line\nand  another")]).is_err());
}

#[test]
fn thoughts_of_earlier_answers_may_be_dropped() {
    let drops = "{% for m in messages %}{{ m.content.split('</think>')[-1].strip() }};{% endfor %}";
    let answer = |text: &str| [Message::new("user", "Hi"), Message::new("assistant", text)];
    assert_eq!(rendered(drops, &answer("<think>Hm, 4?</think>\n\nFour.")).unwrap(), "Hi;Four.;");
    // The user's words are no thoughts.
    let user = [Message::new("user", "<think>mine</think> Hi")];
    assert!(matches!(rendered(drops, &user), Err(TemplateError::Dropped { index: 0, .. })));
}

/// Templates that lose something, with conversations in which the lost words are in the prompt for another reason.
#[test]
fn templates_that_lose_words_are_refused() {
    let all = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    let talk = |messages: &[(&str, &str)]| -> Vec<Message> {
        messages.iter().map(|&(role, text)| Message::new(role, text)).collect()
    };
    for (template, messages) in [
        (
            all.replace("in messages", "in messages[:-1]"),
            talk(&[("user", "ok"), ("assistant", "fine"), ("user", "ok")]),
        ),
        (
            all.replace("in messages", "in messages[:1]"),
            talk(&[("user", "Tell me about dogs"), ("assistant", "dogs"), ("user", "me")]),
        ),
        (
            all.replace("in messages", "in messages if m.role == 'user'"),
            talk(&[("assistant", "dog"), ("user", "I have a dog")]),
        ),
        ("Hello there".to_owned(), talk(&[("user", "ell")])),
        (all.replace("m.content", "m.content[:3]"), talk(&[("user", "abcdef")])),
        (all.replace("m.content", "m.content[1:]"), talk(&[("user", "abcdef")])),
        (all.replace("m.content", "m.content|replace('\n', '')"), talk(&[("user", "a\nb")])),
        (
            all.replace("m.content", "m.content|replace('\n', ' ')"),
            talk(&[("user", "def f():\n    return 1")]),
        ),
        (
            all.replace("m.content", "m.content|replace('-', '')|replace('.', '')"),
            talk(&[("user", "[1.5,-2]")]),
        ),
        (
            all.replace("m.content", "m.content|replace('-', '')|replace('.', '')"),
            talk(&[("user", "?"), ("tool", "t is -2.5 degrees")]),
        ),
        (all.replace("m.content", "m.content|list|join(' ')"), talk(&[("user", "[\"hello\",\"world\"]")])),
    ] {
        let template = ChatTemplate::new(&template, "<s>", "</s>").unwrap();
        let prompt = template.render(&messages, true);
        assert!(prompt.is_err(), "{messages:?}: {prompt:?}");
        // The words are the reason: the same conversation is rendered by a template that keeps them.
        let keeps = ChatTemplate::new(all, "<s>", "</s>").unwrap();
        assert!(keeps.render(&messages, true).is_ok(), "{messages:?}");
    }
}

/// DeepSeek R1's template writes a call only if the text beside it is none and the arguments are a text.
#[test]
fn calls_are_in_the_prompt_in_the_form_that_the_template_wants() {
    let call = json!({"id": "call00001", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}});
    let messages = [
        Message::new("user", "How is the weather in the city of Rome?"),
        Message { tool_calls: vec![call], ..Message::new("assistant", "") },
        Message {
            tool_call_id: Some("call00001".into()),
            ..Message::new("tool", "It is sunny and warm there")
        },
        Message::new("user", "And how will it be tomorrow?"),
    ];
    let mut with_calls = 0;
    for (name, template) in TEMPLATES.iter() {
        let Ok(prompt) = render(template, &messages) else { continue };
        let writes = prompt.contains("Rome\"") || prompt.contains("'Rome'") || prompt.contains("Rome</");
        with_calls += usize::from(writes);
        assert!(writes || !name.contains("DeepSeek-R1"), "{name}: {prompt}");
    }
    assert!(with_calls >= 20, "{with_calls}");
}
