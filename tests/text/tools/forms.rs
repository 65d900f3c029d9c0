//! The form of a template's calls, and the arguments that cannot be written in it.

use rfgraph::sampling::Rng;
use rfgraph::text::{ChatTemplate, ConstraintFactory, Part, TokenKind, ToolChoice, ToolError, ToolFormat};
use serde_json::{Value, json};

use super::{CASES, PARSED, check, flat_tools, function, parts, tokenizer, walk};
use crate::answers::real_templates;

#[test]
fn templates_whose_calls_are_unknown_have_the_generic_form() {
    let mut generic: Vec<&str> =
        CASES.iter().filter(|case| case.format.is_generic()).map(|case| case.name.as_str()).collect();
    generic.dedup_by_key(|name| name.split(',').next().unwrap().to_owned());
    let names: Vec<&str> = generic.iter().map(|name| name.split(',').next().unwrap()).collect();
    assert_eq!(names, GENERIC);
    // One call at a time, by their templates.
    let single: Vec<&str> = CASES
        .iter()
        .filter(|case| case.name.ends_with("text") && !case.format.is_parallel())
        .map(|case| case.name.split(',').next().unwrap())
        .collect();
    assert_eq!(single, SINGLE);
}

/// Templates that neither write calls nor have the markers of any.
const GENERIC: [&str; 8] = [
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "HuggingFaceTB-SmolLM3-3B",
    "LFM2-8B-A1B",
    "LFM2.5-Instruct",
    "fireworks-ai-llama-3-firefunction-v2",
    "google-gemma-2-2b-it",
    "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
];

/// Templates that write one call of a message with several, or refuse them.
const SINGLE: [&str; 7] = [
    "GigaChat3-10B-A1.8B",
    "GigaChat3.1-10B-A1.8B",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
    "openai-gpt-oss-120b",
];

/// A template may write calls with more arguments otherwise: their places are no places of the texts of others.
#[test]
fn a_template_that_tells_calls_apart_is_no_panic() {
    for (few, many) in [("x", "é"), ("xyz", "🦙"), ("xxxx", ""), ("é", "x"), ("[é", "한[")] {
        let template = format!(
            "{{% for m in messages %}}{{% if m.tool_calls %}}{{% for c in m.tool_calls %}}{{% if c.function.arguments|length > 1 %}}{many}\
             {{% else %}}{few}{{% endif %}}{{{{ {{'name': c.function.name, 'arguments': c.function.arguments}}|tojson }}}}{{% endfor %}}\
             {{% elif m.role == 'user' %}}{{{{ m.content }}}}{{% else %}}{few}{{{{ m.content }}}}{{% endif %}}{{% endfor %}}"
        );
        let tokenizer = tokenizer(&template, &[], TokenKind::Control);
        let compiled = ChatTemplate::of(&tokenizer).unwrap();
        let format = ToolFormat::of(&compiled, &tokenizer);
        assert!(format.answers(&flat_tools()).is_ok(), "{few} {many}");
    }
}

/// Templates that do not write calls, with the markers of their models' vocabularies.
#[test]
fn markers_of_the_vocabulary_give_the_form_that_a_template_does_not_show() {
    let templates = real_templates();
    for (name, tokens, expected) in [
        ("LFM2-8B-A1B", ["<|tool_call_start|>", "<|tool_call_end|>"], "[note(text='a')]"),
        ("LFM2.5-Instruct", ["<|tool_call_start|>", "<|tool_call_end|>"], "[note(text='a')]"),
        (
            "ibm-granite-granite-3.3-2B-Instruct",
            ["<|tool_call|>", ""],
            "[{\"name\": \"note\", \"arguments\": {\"text\":\"a\"}}]",
        ),
    ] {
        let (_, template, plain) = templates.iter().find(|(other, ..)| other == name).unwrap();
        let tokens: Vec<&str> = tokens.into_iter().filter(|token| !token.is_empty()).collect();
        let tokenizer = tokenizer(plain.chat_template().unwrap(), &tokens, TokenKind::Control);
        let format = ToolFormat::of(template, &tokenizer);
        assert!(!format.is_generic(), "{name}");
        let factory = ConstraintFactory::new(&tokenizer).unwrap();
        let mut constraint =
            format.constraint(&factory, &flat_tools(), &ToolChoice::Required, false).unwrap();
        let answer = format!("{}{expected}{}", tokens[0], tokens.get(1).unwrap_or(&""));
        let options = PARSED;
        let ids = tokenizer.encode(&answer, options);
        ids.iter().for_each(|&id| constraint.accept(id).unwrap_or_else(|error| panic!("{name}: {error}")));
        let parts = parts(&format, &tokenizer, &flat_tools(), &ids);
        assert_eq!(check(&parts, &flat_tools()), Ok(1), "{name}: {parts:?}");
    }
}

/// Templates whose calls the tables of markers do not read.
const UNKNOWN_TO_TABLES: [&str; 10] = [
    // Its markers are control tokens, which this vocabulary lacks.
    "GigaChat3-10B-A1.8B",
    "Kimi-K3",
    "MiniMax-M3",
    "meetkai-functionary-medium-v3.1",
    "meetkai-functionary-medium-v3.2",
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
    "openbmb-MiniCPM5-1B",
    "tencent-Hy3",
];

