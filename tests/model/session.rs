//! Guarantees of sessions: sequences do not affect each other, a sequence can be rewound, errors leave a session
//! usable, results are the same every time, and the chunks of a prompt do not matter.

use std::num::NonZeroUsize;

use rfgraph::cpu::Isa;
use rfgraph::model::{CacheTypes, ModelError, Session, SessionOptions};
use rfgraph::tensor::DType;

use crate::support::sessions::{
    EIGHT_BITS, bits, cut, decode, demo, logits_of, mean_kl, options, tokens, tolerance, worst,
};
use crate::support::tiny_llama::tiny_llama;

#[test]
fn sequences_do_not_affect_each_other() {
    let options = SessionOptions { n_sequences: 3, ..options() };
    let mine = tokens(1, 45);
    let run = |others: [u32; 2]| {
        let mut session = demo(&options);
        let ids = [(); 3].map(|()| session.open().unwrap());
        // Chunks of different lengths, so that the blocks of the sequences are interleaved.
        let parts = [tokens(others[0], 40), mine[..33].to_vec(), tokens(others[1], 64)];
        for (id, part) in ids.iter().zip(&parts) {
            session.prefill(*id, part).unwrap();
        }
        let mut rows = Vec::new();
        for (i, &token) in mine[33..].iter().enumerate() {
            let i = i as u32;
            let next = [(ids[0], 300 + others[0] + i), (ids[1], token), (ids[2], 400 + others[1] * i)];
            rows.push(session.decode(&next).unwrap().row(1).to_vec());
        }
        rows
    };
    let (a, b) = (run([2, 3]), run([5, 9]));
    assert_eq!(bits(&a.concat()), bits(&b.concat()), "what others say changes a sequence");

    let mut session = demo(&options);
    let id = session.open().unwrap();
    session.prefill(id, &mine[..33]).unwrap();
    let alone: Vec<_> = mine[33..].iter().map(|&token| decode(&mut session, id, token)).collect();
    assert!(mean_kl(&alone, &a) <= EIGHT_BITS, "{}", mean_kl(&alone, &a));
}

#[test]
fn rewound_tokens_leave_no_trace() {
    let mut session = demo(&options());
    let (prompt, other) = (tokens(1, 50), tokens(2, 20));
    let id = session.open().unwrap();
    session.prefill(id, &prompt).unwrap();
    let first: Vec<_> = other.iter().map(|&token| decode(&mut session, id, token)).collect();
    // Once within a block of the cache, and once across block boundaries.
    for wrong in [3, 60] {
        cut(&mut session, id, prompt.len());
        session.prefill(id, &tokens(7, wrong)).unwrap();
        cut(&mut session, id, prompt.len());
        assert_eq!(session.states().len(id).unwrap(), prompt.len());
        let again: Vec<_> = other.iter().map(|&token| decode(&mut session, id, token)).collect();
        assert_eq!(bits(&first.concat()), bits(&again.concat()), "after {wrong} tokens that were cut off");
    }
    // A closed sequence frees its blocks for the next, which starts empty.
    session.close(id).unwrap();
    assert!(session.decode(&[(id, 300)]).is_err(), "a closed sequence takes no token");
    let fresh = logits_of(&mut demo(&options()), &prompt);
    assert_eq!(bits(&logits_of(&mut session, &prompt).concat()), bits(&fresh.concat()));
}

#[test]
fn a_full_context_is_an_error_and_session_stays_usable() {
    let options = SessionOptions { n_ctx: 40, ubatch: Some(16), ..options() };
    let mut session = demo(&options);
    let id = session.open().unwrap();
    let too_many = session.prefill(id, &tokens(1, 41)).unwrap_err();
    assert!(matches!(too_many, ModelError::ContextFull { wanted: 41, n_ctx: 40, .. }), "{too_many}");
    assert_eq!(session.states().len(id).unwrap(), 0, "nothing of it was taken");

    let prompt = tokens(1, 40);
    let full = session.prefill(id, &prompt).unwrap().to_vec();
    let error = session.decode(&[(id, 300)]).unwrap_err();
    assert!(matches!(error, ModelError::ContextFull { wanted: 41, n_ctx: 40, .. }), "{error}");
    assert!(error.to_string().contains("a larger context"), "{error}");
    // The earlier logits are still available, and the session goes on.
    assert_eq!(bits(session.logits().unwrap().row(0)), bits(&full));
    cut(&mut session, id, 39);
    let again = decode(&mut session, id, prompt[39]);
    assert!(mean_kl(&[full], &[again]) <= EIGHT_BITS);
}

