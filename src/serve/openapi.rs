//! `/openapi.json`: a description of all routes, from the table of routes, the samplers' parameters and the fields below.

use serde_json::{Map, Value, json};

use super::ServeOptions;
use super::error::Family;
use crate::sampling::{SamplerParams, Value as Parameter};

/// The kind of a field's value, as JSON schema.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Flag,
    /// A whole number, this or more.
    Count(i64),
    List,
    Object,
    /// A text, or a list of texts or tokens.
    Texts,
    /// A value of several kinds.
    Any,
}

/// A field: its name, its kind, what it is. A name that ends with `!` is required.
type Field = (&'static str, Kind, &'static str);

const MODEL: Field = ("model", Kind::Text, "Name of the model; the only one if it is left out");
const STREAM: Field = ("stream", Kind::Flag, "Give the answer piece by piece");
const TOOLS: Field = ("tools", Kind::List, "Functions that the model may call");
const MESSAGES: Field = ("messages!", Kind::List, "The conversation");
const STOP: Field = ("stop", Kind::Texts, "Texts that end the answer");
const CHOICE: Field = ("tool_choice", Kind::Any, "The tools that may or must be called");
const SEED: Field = ("seed", Kind::Any, "The same seed gives the same answer");
const BIAS: Field = ("logit_bias", Kind::Any, "Added to the logits of tokens");
const THOUGHTS: Field = ("reasoning_budget_tokens", Kind::Count(-1), "Most tokens of thoughts; -1: no limit");
const MIN: Field = ("min_tokens", Kind::Count(0), "Tokens before the answer may end");
const CHOICES: Field = ("n", Kind::Count(1), "Number of answers");

