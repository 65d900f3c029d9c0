//! A session that runs for long does not grow: old plans are unloaded.
//!
//! One test only: the counter is global to the process, and tests of one file run at the same time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(feature = "demo")]

#[allow(dead_code, reason = "each program counts something else")]
mod counting;

use std::num::NonZeroUsize;

use counting::Counting;
use rfgraph::model::{Model, Output, Rows, SequenceId, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const N_SEQUENCES: usize = 12;
const N_PLANS: usize = 8;

/// Numbers below a bound, from a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

/// One step: a chunk of a prompt or a single token for each of some sequences, with outputs of every kind.
fn step(session: &mut Session, ids: &[SequenceId], random: &mut Random) {
    let wants = [Output::Nothing, Output::Logits, Output::Argmax, Output::TopK(40), Output::Hidden];
    let tokens: Vec<u32> = (0..24).map(|i| 300 + 7 * i).collect();
    let n = 1 + random.below(N_SEQUENCES);
    let chunk = random.below(6 * n);
    let mut rows = Vec::new();
    for (i, id) in ids.iter().take(n).enumerate() {
        if session.states().len(*id).unwrap() + tokens.len() > 64 {
            let _ = session.rewind(*id, 0).unwrap();
        }
        let n_tokens = if i == chunk { 16 + random.below(9) } else { 1 };
        rows.push(Rows::of(*id, &tokens[..n_tokens]).want(wants[random.below(wants.len())]));
    }
    session.step(&rows).unwrap();
}

#[test]
fn random_steps_keep_plans_and_memory_bounded() {
    let options = SessionOptions {
        n_ctx: 64,
        n_sequences: N_SEQUENCES,
        ubatch: Some(64),
        threads: NonZeroUsize::new(1),
        ..SessionOptions::default()
    };
    let mut session = Session::new(&Model::demo().unwrap(), &options).unwrap();
    session.keep_plans(N_PLANS);
    let n_first = session.n_plans();
    let ids = [(); N_SEQUENCES].map(|()| session.open().unwrap());
    let mut random = Random(1);
    // The bytes at the end of each part of the schedule.
    let bytes = [(); 5].map(|()| {
        for _ in 0..60 {
            step(&mut session, &ids, &mut random);
            assert!(session.n_plans() <= n_first + N_PLANS, "{} plans", session.n_plans());
        }
        counting::held()
    });
    assert_eq!(session.n_plans(), n_first + N_PLANS, "the schedule needs more plans than are kept");
    // Measured: 6.19 MB after each part, within 7 kB. If nothing is unloaded, 14.8 MB grow to 32.5 MB and 103 plans.
    for later in &bytes[1..] {
        assert!(*later < bytes[0] + (1 << 20), "{bytes:?}");
    }
}
