//! Prompts that share a prefix, and full contexts: reused state gives the same answers as computing afresh.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use proptest::prelude::*;
use rfgraph::engine::{AnswerOptions, Chat, ChatOptions, GenerateOptions, Stop};
use rfgraph::model::{
    CacheTypes, ContextShift, Model, ModelError, SequenceId, Session, SessionExtras, SessionOptions,
};
use rfgraph::sampling::SamplerParams;
use rfgraph::tensor::DType;

use crate::support::architectures;
use crate::support::gpu::{self, Gpu, config};
use crate::support::sessions::{
    self, EIGHT_BITS, bits, cut, decode, demo, mean_kl, tokens, tolerance, worst,
};
use crate::support::tiny_llama::tiny_llama;

/// One thread: tests run side by side.
fn options() -> SessionOptions {
    SessionOptions { threads: Some(NonZeroUsize::MIN), ..sessions::options() }
}

fn three() -> SessionOptions {
    SessionOptions { n_sequences: 3, ..options() }
}

/// The logits after a text, and after each of the tokens `more` that follow it.
fn go_on(session: &mut Session, id: SequenceId, tail: &[u32], more: &[u32]) -> Vec<Vec<f32>> {
    let mut rows = vec![session.prefill(id, tail).unwrap().to_vec()];
    rows.extend(more.iter().map(|&token| decode(session, id, token)));
    rows
}

/// Compares a session that computes a prefix of whole blocks and then the rest with one where another sequence has
/// already computed the prefix. The chunks are the same, and so must be the bits.
fn reused_is_computed(n: u32, mut session: impl FnMut() -> Session, tokens: impl Fn(u32, u32) -> Vec<u32>) {
    let (prefix, tail, more) = (tokens(1, n), tokens(2, 9), tokens(3, 5));
    let n_prefix = prefix.len();
    let prompt = [&prefix[..], &tail].concat();
    let mut fresh = session();
    let id = fresh.open().unwrap();
    fresh.prefill(id, &prefix).unwrap();
    let wanted = go_on(&mut fresh, id, &tail, &more);

    let mut session = session();
    let first = session.open().unwrap();
    session.prefill(first, &prefix).unwrap();
    session.prefill(first, &tokens(7, 20)).unwrap();
    // While the other sequence goes on, and after it is closed.
    for ended in [false, true] {
        if ended {
            session.close(first).unwrap();
        }
        let (second, n) = session.open_with(&prompt).unwrap();
        assert_eq!((n, session.states().len(second).unwrap()), (n_prefix, n_prefix));
        let found = go_on(&mut session, second, &prompt[n..], &more);
        assert_eq!(bits(&found.concat()), bits(&wanted.concat()), "ended: {ended}");
        let text: Vec<u32> = session.states().tokens(second).unwrap().collect();
        assert_eq!(text, [&prompt[..], &more].concat());
        session.close(second).unwrap();
    }
}

#[test]
fn a_prefix_from_another_sequence_gives_the_same_bits() {
    reused_is_computed(64, || demo(&three()), tokens);
}

#[test]
fn a_prefix_from_another_sequence_gives_the_same_bits_on_a_gpu() {
    let model = tiny_llama(2);
    let gpu = Gpu::simulated(config(32));
    let options = SessionOptions { n_ctx: 128, ubatch: Some(64), device: gpu.choice(), ..three() };
    let extras = SessionExtras { hip: gpu::options(), ..SessionExtras::default() };
    let tokens = |seed, n| tokens(seed, n).iter().map(|token| token % 96).collect();
    reused_is_computed(64, || Session::with(&model, &options, &extras).unwrap(), tokens);
    gpu.sim().assert_no_fault();
}

/// Every kind of cached state: windows, sinks, latent keys.
#[test]
fn every_architecture_reuses_a_prefix_from_another_sequence() {
    for fixture in architectures::fixtures() {
        let model = fixture.model();
        let n_vocab = model.architecture().shape().n_vocab as u32;
        let tokens = |seed, n| tokens(seed, n).iter().map(|token| token % n_vocab).collect();
        // As many tokens as there are learned positions.
        let options = SessionOptions { n_ctx: 64, ..three() };
        println!("{}", fixture.name);
        reused_is_computed(32, || Session::new(&model, &options).unwrap(), tokens);
    }
}

/// With other chunks only the order of sums differs.
#[test]
fn a_prefix_in_other_chunks_gives_the_same_answer() {
    let prompt = tokens(1, 150);
    let fresh = {
        let mut session = demo(&three());
        let id = session.open().unwrap();
        session.prefill(id, &prompt).unwrap().to_vec()
    };
    let mut session = demo(&three());
    let other = session.open().unwrap();
    session.prefill(other, &prompt[..100]).unwrap();
    prompt[100..130].iter().for_each(|&token| drop(decode(&mut session, other, token)));
    let (id, n) = session.open_with(&prompt).unwrap();
    assert_eq!(n, 128);
    let found = session.prefill(id, &prompt[n..]).unwrap().to_vec();
    let kl = mean_kl(&[fresh], &[found]);
    assert!(kl <= EIGHT_BITS, "{kl}");
}

