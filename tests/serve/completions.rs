//! Plain completions and embeddings.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::client::post;

const COMPLETIONS: &str = "/v1/completions";

#[test]
fn text_is_continued_and_streamed_alike() {
    let body = json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 12});
    let whole = post(COMPLETIONS, &body).json(200);
    let text = whole["choices"][0]["text"].as_str().unwrap();
    assert!(!text.is_empty());
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    let streamed = post(
        COMPLETIONS,
        &json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 12, "stream": true}),
    );
    let pieces = streamed.events();
    let joined: String = pieces.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    assert_eq!(joined, text);
}

/// The form that evaluations use: each answer's probability, and whether it is the most probable one.
#[test]
fn echoed_logprobs_are_those_of_single_steps() {
    let body =
        json!({"prompt": "Once upon a time", "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0});
    let answer = post(COMPLETIONS, &body).json(200);
    let lists = &answer["choices"][0]["logprobs"];
    let tokens = lists["tokens"].as_array().unwrap();
    let logprobs = lists["token_logprobs"].as_array().unwrap();
    let text: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(answer["choices"][0]["text"], text);
    assert_eq!(
        (tokens.len(), logprobs.len()),
        (lists["text_offset"].as_array().unwrap().len(), tokens.len())
    );
    // Each token's probability, computed again as the first one after its prefix.
    let prompt = "Once upon a time";
    for (i, token) in tokens.iter().enumerate().skip(1).take(tokens.len() - 2) {
        let offset = lists["text_offset"][i].as_u64().unwrap() as usize;
        let prefix = &prompt[..offset];
        let bias = json!({"prompt": prefix, "max_tokens": 1, "temperature": 0, "logprobs": 20});
        let one = post(COMPLETIONS, &bias).json(200);
        let top = &one["choices"][0]["logprobs"]["top_logprobs"][0];
        if let Some(expected) = top[token.as_str().unwrap()].as_f64() {
            assert!((logprobs[i].as_f64().unwrap() - expected).abs() < 1e-4, "{token} after {prefix:?}");
        }
    }
    let nothing = json!({"prompt": "Once upon", "echo": true, "logprobs": 0, "max_tokens": 0});
    let nothing = post(COMPLETIONS, &nothing).json(200);
    assert_eq!(nothing["choices"][0]["text"], "Once upon");
    assert_eq!(nothing["usage"]["completion_tokens"], 0);
}

#[test]
fn several_prompts_and_choices_have_their_places() {
    let body =
        json!({"prompt": ["What", "Once upon a time", [10, 11]], "n": 2, "max_tokens": 3, "temperature": 0});
    let answer = post(COMPLETIONS, &body).json(200);
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    for (i, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], i);
        assert_eq!(choice["text"], choices[i / 2 * 2]["text"], "greedy choices are equal");
    }
    let alone = json!({"prompt": "Once upon a time", "max_tokens": 3, "temperature": 0});
    assert_eq!(post(COMPLETIONS, &alone).json(200)["choices"][0]["text"], choices[2]["text"]);
}

#[test]
fn wrong_prompts_are_named() {
    for (prompt, param) in [
        (json!([]), "prompt"),
        (json!({}), "prompt"),
        (json!([[1, "x", {}]]), "prompt[0]"),
        (json!([5000]), "prompt"),
        (json!(["a", 3.5]), "prompt"),
        (Value::Null, "prompt"),
    ] {
        let error = post(COMPLETIONS, &json!({"prompt": prompt})).json(400);
        assert_eq!(error["error"]["param"], param, "{prompt}: {error}");
    }
}

#[test]
fn embeddings_have_length_one_in_both_encodings() {
    let body = json!({"input": ["The sky", "", "What is it?"]});
    let answer = post("/v1/embeddings", &body).json(200);
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), 3);
    let values = |entry: &Value| -> Vec<f32> {
        entry["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    for entry in data {
        let length: f32 = values(entry).iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
    let encoded = json!({"input": "The sky", "encoding_format": "base64"});
    let encoded = post("/v1/embeddings", &encoded).json(200);
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let decoded: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(decoded, values(&data[0]));
    let cut = post("/v1/embeddings", &json!({"input": "The sky", "dimensions": 8})).json(200);
    let cut = values(&cut["data"][0]);
    let scale = decoded[..8].iter().map(|v| v * v).sum::<f32>().sqrt();
    assert!(cut.iter().zip(&decoded).all(|(one, other)| (one - other / scale).abs() < 1e-5));
    for (fields, param) in [
        (json!({"input": []}), "input"),
        (json!({"input": "x", "encoding_format": "hex"}), "encoding_format"),
        (json!({"input": "x", "dimensions": 0}), "dimensions"),
        (json!({}), "input"),
    ] {
        assert_eq!(post("/v1/embeddings", &fields).json(400)["error"]["param"], param);
    }
}
