//! Timelines in the Trace Event Format, which Perfetto and Chrome's tracing page can open.
//!
//! A device is a process of the trace, and each of its tracks is a thread. Perfetto requires that slices on one track
//! are either disjoint or nested; an outer slice is written before its inner ones. Times are microseconds with three
//! decimals, that is whole nanoseconds.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use super::timeline::{Span, SpanKind};
use super::{Executor, Timeline};
use crate::graph::Cost;
use crate::plan::{Plan, Port};

/// The track of the host's thread: writing inputs, and runs with their queueing and fence.
const HOST: u32 = 1;
/// The track of steps, nested in their layers.
const STEPS: u32 = 2;
/// The track of uploads and downloads.
const COPIES: u32 = 3;
/// The first of the CPU threads' tracks.
const WORKERS: u32 = 10;

const ONE_BY_ONE: &str =
    "steps timed one by one; a run that is not timed replays a recorded graph and is faster";
const BY_THREADS: &str = "each thread reads the clock around each step";
const GPU_CLOCK: &str = "step and copy times are measured by the GPU's events; a run's first event is drawn at the time \
    when the host began to queue the run";

/// The timelines of executors, to be written as a trace.
pub struct Trace<'e> {
    executors: Vec<&'e dyn Executor>,
    about: serde_json::Map<String, Value>,
}

/// One event.
#[derive(Serialize)]
struct Event<'n> {
    name: &'n str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'n str,
    ph: &'n str,
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'n str>,
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u32,
    tid: u32,
    #[serde(skip_serializing_if = "Value::is_null")]
    args: Value,
}

impl<'e> Trace<'e> {
    /// A trace of these executors' timelines. Executors without a timeline are left out.
    pub fn new(executors: impl IntoIterator<Item = &'e dyn Executor>) -> Trace<'e> {
        let about = json!({ "program": concat!("rfgraph ", env!("CARGO_PKG_VERSION")) });
        let about = about.as_object().cloned().unwrap_or_default();
        Trace { executors: executors.into_iter().collect(), about }
    }

    /// Adds an entry to the trace's metadata, such as the model's name.
    pub fn about(mut self, key: &str, value: impl Into<String>) -> Trace<'e> {
        self.about.insert(key.into(), Value::String(value.into()));
        self
    }

    /// Writes the trace as JSON.
    ///
    /// # Errors
    /// Errors of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut file = Events { out, first: true };
        let mut about = self.about.clone();
        file.out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[")?;
        let (mut left_out, mut last) = (0, 0);
        for (pid, executor) in (1u32..).zip(&self.executors) {
            let Some(timeline) = executor.timeline() else { continue };
            let device = Device { pid, executor: *executor, timeline };
            device.name_tracks(&mut file)?;
            device.write_spans(&mut file)?;
            about.insert(device.title(), Value::String(device.how_timed()));
            left_out += timeline.left_out();
            last = timeline.spans().iter().map(|span| span.end).fold(last, u64::max);
        }
        if left_out > 0 {
            let name = format!("{left_out} more spans were left out: the limit was reached");
            let event = Event { ph: "i", s: Some("g"), ..Event::at(&name, "limit", 1, HOST, last) };
            file.write(&event)?;
        }
        about.insert("spans_left_out".into(), json!(left_out));
        file.out.write_all(b"\n],\"otherData\":")?;
        serde_json::to_writer(&mut *file.out, &about)?;
        file.out.write_all(b"}\n")
    }
}

impl std::fmt::Debug for Trace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("executors", &self.executors.len()).finish_non_exhaustive()
    }
}

/// The list of events, one per line.
struct Events<'o> {
    out: &'o mut dyn Write,
    first: bool,
}

impl Events<'_> {
    fn write(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.out.write_all(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        Ok(serde_json::to_writer(&mut *self.out, event)?)
    }
}

/// Nanoseconds as the format's microseconds.
fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

