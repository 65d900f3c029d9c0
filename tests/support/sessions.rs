//! Sessions of small models, and limits for the differences of their results.

use std::num::NonZeroUsize;

use rfgraph::engine::{Generation, Next};
use rfgraph::model::{Model, Output, Rewind, RowOutput, Rows, SequenceId, Session, SessionOptions};

use super::tiny_llama::N_FF;

pub fn options() -> SessionOptions {
    SessionOptions { n_ctx: 256, threads: NonZeroUsize::new(2), ..SessionOptions::default() }
}

pub fn demo(options: &SessionOptions) -> Session {
    Session::new(&Model::demo().unwrap(), options).unwrap()
}

/// Some tokens of the demo's vocabulary.
pub fn tokens(seed: u32, n: u32) -> Vec<u32> {
    (0..n).map(|i| 260 + (seed * 131 + i * i * 17 + i * 29) % 700).collect()
}

pub fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// The logits of every token of a prompt, in a fresh sequence.
pub fn logits_of(session: &mut Session, prompt: &[u32]) -> Vec<Vec<f32>> {
    let id = session.open().unwrap();
    let mut rows = Vec::new();
    session.all_logits(id, prompt, |row| rows.push(row.to_vec())).unwrap();
    session.close(id).unwrap();
    rows
}

/// Rewinds a sequence to `len` tokens, and recomputes what its state could not be rewound to.
pub fn cut(session: &mut Session, id: SequenceId, len: usize) {
    let text: Vec<u32> = session.states().tokens(id).unwrap().collect();
    match session.rewind(id, len).unwrap() {
        Rewind::Done => {}
        Rewind::RecomputeFrom(held) => drop(session.prefill(id, &text[held..len]).unwrap()),
    }
}

/// Appends a token, and returns the token with the largest logit after it, chosen on the device.
pub fn largest(session: &mut Session, id: SequenceId, token: u32) -> u32 {
    let outputs = session.step(&[Rows::of(id, &[token]).want(Output::Argmax)]).unwrap();
    match outputs.last(0) {
        RowOutput::Argmax(token) => token,
        RowOutput::Logits(logits) => super::demo::greedy(logits),
        other => panic!("{other:?}"),
    }
}

/// Computes a prompt and the rows that a generation asks for until it stops, and returns its text.
pub fn drive(session: &mut Session, id: SequenceId, prompt: &[u32], generation: &mut Generation) -> String {
    let (mut next, mut text) = (prompt.to_vec(), String::new());
    loop {
        let (last, before) = next.split_last().unwrap();
        if !before.is_empty() {
            session.prefill(id, before).unwrap();
        }
        let outputs = session.step(&[Rows::of(id, &[*last]).want(generation.wants())]).unwrap();
        let step = generation.advance(outputs.last(0)).unwrap();
        text.push_str(step.text);
        let Next::Token(token) = step.next else { return text };
        next = vec![token];
    }
}

pub fn decode(session: &mut Session, id: SequenceId, token: u32) -> Vec<f32> {
    session.decode(&[(id, token)]).unwrap().row(0).to_vec()
}

/// Mean KL divergence of the rows' distributions, in nats.
pub fn mean_kl(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    let log_softmax = |row: &[f32]| -> Vec<f64> {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|&x| f64::from(x - largest).exp()).sum();
        row.iter().map(|&x| f64::from(x - largest) - sum.ln()).collect()
    };
    let kl = |(a, b): (&Vec<f32>, &Vec<f32>)| -> f64 {
        log_softmax(a).iter().zip(log_softmax(b)).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(kl).sum::<f64>() / a.len() as f64
}

/// The limit for the demo's results where only the order of sums differs. Products of few and of many tokens add in
/// different orders; a last bit may flip the rounding of an activation to eight bits, an error as large as this
/// rounding makes anyway. A mean KL of 1e-4 from exact arithmetic is allowed for that; two such results may be twice as
/// far apart, which is four times the KL, since KL grows with the square of a small distance.
pub const EIGHT_BITS: f64 = 4e-4;

/// The same limit for F32 weights and cache: each layer adds four products of at most `N_FF` terms to its input, each
/// term rounded once; twice, for two results; and norms divide by a root mean square that may be a quarter of the
/// largest element.
pub fn tolerance(rows: &[Vec<f32>], n_layer: usize) -> f32 {
    let largest = rows.iter().flatten().fold(0f32, |largest, x| largest.max(x.abs()));
    largest * (4 * n_layer * N_FF * 2 * 4) as f32 * 2f32.powi(-24)
}

/// The largest difference between the numbers of two results.
pub fn worst(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs());
    // NaN counts as infinitely far; `f32::max` would ignore it.
    differences.fold(0f32, |worst, d| if d > worst || d.is_nan() { d } else { worst })
}