/// The bodies by their paths without `/v1`: the fields that a route has beside the samplers' parameters, if `true`.
const BODIES: &[(&str, bool, &[Field])] = &[
    (
        "/chat/completions",
        true,
        &[
            MODEL,
            MESSAGES,
            STREAM,
            CHOICES,
            STOP,
            SEED,
            BIAS,
            TOOLS,
            CHOICE,
            THOUGHTS,
            MIN,
            ("max_completion_tokens", Kind::Count(0), "Most tokens of the answer"),
            ("response_format", Kind::Object, "Text, JSON or a JSON schema"),
            ("logprobs", Kind::Flag, "Give log-probabilities"),
            ("top_logprobs", Kind::Count(0), "Number of the most probable tokens to give"),
            ("reasoning_effort", Kind::Text, "The effort of thinking"),
            ("stream_options", Kind::Object, "include_usage: the counts at the end"),
            ("parallel_tool_calls", Kind::Flag, "Several calls in an answer"),
        ],
    ),
    ("/chat/completions/input_tokens", false, &[MODEL, MESSAGES, TOOLS]),
    (
        "/messages",
        true,
        &[
            MODEL,
            MESSAGES,
            STREAM,
            TOOLS,
            CHOICE,
            ("max_tokens!", Kind::Count(1), "Most tokens of the answer"),
            ("system", Kind::Any, "The system message"),
            ("stop_sequences", Kind::Texts, "Texts that end the answer"),
            ("thinking", Kind::Object, "Turns thoughts on or off; budget_tokens: their most tokens"),
        ],
    ),
    ("/messages/count_tokens", false, &[MODEL, MESSAGES, TOOLS, ("system", Kind::Any, "The system message")]),
    (
        "/responses",
        true,
        &[
            MODEL,
            STREAM,
            TOOLS,
            CHOICE,
            ("input!", Kind::Any, "A text, or items of the conversation"),
            ("instructions", Kind::Text, "The system message"),
            ("previous_response_id", Kind::Text, "The response that this one goes on from"),
            ("store", Kind::Flag, "Keep the response"),
            ("max_output_tokens", Kind::Count(1), "Most tokens of the answer"),
            ("reasoning", Kind::Object, "effort: the effort of thinking"),
            ("text", Kind::Object, "format: text, JSON or a JSON schema"),
        ],
    ),
    ("/responses/input_tokens", false, &[MODEL, TOOLS, ("input!", Kind::Any, "A text, or items")]),
    (
        "/v1/completions",
        true,
        &[
            MODEL,
            STREAM,
            CHOICES,
            STOP,
            SEED,
            BIAS,
            MIN,
            ("prompt", Kind::Texts, "Texts or tokens to continue"),
            ("max_tokens", Kind::Count(0), "Most tokens of the answer"),
            ("echo", Kind::Flag, "Give the prompt too"),
            ("logprobs", Kind::Count(0), "Number of the most probable tokens to give"),
            ("suffix", Kind::Text, "The text after the answer"),
        ],
    ),
    (
        "/v1/embeddings",
        false,
        &[
            MODEL,
            ("input!", Kind::Texts, "Texts or tokens"),
            ("encoding_format", Kind::Text, "float or base64"),
            ("dimensions", Kind::Count(1), "Numbers of a vector"),
        ],
    ),
    ("/completion", true, COMPLETION),
    ("/completions", true, COMPLETION),
    (
        "/infill",
        true,
        &[
            STREAM,
            STOP,
            SEED,
            ("input_prefix!", Kind::Text, "The text before the middle"),
            ("input_suffix!", Kind::Text, "The text after the middle"),
            ("input_extra", Kind::List, "Other files: filename and text"),
        ],
    ),
    (
        "/tokenize",
        false,
        &[
            ("content!", Kind::Text, "The text"),
            ("add_special", Kind::Flag, "Add the tokens that begin a text"),
            ("with_pieces", Kind::Flag, "Give the text of each token"),
        ],
    ),
    ("/detokenize", false, &[("tokens!", Kind::List, "The tokens")]),
    ("/apply-template", false, &[MESSAGES, TOOLS]),
    ("/embedding", false, &[("content", Kind::Texts, "The texts")]),
    ("/embeddings", false, &[("content", Kind::Texts, "The texts")]),
    (
        "/api/chat",
        false,
        &[
            ("model!", Kind::Text, "Name of the model"),
            ("messages", Kind::List, "The conversation"),
            STREAM,
            TOOLS,
            ("format", Kind::Any, "json, or a JSON schema"),
            ("think", Kind::Any, "Turns thoughts on or off"),
            ("options", Kind::Object, "The samplers' parameters, num_predict, seed, stop"),
        ],
    ),
    (
        "/api/generate",
        false,
        &[
            ("model!", Kind::Text, "Name of the model"),
            ("prompt", Kind::Text, "The text to answer"),
            STREAM,
            ("raw", Kind::Flag, "Without the template"),
            ("options", Kind::Object, "The samplers' parameters, num_predict, seed, stop"),
        ],
    ),
    (
        "/api/embed",
        false,
        &[("model!", Kind::Text, "Name of the model"), ("input!", Kind::Texts, "The texts")],
    ),
    (
        "/api/embeddings",
        false,
        &[("model!", Kind::Text, "Name of the model"), ("prompt", Kind::Text, "The text")],
    ),
    ("/api/show", false, &[("model!", Kind::Text, "Name of the model")]),
    ("/api/pull", false, &[("model!", Kind::Text, "USER/REPO or USER/REPO:QUANT on Hugging Face"), STREAM]),
    (
        "/api/copy",
        false,
        &[("source!", Kind::Text, "Name of the model"), ("destination!", Kind::Text, "The further name")],
    ),
    ("/models/load", false, &[("model!", Kind::Text, "Name of the model")]),
    ("/models/unload", false, &[("model!", Kind::Text, "Name of the model")]),
];