/// A sequence that goes back into a block which another sequence holds must not change the other.
#[test]
fn a_cut_inside_a_shared_block_leaves_the_other_holder_alone() {
    let (prompt, more) = (tokens(1, 70), tokens(3, 6));
    let run = |disturbed: bool| {
        let mut session = demo(&three());
        let first = session.open().unwrap();
        session.prefill(first, &prompt).unwrap();
        let mut others = Vec::new();
        if disturbed {
            let (second, n) = session.open_with(&prompt).unwrap();
            assert_eq!(n, 64);
            cut(&mut session, second, 40);
            others.push(session.prefill(second, &tokens(8, 30)).unwrap().to_vec());
            cut(&mut session, second, 35);
            // The same with a single token, in a batch with the other holder of the block.
            session.reuse(second, &prompt).unwrap();
            cut(&mut session, second, 50);
            let both = session.decode(&[(first, more[0]), (second, 300)]).unwrap();
            let rows: Vec<_> = both.rows().map(<[f32]>::to_vec).collect();
            others.push(rows[1].clone());
            cut(&mut session, first, 70);
        }
        let rows: Vec<_> = more.iter().map(|&token| decode(&mut session, first, token)).collect();
        (rows, others)
    };
    let ((alone, _), (disturbed, others)) = (run(false), run(true));
    assert_eq!(bits(&alone.concat()), bits(&disturbed.concat()));
    let mut session = demo(&three());
    let id = session.open().unwrap();
    let mut fresh = vec![session.prefill(id, &[&prompt[..40], &tokens(8, 30)].concat()).unwrap().to_vec()];
    cut(&mut session, id, 0);
    fresh.push(session.prefill(id, &[&prompt[..50], &[300]].concat()).unwrap().to_vec());
    let kl = mean_kl(&fresh, &others);
    assert!(kl <= EIGHT_BITS, "{kl}");
}

/// An action of a sequence of the session.
#[derive(Clone, Debug)]
enum Act {
    /// Another prompt: blocks of one repeated token each, and a shorter end.
    Prompt(Vec<u32>, u32, usize),
    Decode(u32),
    Truncate(usize),
    Close,
}