#[test]
fn invalid_token_is_an_error_and_session_stays_usable() {
    // An invalid token in a later chunk of a prompt is found before the first chunk is computed.
    let mut session = demo(&SessionOptions { n_sequences: 2, ubatch: Some(4), ..options() });
    let (a, b) = (session.open().unwrap(), session.open().unwrap());
    let prompt = tokens(1, 10);
    session.prefill(a, &prompt).unwrap();
    session.prefill(b, &prompt).unwrap();
    let n_vocab = session.model().architecture().shape().n_vocab;
    for token in [n_vocab as u32, u32::MAX] {
        let mut bad = prompt.clone();
        bad.push(token);
        for error in [
            session.prefill(a, &bad).map(drop).unwrap_err(),
            session.all_logits(a, &bad, |_| ()).unwrap_err(),
            session.decode(&[(b, 300), (a, token)]).map(drop).unwrap_err(),
        ] {
            let is_it = matches!(error, ModelError::Token { token: found, n_vocab: n } if found == token && n == n_vocab);
            assert!(is_it, "{error}");
        }
    }
    assert_eq!((session.states().len(a).unwrap(), session.states().len(b).unwrap()), (10, 10));
    assert!(session.decode(&[]).is_err());
    assert!(session.prefill(a, &[]).is_err());
    assert!(session.open().is_err(), "both sequences are open");
    let rows = [decode(&mut session, a, 300), decode(&mut session, b, 300)];
    assert_eq!(bits(&rows[0]), bits(&rows[1]));
}

#[test]
fn earlier_logits_are_unavailable_after_an_error() {
    let mut session = demo(&options());
    let id = session.open().unwrap();
    session.prefill(id, &tokens(1, 10)).unwrap();
    assert!(session.logits().is_ok());
    // The plan for all logits of a batch does not exist yet, and now it cannot be compiled.
    let refuse = |_: &serde_json::Value| Err(<serde_json::Error as serde::de::Error>::custom("refused"));
    let row = rfgraph::ops::TABLE.iter().find(|row| row.name == "rms_norm").unwrap();
    session.cpu().unwrap().register(rfgraph::graph::operator::OperatorRow { decode: refuse, ..*row });
    let error = session.all_logits(id, &tokens(2, 5), |_| ()).unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(session.logits().is_err() && session.last_plans().is_err());
    // Batch sizes that have their plan go on.
    assert_eq!(session.states().len(id).unwrap(), 10);
    decode(&mut session, id, 300);
    assert!(session.logits().is_ok());
}

#[test]
fn too_long_contexts_are_refused_before_any_allocation() {
    let model = tiny_llama(2);
    let set_up = |n_ctx, n_sequences| {
        let options = SessionOptions { n_ctx, n_sequences, memory_fraction: 1e-5, ..options() };
        Session::new(&model, &options).unwrap_err()
    };
    for (n_ctx, n_sequences) in [(usize::MAX, 1), (99_999_999_999, 1), (1, usize::MAX), (2_000_000_000, 2)] {
        let error = set_up(n_ctx, n_sequences);
        assert!(
            matches!(error, ModelError::Context { .. }) && error.to_string().contains("a smaller context"),
            "{error}"
        );
    }
    // For a context that can be counted, the tables are first checked against the budget.
    for error in [set_up(2_000_000_000, 1), set_up(32, 60_000_000)] {
        assert!(error.to_string().starts_with("block tables and batch needs"), "{error}");
    }
}

