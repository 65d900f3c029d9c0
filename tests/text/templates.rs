//! Chat templates, compared with Jinja2's renderings.
//!
//! `tests/fixtures/text/templates` holds templates written for these tests, each with its rendering by Jinja2;
//! `templates/real` those of real models (from llama.cpp's `models/templates`, MIT), each with Jinja2's rendering of
//! the conversations in `cases.json`, without tools and with them. `render_templates.py` made them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rfgraph::text::{ChatTemplate, Message, RenderOptions, TemplateError};
use serde_json::Value;

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text")
}

/// The conversation that `render_templates.py` renders.
fn conversation() -> Vec<Message> {
    vec![
        Message::new("system", "Be brief.\nSay \"yes\" & 'no' <b>."),
        Message::new("user", "  What is 2 + 2?\n"),
        Message::new("assistant", "4"),
        Message::new("user", "Und auf Koreanisch? 한국어 🦙"),
    ]
}

/// 21 November 2026, 03:04:05 UTC.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_230_245)
}

/// Renders the conversation with a template.
fn render(source: &str) -> Result<String, TemplateError> {
    let options = RenderOptions { add_generation_prompt: true, now: Some(now()), ..RenderOptions::default() };
    ChatTemplate::new(source, "<s>", "</s>")?.render_with(&conversation(), &options)
}

#[test]
fn own_templates_render_as_in_jinja2() {
    let mut count = 0;
    for entry in fs::read_dir(fixtures().join("templates")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            let expected = fs::read_to_string(path.with_extension("txt")).unwrap();
            let got = render(&fs::read_to_string(&path).unwrap());
            assert_eq!(
                got.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
                expected,
                "{}",
                path.display()
            );
            count += 1;
        }
    }
    assert!(count >= 5, "{count} templates");
}

/// The rendering of a case by a real template.
fn render_case(source: &str, case: &Value) -> Result<String, TemplateError> {
    let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
    let options = RenderOptions {
        add_generation_prompt: true,
        tools: case["tools"].as_array().unwrap(),
        variables: case["variables"].as_object().unwrap().clone(),
        now: Some(now()),
    };
    ChatTemplate::new(source, "<s>", "</s>")?.render_with(&messages, &options)
}

/// The first place where two texts differ, with the text around it.
fn difference(got: &str, expected: &str) -> String {
    let at = got.chars().zip(expected.chars()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| text.chars().skip(at.saturating_sub(30)).take(80).collect::<String>();
    format!("character {at}: {:?} instead of {:?}", part(got), part(expected))
}

#[test]
fn real_templates_render_as_in_jinja2() {
    let folder = fixtures().join("templates");
    let cases: Value = serde_json::from_str(&fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap();
    let (mut renderings, mut failures) = (0, Vec::new());
    for entry in fs::read_dir(folder.join("real")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap();
        let Some((name, case)) = file.strip_suffix(".txt").and_then(|file| file.rsplit_once('.')) else {
            continue;
        };
        let source = fs::read_to_string(path.with_file_name(format!("{name}.jinja"))).unwrap();
        renderings += 1;
        let complaint = match render_case(&source, &cases["cases"][case]) {
            Ok(text) => {
                let expected = fs::read_to_string(&path).unwrap();
                (text != expected).then(|| difference(&text, &expected))
            }
            Err(error) => Some(error.to_string()),
        };
        failures.extend(complaint.map(|complaint| format!("{name}, {case}: {complaint}")));
    }
    failures.sort();
    assert!(failures.is_empty(), "{} of {renderings}:\n{}", failures.len(), failures.join("\n"));
    assert!(renderings > 120, "{renderings} renderings");
}

/// A template that refuses a system message gets its text elsewhere (`conversations`); what it refuses for another
/// reason is an error with its words.
#[test]
fn errors_raised_by_templates_are_reported() {
    let source = fs::read_to_string(fixtures().join("templates/real/google-gemma-2-2b-it.jinja")).unwrap();
    let template = ChatTemplate::new(&source, "<s>", "</s>").unwrap();
    let error = template.render(&[Message::new("assistant", "Hi")], true).unwrap_err();
    let expected = "Conversation roles must alternate user/assistant/user/assistant/...";
    assert!(matches!(&error, TemplateError::Refused(why) if why == expected), "{error}");
}

#[test]
fn errors_have_a_reason_and_a_place() {
    let message = |source: &str| render(source).unwrap_err().to_string();
    assert_eq!(
        message("{{ raise_exception('only cats may speak') }}"),
        "the chat template refuses this conversation: only cats may speak"
    );
    let syntax = message("a\nb {% if %}");
    assert!(syntax.starts_with("tokenizer.chat_template, line 2: syntax error"), "{syntax}");
    assert!(syntax.ends_with("a plain prompt needs no template"), "{syntax}");
    let failed = message("\n\n{{ messages.nothing.at_all }}");
    assert!(failed.starts_with("tokenizer.chat_template, line 3: undefined value"), "{failed}");
    // Rewritten operators keep their lines, and so does what follows a long comment.
    let operator = message("{#\n\n#}\n{% set x = [\n 1] %}\n{{ x +\n 1 }}");
    assert!(operator.starts_with("tokenizer.chat_template, line 6: "), "{operator}");
    assert!(message("{{ strftime_now('%Q') }}").contains("%Q"));
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(2000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for print in ["{{ ns.x }}", "{{ ns.x | tojson }}"] {
        let message = message(&format!("{deep}{print}"));
        assert!(message.contains("nested more than 100 deep"), "{message}");
    }
}
