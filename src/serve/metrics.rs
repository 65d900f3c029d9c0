//! Metrics in Prometheus' text format. The names are vLLM's, with the prefix `rfgraph_`.

use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::engine::{EngineError, Stats, StepReport, Summary};
use crate::model::BLOCK_SIZE;

/// vLLM's buckets of the time to the first token, in seconds.
const FIRST_TOKEN: [f64; 21] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0,
];
/// Its buckets of the time between tokens.
const TOKEN: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0];
/// Its buckets of a request's times.
const REQUEST: [f64; 18] =
    [0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0];
/// Its buckets of counts of tokens.
const TOKENS: [f64; 16] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finish {
    finish_reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Http {
    method: Method,
    path: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Method {
    Get,
    Post,
    Other,
}

/// The metrics of a server, without those that the engine counts.
pub(super) struct Metrics {
    registry: Registry,
    http: Family<Http, Counter>,
    finished: Family<Finish, Counter>,
    rejected: Family<Reason, Counter>,
    /// Gauge-like numbers as of the last scrape come from the engine; these are kept here.
    first_token: Histogram,
    token: Histogram,
    per_token: Histogram,
    request: Histogram,
    queue: Histogram,
    prompt: Histogram,
    decode: Histogram,
    prompt_tokens: Histogram,
    generated_tokens: Histogram,
    step: Histogram,
    batch: Histogram,
    memory: Gauge<u64, AtomicU64>,
}

fn histogram(registry: &mut Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let made = Histogram::new(buckets.iter().copied());
    registry.register(name, help, made.clone());
    made
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("rfgraph");
        let (http, finished, rejected, memory) =
            (Family::default(), Family::default(), Family::default(), Gauge::default());
        registry.register("http_requests", "HTTP requests by method, path and status", Family::clone(&http));
        registry.register("requests", "Answers by the reason of their end", Family::clone(&finished));
        registry.register("requests_rejected", "Refused requests by reason", Family::clone(&rejected));
        registry.register("memory_used_bytes", "Resident memory of the process", Gauge::clone(&memory));
        let r = &mut registry;
        Metrics {
            first_token: histogram(r, "time_to_first_token_seconds", "Time to the first token", &FIRST_TOKEN),
            token: histogram(r, "inter_token_latency_seconds", "Time between two tokens", &TOKEN),
            per_token: histogram(
                r,
                "time_per_output_token_seconds",
                "Mean time per token after the first",
                &TOKEN,
            ),
            request: histogram(r, "e2e_request_latency_seconds", "Time of a request", &REQUEST),
            queue: histogram(r, "request_queue_time_seconds", "Time in the queue", &REQUEST),
            prompt: histogram(r, "request_prefill_time_seconds", "Time of the prompt", &REQUEST),
            decode: histogram(r, "request_decode_time_seconds", "Time of the answer", &REQUEST),
            prompt_tokens: histogram(r, "request_prompt_tokens", "Tokens of the prompt", &TOKENS),
            generated_tokens: histogram(r, "request_generation_tokens", "Tokens of the answer", &TOKENS),
            step: histogram(r, "step_seconds", "Time of a step of the engine", &TOKEN),
            batch: histogram(r, "batch_size", "Rows of a step", &TOKENS),
            http,
            finished,
            rejected,
            memory,
            registry,
        }
    }

    pub fn http(&self, method: &axum::http::Method, path: &str, status: u16) {
        let method = match method.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            _ => Method::Other,
        };
        self.http.get_or_create(&Http { method, path: path.to_string(), status }).inc();
    }

    pub fn rejected(&self, error: &EngineError) {
        let reason = match error {
            EngineError::Busy { .. } => "queue_full",
            EngineError::Stopped { .. } => "stopped",
            _ => "invalid",
        };
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    pub fn first_token(&self, time: Duration) {
        self.first_token.observe(time.as_secs_f64());
    }

    pub fn next_token(&self, time: Duration) {
        self.token.observe(time.as_secs_f64());
    }

    pub fn failed(&self) {
        self.finished.get_or_create(&Finish { finish_reason: "error" }).inc();
    }

    pub fn finished(&self, summary: &Summary, time: Duration) {
        let reason = summary.stop.map_or("embedding", |stop| stop.name());
        self.finished.get_or_create(&Finish { finish_reason: reason }).inc();
        self.request.observe(time.as_secs_f64());
        self.queue.observe(summary.queue_time.as_secs_f64());
        self.prompt.observe(summary.prompt_time.as_secs_f64());
        self.decode.observe(summary.decode_time.as_secs_f64());
        self.prompt_tokens.observe(summary.prompt_tokens as f64);
        self.generated_tokens.observe(summary.generated_tokens as f64);
        if summary.generated_tokens > 1 {
            let n = (summary.generated_tokens - 1) as f64;
            self.per_token.observe(summary.decode_time.as_secs_f64() / n);
        }
    }

    pub fn step(&self, report: &StepReport) {
        self.step.observe(report.time.as_secs_f64());
        self.batch.observe((report.decode_rows + report.prompt_rows) as f64);
    }

    /// All metrics; `stats` are the engine's counts, and `llama` adds them under llama-server's names.
    pub fn text(&self, stats: Option<&Stats>, llama: bool) -> String {
        self.memory.set(resident_bytes().unwrap_or(0));
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text = classic(&text);
        if let Some(stats) = stats {
            engine(&mut text, stats);
            if llama {
                llama_names(&mut text, stats);
            }
        }
        text
    }
}

/// The registry's text, which is OpenMetrics', in the older format that every reader knows: there a counter is described
/// under the name of its sample.
fn classic(text: &str) -> String {
    let is_counter = |name: &str| text.contains(&format!("# TYPE {name} counter\n"));
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(word), Some(name), Some(rest)) if is_counter(name) => {
                // Writing to a text does not fail.
                let _ = writeln!(out, "# {word} {name}_total {rest}");
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// A metric of the engine: kind, name, help, value.
type Row = (&'static str, &'static str, &'static str, u64);

fn write_rows(text: &mut String, prefix: &str, rows: &[Row]) {
    for (kind, name, help, value) in rows {
        let total = if *kind == "counter" { "_total" } else { "" };
        let name = format!("{prefix}{name}{total}");
        // Writing to a text does not fail.
        let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}");
    }
}

fn engine(text: &mut String, stats: &Stats) {
    let used = stats.total_tokens.saturating_sub(stats.free_tokens).div_ceil(BLOCK_SIZE) as u64;
    let rows = [
        ("counter", "prompt_tokens", "Tokens of prompts", stats.prompt_tokens),
        ("counter", "generation_tokens", "Generated tokens", stats.generated_tokens),
        ("counter", "prefix_cache_queries", "Tokens of prompts that were looked up", stats.prompt_tokens),
        ("counter", "prefix_cache_hits", "Tokens of prompts that were found", stats.cached_tokens),
        ("counter", "preemptions", "Requests put aside for lack of memory", stats.put_aside),
        ("counter", "engine_steps", "Steps of the engine", stats.steps),
        ("gauge", "requests_running", "Requests that are computed", stats.running as u64),
        ("gauge", "requests_waiting", "Requests that wait", stats.waiting as u64),
        ("gauge", "kv_blocks_used", "Blocks of the cache in use", used),
        ("gauge", "kv_blocks_total", "Blocks of the cache", (stats.total_tokens / BLOCK_SIZE) as u64),
        ("gauge", "model_loaded", "1 if the model answers", 1),
    ];
    write_rows(text, "rfgraph_", &rows);
    let cancelled = [
        ("queued", stats.cancelled_waiting),
        ("prefill", stats.cancelled_prompt),
        ("decode", stats.cancelled_answer),
    ];
    text.push_str(
        "# HELP rfgraph_cancelled_total Requests whose client left, by phase.\n# TYPE rfgraph_cancelled_total counter\n",
    );
    for (phase, n) in cancelled {
        let _ = writeln!(text, "rfgraph_cancelled_total{{phase=\"{phase}\"}} {n}");
    }
}

fn llama_names(text: &mut String, stats: &Stats) {
    for (kind, name, help, value) in [
        ("counter", "prompt_tokens_total", "Tokens of prompts", stats.prompt_tokens - stats.cached_tokens),
        ("counter", "tokens_predicted_total", "Generated tokens", stats.generated_tokens),
        ("counter", "n_decode_total", "Steps of the engine", stats.steps),
        ("gauge", "requests_processing", "Requests that are computed", stats.running as u64),
        ("gauge", "requests_deferred", "Requests that wait", stats.waiting as u64),
    ] {
        let _ = writeln!(
            text,
            "# HELP llamacpp:{name} {help}.\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}"
        );
    }
}

/// The process's resident memory, where the system tells it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}
