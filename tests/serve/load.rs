//! Many clients at once, clients that leave, and the end of the server.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rfgraph::serve::ServeOptions;
use rfgraph::{EngineOptions, SessionOptions};
use serde_json::{Value, json};

use crate::client::{Connection, JSON, SHARED, engine_options, post_to, request, start};

const CHAT: &str = "/v1/chat/completions";

fn sum(a: u32, b: u32) -> Value {
    json!({"messages": [{"role": "user", "content": format!("What is {a} + {b}?")}], "temperature": 0})
}

fn story(fields: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Tell me a story."}], "ignore_eos": true});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// A metric of the server, of its only model if it is one of a model.
fn metric(address: std::net::SocketAddr, name: &str) -> f64 {
    let text = request(address, "GET", "/metrics", "", "").body;
    let names = [format!("{name} "), format!("{name}{{model=\"demo\"}} ")];
    let line = text.lines().find_map(|line| names.iter().find_map(|name| line.strip_prefix(name.as_str())));
    line.unwrap_or_else(|| panic!("{name} is missing: {text}")).parse().unwrap()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn thirty_two_clients_get_the_answers_that_they_get_alone() {
    let bodies: Vec<Value> = (0..32)
        .map(|i| match i % 4 {
            0 => sum(347, 285),
            1 => story(json!({"seed": i, "temperature": 1.0, "max_tokens": 25})),
            2 => story(json!({"temperature": 0, "max_tokens": 20 + i})),
            _ => sum(12 + i, 7),
        })
        .collect();
    let text = |answer: Value| answer["choices"][0]["message"]["content"].as_str().unwrap().to_string();
    let alone: Vec<String> = bodies.iter().map(|body| text(post_to(*SHARED, CHAT, body).json(200))).collect();
    assert_eq!(alone[0], "632");
    let barrier = Barrier::new(32);
    std::thread::scope(|scope| {
        for (i, body) in bodies.iter().enumerate() {
            let (alone, barrier) = (&alone[i], &barrier);
            scope.spawn(move || {
                let mut connection = Connection::open(*SHARED);
                barrier.wait();
                for stream in [false, true, false] {
                    let mut body = body.clone();
                    body["stream"] = stream.into();
                    connection.send("POST", CHAT, JSON, &body.to_string());
                    let response = connection.receive();
                    let found: String = match stream {
                        false => text(response.json(200)),
                        true => {
                            let events = response.events();
                            events
                                .iter()
                                .filter_map(|e| e["choices"][0]["delta"]["content"].as_str())
                                .collect()
                        }
                    };
                    assert_eq!(found, *alone, "client {i}, stream {stream}");
                }
            });
        }
    });
}

/// Cancelled in the queue, in the prompt and in the answer, streamed or not, within a step.
#[test]
fn clients_that_leave_free_their_places() {
    let session = SessionOptions { n_sequences: 2, n_tokens: Some(1024), ..engine_options().session };
    let server = start(ServeOptions::default(), EngineOptions { session, ..engine_options() });
    let address = server.address();
    let mut memory = 0.0;
    for round in 0..100 {
        if round == 50 {
            memory = metric(address, "rfgraph_memory_used_bytes");
        }
        let mut open: Vec<Connection> = (0..5).map(|_| Connection::open(address)).collect();
        for (i, connection) in open.iter_mut().enumerate() {
            let body = story(json!({"stream": (i + round) % 2 == 0, "max_tokens": 480, "seed": 1}));
            connection.send("POST", CHAT, JSON, &body.to_string());
        }
        if round % 3 == 0 {
            wait_until("requests run", || metric(address, "rfgraph_requests_running") > 0.0);
        }
        drop(open);
    }
    wait_until("all 500 were cancelled", || {
        metric(address, "rfgraph_requests_running") + metric(address, "rfgraph_requests_waiting") == 0.0
    });
    assert_eq!(metric(address, "rfgraph_kv_blocks_used"), 0.0);
    // A request that stayed would hold its tokens, its sampler and its connection.
    let grown = metric(address, "rfgraph_memory_used_bytes") - memory;
    assert!(grown < 8.0 * 1024.0 * 1024.0, "250 cancelled requests left {grown} bytes");
    assert_eq!(post_to(address, CHAT, &sum(347, 285)).json(200)["choices"][0]["message"]["content"], "632");
    server.stop();
}

#[test]
fn a_full_queue_is_status_429() {
    let session = SessionOptions { n_sequences: 1, n_tokens: Some(512), ..engine_options().session };
    let engine = EngineOptions { session, max_queue: 1, ..engine_options() };
    let server = start(ServeOptions::default(), engine);
    let address = server.address();
    let mut open: Vec<Connection> = (0..2).map(|_| Connection::open(address)).collect();
    for (i, connection) in open.iter_mut().enumerate() {
        connection.send("POST", CHAT, JSON, &story(json!({"max_tokens": 480})).to_string());
        wait_until("it is there", || {
            metric(address, "rfgraph_requests_running") + metric(address, "rfgraph_requests_waiting")
                > i as f64
        });
    }
    let refused = post_to(address, CHAT, &sum(1, 1));
    assert_eq!(refused.json(429)["error"]["type"], "rate_limit_error");
    assert!(refused.header("retry-after").is_some());
    drop(open);
    wait_until("the places are free", || metric(address, "rfgraph_requests_running") == 0.0);
    assert_eq!(post_to(address, CHAT, &sum(347, 285)).status, 200);
    server.stop();
}

/// A client that does not read pauses its own answer alone, which ends with an error.
#[test]
fn a_slow_reader_ends_and_others_go_on() {
    let engine = EngineOptions { reader_timeout: Duration::from_secs(1), ..engine_options() };
    let server = start(ServeOptions::default(), engine);
    let address = server.address();
    // Linux buffers 4 MB of a connection: ten stories with log-probabilities are 5 MB, and 4,000 of the pool's 4,096 tokens.
    let fields = json!({"stream": true, "n": 10, "max_tokens": 400, "logprobs": true, "top_logprobs": 20});
    let mut slow = Connection::open(address);
    slow.send("POST", CHAT, JSON, &story(fields).to_string());
    for _ in 0..20 {
        assert_eq!(
            post_to(address, CHAT, &sum(347, 285)).json(200)["choices"][0]["message"]["content"],
            "632"
        );
    }
    wait_until("it ends", || metric(address, "rfgraph_requests_running") == 0.0);
    let body = slow.receive().body;
    assert!(body.contains("\"error\""), "{} bytes: {}", body.len(), &body[body.len().saturating_sub(300)..]);
    server.stop();
}

#[test]
fn a_connection_serves_many_requests_in_turn() {
    let mut connection = Connection::open(*SHARED);
    for i in 0..200 {
        let mut body = sum(347, 285);
        body["stream"] = (i % 2 == 0).into();
        connection.send("POST", CHAT, JSON, &body.to_string());
        let response = connection.receive();
        assert_eq!(response.status, 200);
        assert_ne!(response.header("connection"), Some("close"));
    }
}

/// A stop lets running answers end, and refuses new connections.
#[test]
fn a_stop_drains() {
    let server = start(ServeOptions::default(), engine_options());
    let address = server.address();
    let mut running = Connection::open(address);
    running.send("POST", CHAT, JSON, &story(json!({"stream": true, "max_tokens": 300})).to_string());
    assert_eq!(running.head().status, 200);
    let mut text = running.chunk();
    std::thread::scope(|scope| {
        scope.spawn(move || server.stop());
        loop {
            let chunk = running.chunk();
            if chunk.is_empty() {
                break;
            }
            text.push_str(&chunk);
        }
    });
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(text.contains("\"finish_reason\":\"length\""));
    let refused = match TcpStream::connect(address) {
        Err(_) => true,
        Ok(mut stream) => matches!(stream.read(&mut [0]), Ok(0) | Err(_)),
    };
    assert!(refused);
}

/// Sums of the metrics are those of the answers.
#[test]
fn metrics_count_what_was_answered() {
    let server = start(ServeOptions { llama_metrics: true, ..ServeOptions::default() }, engine_options());
    let address = server.address();
    let (mut prompts, mut generated, mut cached) = (0, 0, 0);
    for body in [sum(347, 285), sum(347, 285), story(json!({"max_tokens": 70}))] {
        let usage = &post_to(address, CHAT, &body).json(200)["usage"];
        prompts += usage["prompt_tokens"].as_u64().unwrap();
        generated += usage["completion_tokens"].as_u64().unwrap();
        cached += usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    }
    // The engine shows its counts before its next turn.
    wait_until("the counts are there", || {
        metric(address, "rfgraph_generation_tokens_total") == generated as f64
    });
    assert_eq!(metric(address, "rfgraph_prompt_tokens_total"), prompts as f64);
    assert_eq!(metric(address, "rfgraph_prefix_cache_hits_total"), cached as f64);
    assert_eq!(metric(address, "rfgraph_time_to_first_token_seconds_count"), 3.0);
    assert_eq!(metric(address, "rfgraph_inter_token_latency_seconds_count"), generated as f64 - 3.0);
    assert_eq!(metric(address, "llamacpp:tokens_predicted_total"), generated as f64);
    let text = request(address, "GET", "/metrics", "", "").body;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(value.is_finite() && value >= 0.0, "{line}");
    }
    server.stop();
}
