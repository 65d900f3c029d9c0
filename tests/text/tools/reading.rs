//! Reading calls: those of models that do not keep to their form in everything, and answers of all kinds.

use proptest::prelude::*;
use serde_json::json;

use super::{CASES, PARSED, flat_tools, parts};
use crate::answers::cut_parts_in;

/// Answers as models write them who do not keep to their template in everything.
#[test]
fn calls_with_other_white_space_and_spellings_are_read() {
    let read = |name: &str, answer: &str| {
        let case = CASES.iter().find(|case| case.name.starts_with(name)).unwrap();
        let tokens = case.tokenizer.encode(answer, PARSED);
        let parts = parts(&case.format, &case.tokenizer, &flat_tools(), &tokens);
        parts
            .into_iter()
            .flat_map(|part| part.calls)
            .map(|call| (call.name, call.arguments))
            .collect::<Vec<_>>()
    };
    let note = |text: &str| vec![("note".to_owned(), json!({ "text": text }))];
    for (name, answer, text) in [
        ("meta-llama-Llama-3.1", "{ \"name\" : \"note\", \"parameters\": {\"text\": \"3\"} }", "3"),
        (
            "meta-llama-Llama-3.1",
            "<|python_tag|>{\"name\": \"note\", \"parameters\": {\"text\": \"a\"}}",
            "a",
        ),
        ("meta-llama-Llama-3.1", "<|python_tag|>note.call(text=\"a b\")", "a b"),
        (
            "meetkai-functionary-medium-v3.1",
            "<function=note>{\"text\": \"x</function>y\"}</function>",
            "x</function>y",
        ),
        ("meetkai-functionary-medium-v3.2", "note\n{\"text\": \"a\"}", "a"),
        ("meetkai-functionary-medium-v3.2", "all\nI note it.\n>>>note\n{\"text\": \"a\"}", "a"),
        (
            "Qwen3-Coder",
            "<tool_call><function=note><parameter=text>007</parameter></function></tool_call>",
            "007",
        ),
        (
            "Qwen3-Coder",
            "<tool_call>\n<function=note>\n<parameter=text>\n a\n\n</parameter>\n</function>\n</tool_call>",
            " a\n",
        ),
        (
            "Qwen-Qwen3-0.6B",
            "<tool_call>{\"name\": \"note\", \"arguments\": {\"text\": \"</tool_call>\"}}</tool_call>",
            "</tool_call>",
        ),
        (
            "openbmb-MiniCPM5-1B",
            "<function name=\"note\">\n<param name=\"text\">true</param>\n</function>",
            "true",
        ),
        (
            "MiniMax-M2",
            "<minimax:tool_call>\n<invoke name=\"note\">\n<parameter name=\"text\">1.50</parameter>\n</invoke>\n</minimax:tool_call>",
            "1.50",
        ),
        ("LFM2.5-8B-A1B", "<|tool_call_start|>[note(text=\"it's \\u00e9\")]<|tool_call_end|>", "it's é"),
        ("google-gemma-4-31B-it", "<|tool_call>call:note{text:<|\"|>3<|\"|>}<tool_call|>", "3"),
        (
            "tencent-Hy3",
            "<tool_calls:opensource><tool_call:opensource>note<tool_sep:opensource><arg_key:opensource>text</arg_key:opensource><arg_value:opensource>3</arg_value:opensource></tool_call:opensource></tool_calls:opensource>",
            "3",
        ),
        (
            "GigaChat3-10B",
            "<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"note\", \"arguments\": {\"text\": \"a\"}}",
            "a",
        ),
    ] {
        assert_eq!(read(name, answer), note(text), "{name}: {answer}");
    }
    // Texts that begin like calls, and calls that are cut.
    for (name, answer) in [
        ("meta-llama-Llama-3.1", "{\"city\": \"Oslo\"}"),
        ("meta-llama-Llama-3.1", "{\"name\": \"note\", \"parameters\": {\"te"),
        ("meta-llama-Llama-3.1", "note"),
        ("meetkai-functionary-medium-v3.2", "all\nnote\n{}"),
        ("meetkai-functionary-medium-v3.2", "notes are good"),
        ("meetkai-functionary-medium-v3.1", "<function=note>{\"text\": \"a\"}"),
        ("openbmb-MiniCPM5-1B", "<function name=\"note\"><param name=\"text\">a"),
        ("Kimi-K3", "<|open|>tools<|sep|><|open|>call tool=\"note\""),
    ] {
        assert_eq!(read(name, answer), [], "{name}: {answer}");
    }
}

/// Pieces of answers: those of the formats, and others.
fn soup() -> impl Strategy<Value = Vec<String>> {
    let pieces = [
        "<function=",
        "note",
        "now",
        ">",
        "{\"text\": \"a\"}",
        "{}",
        "</function>",
        "{\"name\": \"",
        "\", \"parameters\": ",
        "\", \"arguments\": ",
        "}",
        "all\n",
        ">>>",
        "\n",
        " ",
        "a",
        "\"",
        "{",
        "<|python_tag|>",
        "<tool_call>",
        "</tool_call>",
        "<|open|>",
        "tools",
        "<|sep|>",
        "<|close|>",
        "call tool=\"note\" index=\"1\"",
        "argument key=\"text\" type=\"string\"",
        "]<]minimax[>[",
        "<invoke name=\"note\">",
        "</invoke>",
        "<text>",
        "</text>",
        "<param name=\"text\">",
        "</param>",
        "<function name=\"",
        "\">",
        "<think>",
        "</think>",
        "é",
        "<|message_sep|>\n\nfunction call<|role_sep|>\n",
        "<parameter=text>",
        "</parameter>",
        "<tool_calls:opensource>",
        "call:note{",
        "<|\"|>",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), 0..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// No byte is lost, and the parts do not depend on how the answer is cut.
    #[test]
    fn no_answer_that_may_call_loses_a_byte(
        pieces in soup(), cuts in prop::collection::vec(1usize..6, 1..8), case in any::<prop::sample::Index>(),
        thinks in any::<bool>(),
    ) {
        let case = case.get(CASES.as_slice());
        let answer = pieces.concat();
        let format = case.format.answers(&flat_tools()).unwrap();
        let prompt = if thinks { "<think>\n" } else { "<|start|>assistant" };
        let one = cut_parts_in(&format, &case.tokenizer, prompt, &answer, &[1]);
        let raw: String = one.iter().map(|part| part.raw.as_str()).collect();
        prop_assert_eq!(&raw, &answer);
        prop_assert_eq!(&one, &cut_parts_in(&format, &case.tokenizer, prompt, &answer, &cuts));
    }
}
