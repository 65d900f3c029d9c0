//! P11 for whole models: in random schedules of several sequences each row has the bits that its text has alone, and
//! without `deterministic` nearly its logits.

use std::num::NonZeroUsize;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rfgraph::model::{CacheTypes, Model, ModelError, Output, Rewind, RowOutput, Rows, SequenceId, Session};
use rfgraph::model::{SessionExtras, SessionOptions};
use rfgraph::tensor::DType;

use crate::support::architectures::fixtures;
use crate::support::gpu::{self, Gpu, config};
use crate::support::sessions::{bits, tokens};
use crate::support::tiny_hybrid::{self, tiny_hybrid};
use crate::support::tiny_llama::tiny_llama;

const N_LAYER: usize = 2;

fn options(n_sequences: usize) -> SessionOptions {
    SessionOptions {
        n_ctx: N_CTX,
        n_sequences,
        ubatch: Some(64),
        threads: Some(NonZeroUsize::MIN),
        cache_types: CacheTypes::both(DType::F32),
        deterministic: true,
        ..SessionOptions::default()
    }
}

/// Tokens of the tiny models' vocabulary.
fn text(seed: u32, n: usize) -> Vec<u32> {
    tokens(seed, n as u32).iter().map(|token| token % 96).collect()
}

fn logits(output: RowOutput<'_>) -> Vec<f32> {
    match output {
        RowOutput::Logits(logits) => logits.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// An action on a sequence.
#[derive(Clone, Debug)]
enum Act {
    /// Appends tokens, in a step with tokens of other sequences.
    Append(usize),
    /// Appends tokens that are taken back afterwards.
    Guess(usize),
    /// Another text, which may share a prefix with one that was computed before.
    Text(u32, usize),
    Fork,
    PutAside,
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => long_text(),
        5 => (1usize..40).prop_map(Act::Append),
        2 => (1usize..9).prop_map(Act::Guess),
        3 => (0u32..2, 30usize..80).prop_map(|(seed, n)| Act::Text(seed, n)),
        1 => Just(Act::Fork),
        1 => Just(Act::PutAside),
        1 => Just(Act::Close),
    ]
}

/// A text of more than two times the keys that a GPU sums at once in a deterministic plan.
fn long_text() -> impl Strategy<Value = Act> {
    (0u32..2, 260usize..280).prop_map(|(seed, n)| Act::Text(seed, n))
}

/// The context of a sequence.
const N_CTX: usize = 512;

/// Random schedules of up to four sequences.
struct Schedule {
    session: Session,
    /// A session that computes every text alone, from its first token, in one step.
    oracle: Session,
    open: [Option<(SequenceId, Vec<u32>)>; 4],
    step: u32,
    /// The largest difference between a logit and that of the text alone; `None`: the same bits.
    limit: Option<f32>,
}

impl Schedule {
    fn new(make: impl Fn(&SessionOptions) -> Session) -> Schedule {
        Schedule::within(None, make)
    }

    /// A schedule whose plans are deterministic if there is no limit for differences.
    fn within(limit: Option<f32>, make: impl Fn(&SessionOptions) -> Session) -> Schedule {
        let deterministic = limit.is_none();
        let pooled = SessionOptions { n_tokens: Some(640), deterministic, ..options(4) };
        let oracle = SessionOptions { ubatch: Some(N_CTX), deterministic, ..options(1) };
        let (session, oracle) = (make(&pooled), make(&oracle));
        Schedule { session, oracle, open: Default::default(), step: 0, limit }
    }

    /// Makes a sequence hold a text, whatever it or others hold of the text already.
    fn set_text(&mut self, which: usize, text: Vec<u32>) -> bool {
        let id = match self.open[which] {
            Some((id, _)) => id,
            None => self.session.open().unwrap(),
        };
        let held = self.session.reuse(id, &text).unwrap();
        let result = self.session.prefill(id, &text[held..]).map(drop);
        self.settle(which, id, text, result)
    }

    /// Records a text that was computed, or closes a sequence for which there was no room.
    fn settle(
        &mut self,
        which: usize,
        id: SequenceId,
        text: Vec<u32>,
        result: Result<(), ModelError>,
    ) -> bool {
        match result {
            Ok(()) => self.open[which] = Some((id, text)),
            Err(ModelError::CacheFull { .. } | ModelError::ContextFull { .. }) => {
                self.session.close(id).unwrap();
                self.open[which] = None;
            }
            Err(error) => panic!("{error}"),
        }
        self.open[which].is_some()
    }

    /// One step with more tokens of one sequence and one token of every other sequence; the logits of each row are
    /// those of its text alone.
    fn append(&mut self, which: usize, n: usize) {
        self.step += 1;
        let mut rows: Vec<(usize, Vec<u32>)> = Vec::new();
        for (i, open) in self.open.iter().enumerate() {
            let n = if i == which { n } else { 1 };
            if open.as_ref().is_some_and(|(_, text)| text.len() + n <= N_CTX) {
                rows.push((i, text(self.step + 7 * i as u32, n)));
            }
        }
        let ids: Vec<SequenceId> = rows.iter().map(|(i, _)| self.open[*i].as_ref().unwrap().0).collect();
        let step: Vec<Rows<'_>> = rows
            .iter()
            .zip(&ids)
            .map(|((_, more), id)| Rows::of(*id, more).want_all(Output::Logits))
            .collect();
        let n_rows: usize = rows.iter().map(|(_, more)| more.len()).sum();
        if n_rows == 0 || n_rows > self.session.max_rows() {
            return;
        }
        let outputs = match self.session.step(&step) {
            Ok(outputs) => outputs,
            Err(ModelError::CacheFull { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let mut found = Vec::new();
        for (number, (_, more)) in rows.iter().enumerate() {
            found.push((0..more.len()).map(|row| logits(outputs.row(number, row))).collect::<Vec<_>>());
        }
        for ((i, more), found) in rows.into_iter().zip(found) {
            let (_, text) = self.open[i].as_mut().unwrap();
            text.extend(&more);
            let text = text.clone();
            self.check(&text, &found);
        }
    }

    /// Asserts that the last rows' logits are those of the text alone, bit for bit or within the limit.
    fn check(&mut self, text: &[u32], found: &[Vec<f32>]) {
        let id = self.oracle.open().unwrap();
        let mut all = Vec::new();
        self.oracle.all_logits(id, text, |row| all.push(row.to_vec())).unwrap();
        self.oracle.close(id).unwrap();
        for (found, wanted) in found.iter().rev().zip(all.iter().rev()) {
            match self.limit {
                None => {
                    assert!(
                        bits(found) == bits(wanted),
                        "a row of {} tokens has other bits than alone",
                        text.len()
                    );
                }
                Some(limit) => {
                    let differences = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
                    let largest = differences.fold(0.0, f32::max);
                    assert!(largest <= limit, "a row of {} tokens is off by {largest}", text.len());
                }
            }
        }
    }

    fn guess(&mut self, which: usize, n: usize) {
        let Some((id, text)) = self.open[which].clone() else { return };
        if text.len() + n > N_CTX {
            return;
        }
        self.session.mark(id).unwrap();
        match self.session.step(&[Rows::of(id, &vec![1; n])]).map(drop) {
            Ok(()) => {
                assert_eq!(self.session.rewind(id, text.len()).unwrap(), Rewind::Done, "there is a mark")
            }
            Err(ModelError::CacheFull { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn act(&mut self, which: usize, act: Act) {
        match (self.open[which].clone(), act) {
            (_, Act::Text(seed, n)) => drop(self.set_text(which, text(seed, n))),
            (Some(_), Act::Append(n)) => self.append(which, n),
            (Some(_), Act::Guess(n)) => self.guess(which, n),
            (Some((id, text)), Act::Fork) => {
                if let Some(free) = self.open.iter().position(Option::is_none) {
                    let (fork, held) = self.session.fork(id).unwrap();
                    let result = match held < text.len() {
                        true => self.session.prefill(fork, &text[held..]).map(drop),
                        false => Ok(()),
                    };
                    self.settle(free, fork, text, result);
                }
            }
            (Some((id, text)), Act::PutAside) => {
                let aside = self.session.put_aside(id).unwrap();
                let (id, held) = self.session.go_on(&aside).unwrap();
                let result = match held < text.len() {
                    true => self.session.prefill(id, &text[held..]).map(drop),
                    false => Ok(()),
                };
                self.settle(which, id, text, result);
            }
            (Some((id, _)), Act::Close) => {
                self.session.close(id).unwrap();
                self.open[which] = None;
            }
            (None, _) => {}
        }
    }

    fn run(mut self, acts: Vec<(usize, Act)>) {
        for (which, act) in acts {
            self.act(which, act);
        }
        // Finally, every open sequence computes a row that is checked.
        (0..4).for_each(|which| self.append(which, 1));
    }
}

/// A tiny model with gated delta nets and gated attention.
fn delta_net() -> Model {
    fixtures().into_iter().find(|fixture| fixture.name == "qwen35").unwrap().model()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// P11: whatever else is in a batch, however a text was cut into chunks, and whichever sequence computed its
    /// prefix, a row has the bits that its text has alone.
    #[test]
    fn row_bits_depend_on_the_rows_text_only(
        kind in 0..3,
        acts in prop::collection::vec((0usize..4, act()), 1..16),
    ) {
        match kind {
            2 => Schedule::new(|options| Session::new(&delta_net(), options).unwrap()).run(acts),
            1 => Schedule::new(|options| {
                let extras = tiny_hybrid::extras(SessionExtras::default());
                Session::with(&tiny_hybrid(), options, &extras).unwrap()
            })
            .run(acts),
            _ => Schedule::new(|options| Session::new(&tiny_llama(N_LAYER), options).unwrap()).run(acts),
        }
    }

    /// Without `deterministic`, the cut into chunks may change the order of sums, and nothing more.
    #[test]
    fn a_delta_nets_logits_hardly_depend_on_the_schedule(acts in prop::collection::vec((0usize..4, act()), 1..16)) {
        Schedule::within(Some(1e-4), |options| Session::new(&delta_net(), options).unwrap()).run(acts);
    }
}

/// The same schedules every time, so that the kernel cache has their kernels.
fn on_a_gpu(make: impl Fn(&SessionOptions, SessionExtras) -> Session) {
    let gpu = Gpu::simulated(config(32));
    let make = |options: &SessionOptions| {
        let cache_types = CacheTypes::default();
        let options = SessionOptions { device: gpu.choice(), cache_types, ..options.clone() };
        make(&options, SessionExtras { hip: gpu::options(), ..SessionExtras::default() })
    };
    let cases = std::env::var("RFGRAPH_PARITY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    // Every schedule has a text with several splits of keys and a prompt of more rows than a tile beside it.
    let acts = (long_text(), 33usize..80, prop::collection::vec((0usize..4, act()), 3..6));
    let result = runner.run(&acts, |(long, n, acts)| {
        let opening = [(0, long), (1, Act::Text(0, n)), (0, Act::Append(37))];
        Schedule::new(make).run(opening.into_iter().chain(acts).collect());
        Ok(())
    });
    result.unwrap();
    gpu.sim().assert_no_fault();
}

/// On a simulated GPU the batch determines tiles, splits and kernels for few rows.
#[test]
fn row_bits_depend_on_the_rows_text_only_on_a_gpu() {
    on_a_gpu(|options, extras| Session::with(&tiny_llama(N_LAYER), options, &extras).unwrap());
}

#[test]
fn row_bits_depend_on_the_rows_text_only_with_recurrent_state_on_a_gpu() {
    on_a_gpu(|options, extras| Session::with(&tiny_hybrid(), options, &tiny_hybrid::extras(extras)).unwrap());
}

#[test]
fn row_bits_depend_on_the_rows_text_only_with_delta_nets_on_a_gpu() {
    on_a_gpu(|options, extras| Session::with(&delta_net(), options, &extras).unwrap());
}
