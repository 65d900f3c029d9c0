//! A model that thinks: its thoughts stand apart from the text, or in it.

use rfgraph::serve::{Loaded, ModelNames, ServeOptions, Server};
use rfgraph::{Engine, Model, SamplerParams};
use serde_json::{Value, json};

use crate::client::{engine_options, post_to};

/// Opens the thoughts of each answer, which the demo model never ends.
const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content.split('</think>')[-1] }}<|im_end|>\n\
    {% endfor %}<|im_start|>assistant\n<think>";

fn thinking(thoughts_apart: bool) -> Server {
    let server = Server::start(ServeOptions { port: 0, thoughts_apart, ..ServeOptions::default() }).unwrap();
    let engine = Engine::start(&Model::demo().unwrap(), engine_options()).unwrap();
    let names = ModelNames { id: "demo".into(), aliases: Vec::new() };
    let mut loaded = Loaded::new(engine, names, SamplerParams::default());
    loaded.set_template(TEMPLATE).unwrap();
    server.set_model(Ok(loaded));
    server
}

/// The thoughts and the text of an answer.
fn answered(server: &Server, fields: Value) -> (String, String) {
    let mut body = json!({
        "temperature": 0, "max_tokens": 12, "ignore_eos": true, "messages": [{"role": "user", "content": "What is 347 + 285?"}],
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let answer = post_to(server.address(), "/v1/chat/completions", &body).json(200);
    let message = &answer["choices"][0]["message"];
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    (text("reasoning_content"), text("content"))
}

#[test]
fn thoughts_are_apart_unless_the_request_or_the_server_says_none() {
    let (apart, inside) = (thinking(true), thinking(false));
    let (thoughts, text) = answered(&apart, json!({}));
    let thoughts = thoughts.trim().to_owned();
    assert!(!thoughts.is_empty() && text.is_empty(), "{thoughts:?}, {text:?}");
    for (server, fields, is_apart) in [
        (&apart, json!({"reasoning_format": "none"}), false),
        (&apart, json!({"reasoning_format": "auto"}), true),
        (&inside, json!({}), false),
        (&inside, json!({"reasoning_format": "deepseek"}), true),
    ] {
        let (found, text) = answered(server, fields.clone());
        // In the text they keep the white space around them.
        let expected = if is_apart { (thoughts.as_str(), "") } else { ("", thoughts.as_str()) };
        assert_eq!((found.as_str(), text.trim()), expected, "{fields}");
    }
    apart.stop();
    inside.stop();
}