fn act() -> impl Strategy<Value = Act> {
    let token = 0u32..2;
    prop_oneof![
        4 => (prop::collection::vec(token.clone(), 0..3), token.clone(), 1usize..30)
            .prop_map(|(blocks, token, n)| Act::Prompt(blocks, token, n)),
        2 => token.prop_map(Act::Decode),
        2 => (1usize..95).prop_map(Act::Truncate),
        1 => Just(Act::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happened before in a session, a text's logits are those of a fresh sequence.
    #[test]
    fn logits_do_not_depend_on_what_is_shared(acts in prop::collection::vec((0usize..3, act()), 1..24)) {
        let n_layer = 2;
        let model = tiny_llama(n_layer);
        let options = SessionOptions { n_ctx: 96, cache_types: CacheTypes::both(DType::F32), ..three() };
        let mut session = Session::new(&model, &options).unwrap();
        let mut fresh = Session::new(&model, &SessionOptions { n_sequences: 1, ..options }).unwrap();
        let oracle = fresh.open().unwrap();
        let mut open: [Option<SequenceId>; 3] = [None; 3];
        for (which, act) in acts {
            let logits = match (open[which], act) {
                (None, Act::Prompt(blocks, token, n)) => {
                    let prompt = text(&blocks, token, n);
                    let (id, n) = session.open_with(&prompt).unwrap();
                    open[which] = Some(id);
                    session.prefill(id, &prompt[n..]).unwrap().to_vec()
                }
                (Some(id), Act::Prompt(blocks, token, n)) => {
                    let prompt = text(&blocks, token, n);
                    let n = session.reuse(id, &prompt).unwrap();
                    session.prefill(id, &prompt[n..]).unwrap().to_vec()
                }
                (Some(id), Act::Decode(token)) if session.states().len(id).unwrap() < 96 => {
                    decode(&mut session, id, token)
                }
                (Some(id), Act::Truncate(n)) => {
                    cut(&mut session, id, n);
                    continue;
                }
                (Some(id), Act::Close) => {
                    session.close(id).unwrap();
                    open[which] = None;
                    continue;
                }
                _ => continue,
            };
            let id = open[which].unwrap();
            let text: Vec<u32> = session.states().tokens(id).unwrap().collect();
            cut(&mut fresh, oracle, 0);
            let (found, wanted) = ([logits], [fresh.prefill(oracle, &text).unwrap().to_vec()]);
            let (worst, limit) = (worst(&found, &wanted), tolerance(&wanted, n_layer));
            prop_assert!(worst <= limit, "{worst} of {limit} after {text:?}");
        }
    }
}

fn text(blocks: &[u32], token: u32, n: usize) -> Vec<u32> {
    let blocks = blocks.iter().flat_map(|&token| vec![token; 32]);
    blocks.chain(vec![token; n]).collect()
}

fn goes_on(_: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// After a shift a sequence equals one that begins with the remaining tokens: the same bits, with the same chunks.
#[test]
fn a_shifted_sequence_equals_a_fresh_one_of_the_remaining_tokens() {
    let options = SessionOptions { n_ctx: 80, ..options() };
    let all = tokens(1, 80);
    for keep in [0, 1, 10, 32, 45] {
        let mut session = demo(&options);
        let id = session.open().unwrap();
        if keep > 0 {
            session.prefill(id, &all[..keep]).unwrap();
        }
        session.prefill(id, &all[keep..]).unwrap();
        let shift = ContextShift { keep };
        let dropped = (80 - keep).div_ceil(2);
        assert_eq!(session.shift(id, shift, goes_on).unwrap(), ControlFlow::Continue(dropped));
        assert_eq!(session.shift(id, shift, goes_on).unwrap(), ControlFlow::Continue(0), "there is room");
        let left = [&all[..keep], &all[keep + dropped..]].concat();
        assert_eq!(session.states().tokens(id).unwrap().collect::<Vec<_>>(), left);
        let after = [session.logits().unwrap().row(0).to_vec(), decode(&mut session, id, 300)];

        let mut fresh = demo(&options);
        let id = fresh.open().unwrap();
        if keep > 0 {
            fresh.prefill(id, &left[..keep]).unwrap();
        }
        let wanted = go_on(&mut fresh, id, &left[keep..], &[300]);
        assert_eq!(bits(&after.concat()), bits(&wanted.concat()), "keep {keep}");
    }
}

#[test]
fn a_shift_without_effect_is_refused_and_an_interrupted_one_leaves_a_sequence() {
    let mut session = demo(&SessionOptions { n_ctx: 80, ubatch: Some(8), ..options() });
    let id = session.open().unwrap();
    let all = tokens(1, 80);
    session.prefill(id, &all).unwrap();
    let error = session.shift(id, ContextShift { keep: 80 }, goes_on).unwrap_err();
    assert!(matches!(error, ModelError::ShiftKeepsAll { keep: 80, n_ctx: 80 }), "{error}");
    let keeps = ContextShift { keep: 4 };
    assert_eq!(session.shift(id, keeps, |_| ControlFlow::Break(())).unwrap(), ControlFlow::Break(()));
    let left: Vec<u32> = session.states().tokens(id).unwrap().collect();
    assert_eq!(left, [&all[..4], &all[42..50]].concat(), "what stays, up to the first chunk");
    decode(&mut session, id, 300);
}

/// An answer that goes on past the end of the context, and the tokens in the context afterwards.
#[test]
fn an_answer_goes_on_past_the_end_of_the_context() {
    let model = Model::demo().unwrap();
    let prompt = model.tokenizer().unwrap().encode_chat("Once upon a time");
    let n_ctx = 16;
    let run = |context_shift, max_tokens| {
        let sampling = SamplerParams::greedy();
        let choice = ChatOptions { sampling, ..ChatOptions::default() };
        let options = SessionOptions { n_ctx, ..options() };
        let mut chat = Chat::new(&model, &options, &SessionExtras::default(), choice).unwrap();
        let generate = GenerateOptions { max_tokens, ..GenerateOptions::default() };
        let options = AnswerOptions { generate, context_shift, ..AnswerOptions::default() };
        let answer = chat.answer(&prompt, options, |_| Ok::<(), ModelError>(())).unwrap();
        let session = chat.session();
        let id = session.states().open_sequences().next().unwrap();
        let held: Vec<u32> = session.states().tokens(id).unwrap().collect();
        let last = session.logits().unwrap().row(0).to_vec();
        (answer, held, last)
    };
    let (stopped, ..) = run(None, None);
    assert_eq!(stopped.stop, Stop::ContextFull);
    let shift = ContextShift { keep: 2 };
    let (found, held, last) = run(Some(shift), Some(stopped.tokens.len() + 30));
    assert!(matches!(found.stop, Stop::Limit | Stop::EndOfGeneration), "{:?}", found.stop);
    let tokens = &found.tokens;
    assert!(tokens.len() > stopped.tokens.len() + 8 && tokens.starts_with(&stopped.tokens), "{tokens:?}");

    // The computed tokens, each after the shift that made room for it.
    let mut wanted = prompt.clone();
    for &token in &tokens[..found.decode_runs] {
        if wanted.len() == n_ctx {
            wanted.drain(2..2 + 7);
        }
        wanted.push(token);
    }
    assert_eq!(held, wanted);
    let mut fresh = demo(&SessionOptions { n_ctx, ..options() });
    let id = fresh.open().unwrap();
    let kl = mean_kl(&[fresh.prefill(id, &held).unwrap().to_vec()], &[last]);
    assert!(kl <= EIGHT_BITS, "{kl}");
}