/// A probed form allows exactly the texts that the tables of markers read, where they know the format.
#[test]
fn tables_and_probed_forms_agree() {
    let properties =
        json!({"city": {"enum": ["Oslo", "Rome"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}});
    let tools = [function(
        "get_weather",
        json!({"type": "object", "properties": properties, "required": ["city", "n"]}),
    )];
    let mut unknown = Vec::new();
    for case in CASES.iter().filter(|case| case.name.ends_with("text") && !case.format.is_generic()) {
        let constraint = case.format.constraint(&case.factory, &tools, &ToolChoice::Required, true).unwrap();
        let answers =
            (0..8).filter_map(|seed| walk(&case.tokenizer, &mut constraint.clone(), &mut Rng::new(seed)));
        let mut agree = true;
        for tokens in answers.take(3) {
            let by_form = parts(&case.format, &case.tokenizer, &tools, &tokens);
            let by_table = parts(&case.format, &case.tokenizer, &[], &tokens);
            let calls = |parts: &[Part]| {
                let calls = parts.iter().flat_map(|part| part.calls.clone());
                calls.map(|call| (call.name, call.arguments)).collect::<Vec<_>>()
            };
            assert!(!calls(&by_form).is_empty(), "{}", case.name);
            agree &= calls(&by_form) == calls(&by_table);
        }
        unknown.extend((!agree).then(|| case.name.trim_end_matches(", text")));
    }
    assert_eq!(unknown, UNKNOWN_TO_TABLES);
}

#[test]
fn what_cannot_be_kept_names_the_tool_and_the_path() {
    let case = |name: &str| CASES.iter().find(|case| case.name.starts_with(name)).unwrap();
    let refusal = |name: &str, parameters: Value| {
        let case = case(name);
        let tools = [function("ok", json!({"type": "object"})), function("bad", parameters)];
        case.format.constraint(&case.factory, &tools, &ToolChoice::Auto, true).unwrap_err().to_string()
    };
    let property = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    for name in ["Qwen-Qwen3-0.6B", "Qwen3-Coder", "google-gemma-4-31B-it", "LFM2.5-8B-A1B"] {
        let error = refusal(name, property(json!({"type": "string", "pattern": "(?<=a)b"})));
        assert!(
            error.starts_with("tool `bad`: ") && error.contains("#/properties/a/pattern"),
            "{name}: {error}"
        );
        let error = refusal(
            name,
            property(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true})),
        );
        assert!(
            error.starts_with("tool `bad`: ") && error.contains("#/properties/a/uniqueItems"),
            "{name}: {error}"
        );
        let error = refusal(name, json!({"type": "string"}));
        assert!(error.starts_with("tool `bad`: "), "{name}: {error}");
    }
    let error = refusal("Qwen3-Coder", json!({"type": "object", "additionalProperties": {"type": "string"}}));
    assert!(error.contains("#/additionalProperties"), "{error}");
    let error = refusal("Qwen3-Coder", property(json!({"enum": ["a", "x\n</parameter>"]})));
    assert!(error.contains("#/properties/a/enum") && error.contains("</parameter>"), "{error}");
    let case = case("Qwen-Qwen3-0.6B");
    let constraint = |tools: &[Value], choice: &ToolChoice| {
        case.format.constraint(&case.factory, tools, choice, true).map(|_| ()).unwrap_err()
    };
    assert_eq!(constraint(&[], &ToolChoice::Required), ToolError::NoTools);
    assert_eq!(constraint(&flat_tools(), &ToolChoice::Named("x".into())), ToolError::Unknown("x".into()));
    let twice = [function("f", json!({})), function("f", json!({}))];
    assert!(matches!(constraint(&twice, &ToolChoice::Auto), ToolError::Malformed { index: 1, .. }));
    let quoted = [function("f\"", json!({}))];
    assert!(matches!(constraint(&quoted, &ToolChoice::Auto), ToolError::Malformed { index: 0, .. }));
}

/// Schemas whose choices multiply are refused or kept, in a time that their size justifies.
#[test]
fn choices_of_choices_end_in_time() {
    let mut definitions =
        json!({"last": {"type": "string"}, "loop": {"anyOf": vec![json!({"$ref": "#/$defs/loop"}); 4]}});
    for n in 0..24 {
        let next = if n == 23 { "last".to_owned() } else { format!("c{}", n + 1) };
        let choices = vec![json!({"$ref": format!("#/$defs/{next}")}); 4];
        definitions[format!("c{n}")] = json!({"anyOf": choices});
    }
    let start = std::time::Instant::now();
    for (name, reference) in [
        ("Qwen3-Coder", "c0"),
        ("google-gemma-4-31B-it", "c0"),
        ("MiniMax-M3", "c0"),
        ("Qwen3-Coder", "loop"),
    ] {
        let case = CASES.iter().find(|case| case.name.starts_with(name)).unwrap();
        let reference = json!({"$ref": format!("#/$defs/{reference}")});
        let parameters = json!({"type": "object", "properties": {"a": reference}, "$defs": definitions});
        let tools = [function("f", parameters)];
        let _refused = case.format.constraint(&case.factory, &tools, &ToolChoice::Required, true).is_err();
        let mut parser = case.format.answers(&tools).unwrap().parser(&[]);
        parser.push_text(
            "<tool_call>\n<function=f>\n<parameter=a>\nx\n</parameter>\n</function>\n</tool_call>",
        );
        parser.finish();
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_template_without_tools_needs_instructions() {
    let needs = |name: &str| {
        let case = CASES.iter().find(|case| case.name.starts_with(name)).unwrap();
        case.format.instructions(&flat_tools()).unwrap()
    };
    for name in ["google-gemma-2-2b-it", "microsoft-Phi-3.5-mini-instruct"] {
        let text = needs(name).unwrap();
        assert!(["get_weather", "maxLength", "<tool_call>"].iter().all(|word| text.contains(word)), "{text}");
    }
    for name in ["Qwen-Qwen3-0.6B", "openai-gpt-oss-120b", "ibm-granite-granite-3.3-2B-Instruct"] {
        assert_eq!(needs(name), None, "{name}");
    }
}
