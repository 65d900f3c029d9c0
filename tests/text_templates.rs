//! Chat templates against Jinja2's own renderings.
//!
//! `tests/fixtures/text/templates` holds templates written for these tests, each with what Jinja2 makes of
//! it. Real models' templates carry their owners' terms and are not in the repository: for those there are
//! length and hash of Jinja2's rendering, and `RFGRAPH_FIXTURES` names a folder with `templates/NAME.jinja`.
//! `render_templates.py` made both.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rfgraph::gguf::Gguf;
use rfgraph::text::{ChatTemplate, Message, TemplateError, Tokenizer, VocabData};

#[path = "support/outside.rs"]
mod outside;
use outside::outside;

fn fixtures() -> PathBuf {
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
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_230_245)
}

/// The conversation by a template; without its system message where the template refuses it.
fn render(source: &str) -> Result<String, TemplateError> {
    let template = ChatTemplate::new(source, "<s>", "</s>")?;
    let messages = conversation();
    template.render_at(&messages, true, now()).or_else(|_| template.render_at(&messages[1..], true, now()))
}

#[test]
fn templates_of_our_own_render_as_in_jinja2() {
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

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[test]
fn real_templates_render_as_in_jinja2() {
    let Some(folder) = outside("fixtures/templates") else { return };
    let digests = fs::read_to_string(fixtures().join("template-digests.txt")).unwrap();
    let mut failures = Vec::new();
    for line in digests.lines() {
        let [name, bytes, hash] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let source = fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        match render(&source) {
            Ok(text) if text.len().to_string() == bytes && format!("{:016x}", fnv1a(&text)) == hash => {}
            Ok(text) => failures.push(format!("{name}: differs, {} bytes instead of {bytes}", text.len())),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        digests.lines().count(),
        failures.join("\n")
    );
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let start = Instant::now();
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}";
    assert!(matches!(render(endless), Err(TemplateError::Endless)));
    let recursive = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}";
    assert!(matches!(render(recursive), Err(TemplateError::Failed { .. } | TemplateError::Endless)));
    // Ten million steps take about a second; this is room for a busy machine.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn errors_say_what_and_where() {
    let message = |source: &str| render(source).unwrap_err().to_string();
    assert_eq!(
        message("{{ raise_exception('only cats may speak') }}"),
        "the chat template refuses this conversation: only cats may speak"
    );
    let syntax = message("a\nb {% if %}");
    assert!(syntax.starts_with("tokenizer.chat_template, line 2: syntax error"), "{syntax}");
    assert!(syntax.ends_with("use --raw to go without the template"), "{syntax}");
    let failed = message("\n\n{{ messages.nothing.at_all }}");
    assert!(failed.starts_with("tokenizer.chat_template, line 3: undefined value"), "{failed}");
    assert!(message("{{ strftime_now('%Q') }}").contains("%Q"));
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(2000) %}{% set ns.x = [ns.x] %}{% endfor %}";
    for print in ["{{ ns.x }}", "{{ ns.x | tojson }}"] {
        let message = message(&format!("{deep}{print}"));
        assert!(message.contains("nested more than 100 deep"), "{message}");
    }
}

fn demo_vocabulary() -> VocabData {
    VocabData::from_metadata(Gguf::open(&fixtures().join("demo-vocab.gguf")).unwrap().metadata()).unwrap()
}

#[test]
fn the_demo_model_has_its_own_template_and_without_it_the_same() {
    let own = Tokenizer::new(demo_vocabulary()).unwrap();
    let without = Tokenizer::new(VocabData { chat_template: None, ..demo_vocabulary() }).unwrap();
    for tokenizer in [own, without] {
        let template = ChatTemplate::of(&tokenizer).unwrap();
        let text = template.render(&[Message::new("user", "What is 347 + 285?")], true).unwrap();
        assert_eq!(text, "<|im_start|>user\nWhat is 347 + 285?<|im_end|>\n<|im_start|>assistant\n");
        let ids = tokenizer.encode_chat(&text);
        assert_eq!(ids[..2], [0, 1]);
        assert_eq!(tokenizer.decode(&ids[1..], true), text);
    }
}

#[test]
fn without_any_template_the_error_names_the_way_out() {
    let path = fixtures().join("stories260K-vocab.gguf");
    let data = VocabData::from_metadata(Gguf::open(&path).unwrap().metadata()).unwrap();
    let error = ChatTemplate::of(&Tokenizer::new(data).unwrap()).err().unwrap();
    assert!(matches!(error, TemplateError::Missing));
    assert!(error.to_string().contains("--raw"));
}