impl<'n> Event<'n> {
    /// A slice without an end.
    fn at(name: &'n str, cat: &'n str, pid: u32, tid: u32, ns: u64) -> Event<'n> {
        Event { name, cat, ph: "X", s: None, ts: micros(ns), dur: None, pid, tid, args: Value::Null }
    }

    /// A slice.
    fn slice(
        name: &'n str,
        cat: &'n str,
        pid: u32,
        tid: u32,
        (start, end): (u64, u64),
        args: Value,
    ) -> Event<'n> {
        Event { dur: Some(micros(end - start)), args, ..Event::at(name, cat, pid, tid, start) }
    }
}

/// The cost of a span and the rates that it reached.
fn cost_args(cost: Cost, (start, end): (u64, u64)) -> Value {
    let rate = |n: u64| (end > start).then(|| (n as f64 / (end - start) as f64 * 1e3).round() / 1e3);
    json!({ "bytes": cost.bytes, "flops": cost.flops, "GB/s": rate(cost.bytes), "GFLOP/s": rate(cost.flops) })
}

/// One executor's events.
struct Device<'e> {
    pid: u32,
    executor: &'e dyn Executor,
    timeline: &'e Timeline,
}

impl Device<'_> {
    fn title(&self) -> String {
        let device = self.executor.device();
        match device.target {
            None => format!("{}, {} threads", device.executor, device.threads),
            Some(target) => format!("{} on {} ({})", device.executor, target.arch, target.platform),
        }
    }

    fn on_gpu(&self) -> bool {
        self.executor.device().target.is_some()
    }

    fn how_timed(&self) -> String {
        if self.on_gpu() { format!("{ONE_BY_ONE}; {GPU_CLOCK}") } else { BY_THREADS.into() }
    }

    fn name_tracks(&self, file: &mut Events<'_>) -> io::Result<()> {
        let mut tell = |name: &str, tid: u32, args: Value| {
            file.write(&Event { ph: "M", args, ..Event::at(name, "", self.pid, tid, 0) })
        };
        let label = if self.on_gpu() { ONE_BY_ONE } else { BY_THREADS };
        tell("process_name", HOST, json!({ "name": self.title() }))?;
        tell("process_labels", HOST, json!({ "labels": label }))?;
        tell("process_sort_index", HOST, json!({ "sort_index": self.pid }))?;
        let (steps, copies) = if self.on_gpu() { ("compute stream", "copy stream") } else { ("steps", "") };
        let workers = if self.on_gpu() { 0 } else { self.executor.device().threads as u32 };
        let workers = (0..workers).map(|i| (WORKERS + i, format!("thread {i}")));
        let named = [(HOST, "host".into()), (STEPS, steps.into()), (COPIES, copies.into())];
        for (tid, name) in named.into_iter().chain(workers).filter(|(_, name)| !String::is_empty(name)) {
            tell("thread_name", tid, json!({ "name": name }))?;
            tell("thread_sort_index", tid, json!({ "sort_index": tid }))?;
        }
        Ok(())
    }

    fn write_spans(&self, file: &mut Events<'_>) -> io::Result<()> {
        let mut rest = self.timeline.spans();
        while let [span, others @ ..] = rest {
            // A run's spans come after it.
            let length =
                others.iter().position(|span| matches!(span.kind, SpanKind::Run | SpanKind::Write(_)));
            let (of_it, later) = others.split_at(length.unwrap_or(others.len()));
            let loaded = self.executor.plan(span.plan).ok();
            if let Some(plan) = loaded.or_else(|| self.timeline.unloaded(span.plan)) {
                self.write_host(file, plan, span)?;
                self.write_steps(file, plan, of_it)?;
                of_it.iter().try_for_each(|part| self.write_part(file, plan, part))?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Writes a run, or an input that is set before it.
    fn write_host(&self, file: &mut Events<'_>, plan: &Plan, span: &Span) -> io::Result<()> {
        let time = (span.start, span.end);
        let (name, cat, args) = match span.kind {
            SpanKind::Write(input) => {
                let port = plan.inputs.get(input as usize);
                let bytes = port.map_or(0, |port| port.operand.desc.extent());
                (format!("write {}", port_name(port)), "copy", json!({ "bytes": bytes }))
            }
            _ => {
                // Perfetto does not show metadata, so the kind of timing is repeated here.
                let what = json!({ "steps": plan.steps.len(), "timed": self.how_timed() });
                (run_name(plan), "run", joined(what, cost_args(plan.cost(), time)))
            }
        };
        file.write(&Event::slice(&name, cat, self.pid, HOST, time, args))
    }

    /// Writes the steps of a run, nested in their layers.
    fn write_steps(&self, file: &mut Events<'_>, plan: &Plan, spans: &[Span]) -> io::Result<()> {
        let layers = plan.layers();
        let layer = |step: u32| layers.get(step as usize).copied().flatten();
        let steps: Vec<(u32, &Span)> = spans.iter().filter_map(|span| Some((step_of(span)?, span))).collect();
        for group in steps.chunk_by(|(a, _), (b, _)| layer(*a) == layer(*b)) {
            let cost = |step: u32| plan.steps.get(step as usize).map_or(Cost::default(), |step| step.cost);
            let sum = group
                .iter()
                .map(|(step, _)| cost(*step))
                .fold(Cost::default(), |a, b| Cost { bytes: a.bytes + b.bytes, flops: a.flops + b.flops });
            if let ([(first, start), ..], [.., (_, end)]) = (group, group)
                && let Some(name) = layer(*first)
            {
                let time = (start.start, end.end);
                file.write(&Event::slice(name, "layer", self.pid, STEPS, time, cost_args(sum, time)))?;
            }
            for (number, span) in group {
                let Some(step) = plan.steps.get(*number as usize) else { continue };
                let time = (span.start, span.end);
                let layer = layer(*number);
                let what = json!({ "step": number, "op": step.op, "kernel": step.kernel, "layer": layer, "writes": plan.written(step) });
                let args = joined(what, cost_args(step.cost, time));
                file.write(&Event::slice(&step.name, "step", self.pid, STEPS, time, args))?;
            }
        }
        Ok(())
    }

    /// Writes the other spans of a run.
    fn write_part(&self, file: &mut Events<'_>, plan: &Plan, span: &Span) -> io::Result<()> {
        let bytes = |ports: &[Port]| ports.iter().map(|port| port.operand.desc.extent()).sum::<usize>();
        let (name, cat, tid, args) = match span.kind {
            SpanKind::Queue => ("queue", "run", HOST, Value::Null),
            SpanKind::Fence => ("fence", "fence", HOST, Value::Null),
            // Unchanged inputs are not uploaded again.
            SpanKind::Uploads => ("uploads", "copy", COPIES, json!({ "bytes at most": bytes(&plan.inputs) })),
            SpanKind::Downloads => ("downloads", "copy", COPIES, json!({ "bytes": bytes(&plan.outputs) })),
            SpanKind::Share { step, worker } => {
                let name = plan.steps.get(step as usize).map_or("?", |step| &step.name);
                (name, "share", WORKERS + worker, Value::Null)
            }
            SpanKind::Step(_) | SpanKind::Run | SpanKind::Write(_) => return Ok(()),
        };
        file.write(&Event::slice(name, cat, self.pid, tid, (span.start, span.end), args))
    }
}

fn step_of(span: &Span) -> Option<u32> {
    match span.kind {
        SpanKind::Step(step) => Some(step),
        _ => None,
    }
}

/// Merges the fields of two objects.
fn joined(mut first: Value, second: Value) -> Value {
    if let (Some(fields), Value::Object(others)) = (first.as_object_mut(), second) {
        fields.extend(others);
    }
    first
}

fn port_name(port: Option<&Port>) -> &str {
    port.map_or("?", |port| &port.name)
}

/// A run's name, from its plan's first input and first output: `tokens [512] to logits [1792, 1]`.
fn run_name(plan: &Plan) -> String {
    let shown = |port: &Port| format!("{} {}", port.name, port.operand.desc.shape);
    let ports = [plan.inputs.first(), plan.outputs.first()];
    let ports: Vec<String> = ports.into_iter().flatten().map(shown).collect();
    format!("run {}", ports.join(" to "))
}