#[test]
fn chunks_of_a_prompt_do_not_change_the_logits() {
    let prompt = tokens(1, 200);
    let whole = logits_of(&mut demo(&options()), &prompt);
    let short: Vec<u32> = prompt.iter().map(|token| token % 96).collect();
    let n_layer = 4;
    let tiny = tiny_llama(n_layer);
    let exact = SessionOptions { cache_types: CacheTypes::both(DType::F32), ..options() };
    let tiny_whole = logits_of(&mut Session::new(&tiny, &exact).unwrap(), &short);
    for ubatch in [1, 7, 32] {
        let cut = logits_of(&mut demo(&SessionOptions { ubatch: Some(ubatch), ..options() }), &prompt);
        assert!(mean_kl(&whole, &cut) <= EIGHT_BITS, "ubatch {ubatch}: {}", mean_kl(&whole, &cut));

        let options = SessionOptions { ubatch: Some(ubatch), ..exact.clone() };
        let cut = logits_of(&mut Session::new(&tiny, &options).unwrap(), &short);
        let limit = tolerance(&tiny_whole, n_layer);
        let worst = worst(&tiny_whole, &cut);
        assert!(worst <= limit, "ubatch {ubatch}: {worst} of {limit}");
    }
}

/// Only the rounding of the cache differs: half a unit in the last place, 2⁻¹¹ or 2⁻⁸ of the size of a key or value,
/// which the norms keep from growing. Four layers, and a factor of four for queries and output matrices; the measured
/// difference is a tenth of that.
#[test]
fn cache_types_differ_by_their_rounding() {
    let prompt: Vec<u32> = tokens(1, 120).iter().map(|token| token % 96).collect();
    let model = tiny_llama(4);
    let run = |k, v| {
        let options = SessionOptions { cache_types: CacheTypes { k, v }, ..options() };
        logits_of(&mut Session::new(&model, &options).unwrap(), &prompt)
    };
    let exact = run(DType::F32, DType::F32);
    let largest = exact.iter().flatten().fold(0f32, |largest, x| largest.max(x.abs()));
    for (rounding, unit) in [(DType::F16, 2f32.powi(-11)), (DType::BF16, 2f32.powi(-8))] {
        for (k, v) in [(rounding, rounding), (rounding, DType::F32), (DType::F32, rounding)] {
            let rounded = run(k, v);
            let worst = worst(&exact, &rounded);
            println!("{k} and {v}: {worst} of {}", largest * unit * 4.0 * 4.0);
            assert!(worst > 0.0, "{k} or {v} is not used");
            assert!(worst <= largest * unit * 4.0 * 4.0, "{k}, {v}: {worst}, largest logit {largest}");
        }
    }
    for (k, v) in [(DType::I32, DType::F16), (DType::F16, DType::Q6_K)] {
        let refused = SessionOptions { cache_types: CacheTypes { k, v }, ..options() };
        let error = Session::new(&model, &refused).unwrap_err();
        assert!(error.to_string().contains("F16, BF16, F32, Q8_0, Q4_0"), "{error}");
    }
}

/// The same bits for any number of threads, on every instruction set, and from run to run.
#[test]
fn results_are_the_same_every_time() {
    let (prompt, more) = (tokens(1, 70), tokens(4, 6));
    let run = |threads, isa| {
        let mut session = demo(&SessionOptions { threads: NonZeroUsize::new(threads), ..options() });
        assert!(session.cpu().unwrap().set_isa(isa));
        let id = session.open().unwrap();
        let mut all = session.prefill(id, &prompt).unwrap().to_vec();
        more.iter().for_each(|&token| all.extend(decode(&mut session, id, token)));
        bits(&all)
    };
    let first = run(1, Isa::detect());
    for isa in Isa::available() {
        for threads in [1, 2, 3] {
            assert!(run(threads, isa) == first, "{threads} threads on {isa} give other bits");
        }
    }
}
