//! Metrics in Prometheus' text format. The names are vLLM's, with the prefix `rfgraph_`.

use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
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
struct OfModel {
    model: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finish {
    model: String,
    finish_reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    model: String,
    reason: &'static str,
}

/// Makes the histograms of a family.
#[derive(Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// A histogram for each model.
type Histograms = Family<OfModel, Histogram, Buckets>;

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
    first_token: Histograms,
    token: Histograms,
    per_token: Histograms,
    request: Histograms,
    queue: Histograms,
    prompt: Histograms,
    decode: Histograms,
    prompt_tokens: Histograms,
    generated_tokens: Histograms,
    step: Histograms,
    batch: Histograms,
    memory: Gauge<u64, AtomicU64>,
}

fn histogram(registry: &mut Registry, name: &str, help: &str, buckets: &'static [f64]) -> Histograms {
    let made = Family::new_with_constructor(Buckets(buckets));
    registry.register(name, help, Family::clone(&made));
    made
}

fn observe(histograms: &Histograms, model: &str, value: f64) {
    histograms.get_or_create(&OfModel { model: model.to_string() }).observe(value);
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

    pub fn rejected(&self, model: &str, error: &EngineError) {
        let reason = match error {
            EngineError::Busy { .. } => "queue_full",
            EngineError::Stopped { .. } => "stopped",
            _ => "invalid",
        };
        self.rejected.get_or_create(&Reason { model: model.to_string(), reason }).inc();
    }

    pub fn first_token(&self, model: &str, time: Duration) {
        observe(&self.first_token, model, time.as_secs_f64());
    }

    pub fn next_token(&self, model: &str, time: Duration) {
        observe(&self.token, model, time.as_secs_f64());
    }

    pub fn failed(&self, model: &str) {
        self.ended(model, "error");
    }

    fn ended(&self, model: &str, finish_reason: &'static str) {
        self.finished.get_or_create(&Finish { model: model.to_string(), finish_reason }).inc();
    }

    pub fn finished(&self, model: &str, summary: &Summary, time: Duration) {
        self.ended(model, summary.stop.map_or("embedding", |stop| stop.name()));
        observe(&self.request, model, time.as_secs_f64());
        observe(&self.queue, model, summary.queue_time.as_secs_f64());
        observe(&self.prompt, model, summary.prompt_time.as_secs_f64());
        observe(&self.decode, model, summary.decode_time.as_secs_f64());
        observe(&self.prompt_tokens, model, summary.prompt_tokens as f64);
        observe(&self.generated_tokens, model, summary.generated_tokens as f64);
        if summary.generated_tokens > 1 {
            let n = (summary.generated_tokens - 1) as f64;
            observe(&self.per_token, model, summary.decode_time.as_secs_f64() / n);
        }
    }

    pub fn step(&self, model: &str, report: &StepReport) {
        observe(&self.step, model, report.time.as_secs_f64());
        observe(&self.batch, model, (report.decode_rows + report.prompt_rows) as f64);
    }

    /// All metrics. `engines` are the counts of each model's engine, with a flag that says that it is loaded; `llama` adds
    /// their sums under llama-server's names.
    pub fn text(&self, engines: &[(String, Stats, bool)], llama: bool) -> String {
        self.memory.set(resident_bytes().unwrap_or(0));
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = encode(&mut text, &self.registry);
        text = classic(&text);
        engine(&mut text, engines);
        if llama {
            llama_names(&mut text, engines);
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

/// A metric of an engine: kind, name, help, value.
type Row = (&'static str, &'static str, &'static str, fn(&Stats) -> u64);

const ROWS: [Row; 10] = [
    ("counter", "prompt_tokens_total", "Tokens of prompts", |stats| stats.prompt_tokens),
    ("counter", "generation_tokens_total", "Generated tokens", |stats| stats.generated_tokens),
    ("counter", "prefix_cache_queries_total", "Tokens of prompts that were looked up", |stats| {
        stats.prompt_tokens
    }),
    ("counter", "prefix_cache_hits_total", "Tokens of prompts that were found", |stats| stats.cached_tokens),
    ("counter", "preemptions_total", "Requests put aside for lack of memory", |stats| stats.put_aside),
    ("counter", "engine_steps_total", "Steps of the engine", |stats| stats.steps),
    ("gauge", "requests_running", "Requests that are computed", |stats| stats.running as u64),
    ("gauge", "requests_waiting", "Requests that wait", |stats| stats.waiting as u64),
    ("gauge", "kv_blocks_used", "Blocks of the cache in use", |stats| {
        stats.total_tokens.saturating_sub(stats.free_tokens).div_ceil(BLOCK_SIZE) as u64
    }),
    ("gauge", "kv_blocks_total", "Blocks of the cache", |stats| (stats.total_tokens / BLOCK_SIZE) as u64),
];

/// The phases of requests whose client left.
type Phase = (&'static str, fn(&Stats) -> u64);

const PHASES: [Phase; 3] = [
    ("queued", |stats| stats.cancelled_waiting),
    ("prefill", |stats| stats.cancelled_prompt),
    ("decode", |stats| stats.cancelled_answer),
];

/// A label's value, in quotation marks.
fn label(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// The counts of the engines, by model. Writing to a text does not fail.
fn engine(text: &mut String, engines: &[(String, Stats, bool)]) {
    if engines.is_empty() {
        return;
    }
    let head = |text: &mut String, kind: &str, name: &str, help: &str| {
        let _ = writeln!(text, "# HELP rfgraph_{name} {help}.\n# TYPE rfgraph_{name} {kind}");
    };
    for (kind, name, help, value) in ROWS {
        head(text, kind, name, help);
        for (model, stats, _) in engines {
            let _ = writeln!(text, "rfgraph_{name}{{model={}}} {}", label(model), value(stats));
        }
    }
    head(text, "gauge", "model_loaded", "1 if the model answers, 0 if it was unloaded");
    for (model, _, is_loaded) in engines {
        let _ = writeln!(text, "rfgraph_model_loaded{{model={}}} {}", label(model), u8::from(*is_loaded));
    }
    head(text, "counter", "cancelled_total", "Requests whose client left, by phase");
    for (model, stats, _) in engines {
        for (phase, n) in PHASES {
            let model = label(model);
            let _ = writeln!(text, "rfgraph_cancelled_total{{model={model},phase=\"{phase}\"}} {}", n(stats));
        }
    }
}

/// The sums of all engines under llama-server's names, which have no label.
fn llama_names(text: &mut String, engines: &[(String, Stats, bool)]) {
    const NAMES: [Row; 5] = [
        ("counter", "prompt_tokens_total", "Tokens of prompts", |stats| {
            stats.prompt_tokens - stats.cached_tokens
        }),
        ("counter", "tokens_predicted_total", "Generated tokens", |stats| stats.generated_tokens),
        ("counter", "n_decode_total", "Steps of the engine", |stats| stats.steps),
        ("gauge", "requests_processing", "Requests that are computed", |stats| stats.running as u64),
        ("gauge", "requests_deferred", "Requests that wait", |stats| stats.waiting as u64),
    ];
    for (kind, name, help, value) in NAMES {
        let sum: u64 = engines.iter().map(|(_, stats, _)| value(stats)).sum();
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "# HELP llamacpp:{name} {help}.\n# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {sum}"
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
