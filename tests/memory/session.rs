//! Nothing is allocated while tokens are decoded, on any thread.
//!
//! One test only: the counter is global to the process, and tests of one file run at the same time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "demo")]

#[allow(dead_code, reason = "each program counts something else")]
mod counting;

use std::num::NonZeroUsize;

use counting::Counting;
use rfgraph::model::{Model, Output, Rows, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn greedy(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold(
        (0, f32::MIN),
        |best, (i, &logit)| {
            if logit > best.1 { (i, logit) } else { best }
        },
    );
    best.0 as u32
}

#[test]
fn decoding_allocates_nothing() {
    let model = Model::demo().unwrap();
    let prompt: Vec<u32> = (0..40).map(|i| 300 + 7 * i).collect();
    for threads in [1, 2, 3] {
        let options = SessionOptions {
            n_ctx: 256,
            n_sequences: 3,
            threads: NonZeroUsize::new(threads),
            ..SessionOptions::default()
        };
        let mut session = Session::new(&model, &options).unwrap();
        let ids = [(); 3].map(|()| session.open().unwrap());
        let mut next = [0; 3];
        for (id, next) in ids.iter().zip(&mut next) {
            *next = greedy(session.prefill(*id, &prompt).unwrap());
        }
        // The first token of each batch size may still initialise something.
        let mut alone = greedy(session.decode(&[(ids[0], next[0])]).unwrap().row(0));
        let mut batch = [(ids[0], alone), (ids[1], next[1]), (ids[2], next[2])];
        session.decode(&batch).unwrap();

        let before = counting::calls();
        // 20 tokens of one sequence, across the end of a cache block, then of three sequences at once.
        for _ in 0..20 {
            alone = greedy(session.decode(&[(ids[0], alone)]).unwrap().row(0));
        }
        for _ in 0..20 {
            let logits = session.decode(&batch).unwrap();
            for (i, (_, token)) in batch.iter_mut().enumerate() {
                *token = greedy(logits.row(i));
            }
        }
        let calls = counting::calls() - before;
        assert_eq!(calls, 0, "with {threads} threads");
        assert_eq!(session.states().len(ids[0]).unwrap(), prompt.len() + 42);

        // Steps whose rows want different outputs, once each of their plans exists.
        let wants = [Output::Logits, Output::TopK(40), Output::Argmax, Output::Nothing, Output::Hidden];
        let mut mixed = |turn: usize| {
            let rows = [0, 1, 2].map(|i| Rows::of(ids[i], &[310]).want(wants[(turn + i) % wants.len()]));
            session.step(&rows).unwrap();
        };
        (0..wants.len()).for_each(&mut mixed);
        let before = counting::calls();
        (0..20).for_each(&mut mixed);
        let calls = counting::calls() - before;
        assert_eq!(calls, 0, "mixed outputs with {threads} threads");
    }
    // Check that the counter works.
    let before = counting::calls();
    drop(std::hint::black_box(Box::new(1)));
    assert!(counting::calls() >= before + 2);
}