/// llama-server's completion.
const COMPLETION: &[Field] = &[
    STREAM,
    STOP,
    SEED,
    BIAS,
    MIN,
    ("prompt!", Kind::Texts, "Texts or tokens to continue"),
    ("n_predict", Kind::Count(-2), "Most tokens of the answer; -1: no limit"),
    ("n_probs", Kind::Count(0), "Number of the most probable tokens to give"),
    ("grammar", Kind::Text, "A grammar of the answer"),
    ("json_schema", Kind::Object, "A JSON schema of the answer"),
    ("cache_prompt", Kind::Flag, "Share the computed prompt"),
];

/// The description of these routes.
pub(super) fn document(routes: &[(String, &'static str)], options: &ServeOptions) -> Value {
    let mut paths = Map::new();
    for (path, methods) in routes {
        let mut item = Map::new();
        for method in methods.split(" | ") {
            let (method, summary) = method.split_once(' ').unwrap_or((method, ""));
            item.insert(method.to_ascii_lowercase(), operation(path, method, summary));
        }
        paths.insert(path.clone(), item.into());
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rfgraph",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Unknown fields are ignored; a known field with a wrong value is status 400.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Sampling": sampling(), "Error": {"type": "object"}},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    });
    if !options.keys.is_empty() {
        document["security"] = json!([{"bearer": []}, {"x-api-key": []}]);
    }
    document
}

fn operation(path: &str, method: &str, summary: &str) -> Value {
    let family = match Family::of(path) {
        Family::Anthropic => "Anthropic",
        Family::Ollama => "ollama",
        Family::OpenAi if path.starts_with("/v1") => "OpenAI",
        Family::OpenAi => "others",
    };
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter =
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let mut operation = json!({
        "summary": summary,
        "operationId": format!("{} {path}", method.to_ascii_lowercase()),
        "tags": [family],
        "parameters": names.map(parameter).collect::<Vec<Value>>(),
        "responses": {
            "200": {"description": "The answer"},
            "default": {
                "description": "An error, in the shape of the family",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    });
    if method == "POST" {
        let schema = body(path);
        let content = json!({"application/json": {"schema": schema}});
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

/// The schema of a route's body.
fn body(path: &str) -> Value {
    let row = |wanted: &str| BODIES.iter().find(|(path, ..)| *path == wanted);
    let Some((_, samples, fields)) = row(path).or_else(|| row(path.strip_prefix("/v1")?)) else {
        return json!({"type": "object"});
    };
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, kind, description) in *fields {
        let plain = name.trim_end_matches('!');
        if plain != *name {
            required.push(plain);
        }
        let mut schema = kind.schema();
        schema["description"] = (*description).into();
        properties.insert(plain.to_owned(), schema);
    }
    let own = json!({"type": "object", "properties": properties, "required": required});
    match samples {
        true => json!({"allOf": [own, {"$ref": "#/components/schemas/Sampling"}]}),
        false => own,
    }
}

impl Kind {
    fn schema(self) -> Value {
        match self {
            Kind::Text => json!({"type": "string"}),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Count(least) => json!({"type": "integer", "minimum": least}),
            Kind::List => json!({"type": "array"}),
            Kind::Object => json!({"type": "object"}),
            Kind::Texts => json!({"type": ["string", "array"]}),
            Kind::Any => json!({}),
        }
    }
}

/// The samplers' parameters with their ranges.
fn sampling() -> Value {
    let mut properties = Map::new();
    for parameter in SamplerParams::default().parameters() {
        let schema = match parameter.value {
            Parameter::Number(_, range) => json!({"type": "number", "description": range.describe()}),
            Parameter::Count(_, usize::MAX) => json!({"type": "integer", "minimum": -1}),
            Parameter::Count(_, most) => json!({"type": "integer", "minimum": -1, "maximum": most}),
            Parameter::Texts(_) => json!({"type": "array", "items": {"type": "string"}}),
        };
        properties.insert(parameter.name.to_owned(), schema);
    }
    json!({"type": "object", "properties": properties})
}
