//! `Session::step`: rows of any sequences in one batch, each with its own output, over both kinds of state.

use std::num::NonZeroUsize;

use rfgraph::model::{
    CacheTypes, ModelError, Output, Rewind, RowOutput, Rows, Session, SessionExtras, SessionOptions,
};
use rfgraph::tensor::DType;

use crate::support::demo::greedy;
use crate::support::gpu::{self, Gpu, config};
use crate::support::sessions::{bits, tokens, tolerance, worst};
use crate::support::tiny_hybrid::{self, N_EMBD, tiny_hybrid};
use crate::support::tiny_llama::tiny_llama;

const N_LAYER: usize = 2;

fn options(n_sequences: usize) -> SessionOptions {
    SessionOptions {
        n_ctx: 128,
        n_sequences,
        ubatch: Some(64),
        threads: Some(NonZeroUsize::MIN),
        cache_types: CacheTypes::both(DType::F32),
        ..SessionOptions::default()
    }
}

fn llama(n_sequences: usize) -> Session {
    Session::new(&tiny_llama(N_LAYER), &options(n_sequences)).unwrap()
}

fn hybrid(options: &SessionOptions) -> Session {
    Session::with(&tiny_hybrid(), options, &tiny_hybrid::extras(SessionExtras::default())).unwrap()
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

/// The logits and the hidden state after a text, in a session of its own.
fn alone(mut session: Session, text: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let id = session.open().unwrap();
    let (last, before) = text.split_last().unwrap();
    if !before.is_empty() {
        session.prefill(id, before).unwrap();
    }
    let outputs = session.step(&[Rows::of(id, &[*last]).want(Output::Logits)]).unwrap();
    let found = logits(outputs.last(0));
    session.close(id).unwrap();
    let again = session.open().unwrap();
    let mut hidden = Vec::new();
    session.all_states(again, text, |state| hidden = state.to_vec()).unwrap();
    (found, hidden)
}

/// Every kind of output in one step: each row gets the output that it would get alone.
fn each_row_gets_its_output(mut session: Session, make: impl Fn() -> Session) {
    let ids = [(); 5].map(|()| session.open().unwrap());
    let texts: Vec<Vec<u32>> = [20, 1, 3, 30, 7].iter().zip(1..).map(|(&n, seed)| text(seed, n)).collect();
    let wants = [Output::Logits, Output::Argmax, Output::TopK(5), Output::Hidden, Output::Nothing];
    let rows: Vec<Rows<'_>> = (0..5).map(|i| Rows::of(ids[i], &texts[i]).want(wants[i])).collect();
    let outputs = session.step(&rows).unwrap();
    let alone: Vec<_> = texts.iter().map(|text| alone(make(), text)).collect();
    let near = |found: &[f32], wanted: &[f32]| {
        let (found, wanted) = ([found.to_vec()], [wanted.to_vec()]);
        let (worst, limit) = (worst(&found, &wanted), tolerance(&wanted, N_LAYER));
        assert!(worst <= limit, "{worst} of {limit}");
    };
    near(&logits(outputs.last(0)), &alone[0].0);
    let best = |output: RowOutput<'_>| match output {
        RowOutput::Argmax(token) => token,
        RowOutput::Logits(logits) => greedy(logits),
        other => panic!("{other:?}"),
    };
    assert_eq!(best(outputs.last(1)), greedy(&alone[1].0));
    match outputs.last(2) {
        RowOutput::TopK(ids, values) => {
            assert_eq!((ids.len(), values.len()), (5, 5));
            assert_eq!(ids[0] as u32, greedy(&alone[2].0));
            let wanted: Vec<f32> = ids.iter().map(|&id| alone[2].0[id as usize]).collect();
            near(values, &wanted);
        }
        RowOutput::Logits(logits) => near(logits, &alone[2].0),
        other => panic!("{other:?}"),
    }
    match outputs.last(3) {
        RowOutput::Hidden(hidden) => near(hidden, &alone[3].1),
        other => panic!("{other:?}"),
    }
    assert_eq!(outputs.last(4), RowOutput::Nothing);
    for (rows, row) in [(0, 18), (0, 20), (3, 28), (5, 0), (usize::MAX, 0)] {
        assert_eq!(outputs.row(rows, row), RowOutput::Nothing, "row {row} of {rows} wants nothing");
    }
    for (id, text) in ids.iter().zip(&texts) {
        assert_eq!(&session.states().tokens(*id).unwrap().collect::<Vec<_>>(), text);
    }
}

#[test]
fn each_row_of_a_step_gets_its_own_output() {
    each_row_gets_its_output(llama(5), || llama(1));
}

#[test]
fn each_row_of_a_step_gets_its_own_output_on_a_gpu() {
    let gpu = Gpu::simulated(config(32));
    let options = SessionOptions { device: gpu.choice(), ..options(5) };
    let extras = SessionExtras { hip: gpu::options(), ..SessionExtras::default() };
    each_row_gets_its_output(Session::with(&tiny_llama(N_LAYER), &options, &extras).unwrap(), || llama(1));
    gpu.sim().assert_no_fault();
}

/// A new plan takes memory and compiles kernels: the steps that a session is made for find theirs.
#[test]
fn first_steps_make_no_plan() {
    let gpu = Gpu::simulated(config(32));
    let options = SessionOptions { device: gpu.choice(), ..options(3) };
    let extras = SessionExtras { hip: gpu::options(), want: Output::TopK(20), ..SessionExtras::default() };
    let mut session = Session::with(&tiny_llama(N_LAYER), &options, &extras).unwrap();
    let ids = [(); 3].map(|()| session.open().unwrap());
    let made =
        |gpu: &Gpu| ["hipMalloc", "hipHostMalloc", "hipModuleLoadData"].map(|call| gpu.sim().count(call));
    let before = made(&gpu);
    assert!(before.iter().all(|&n| n > 0), "{before:?}");
    session.prefill(ids[0], &text(1, 64)).unwrap();
    session.step(&[Rows::of(ids[0], &[5]).want(Output::TopK(20))]).unwrap();
    session.decode(&[(ids[0], 7)]).unwrap();
    session.decode(&ids.map(|id| (id, 9))).unwrap();
    assert_eq!(made(&gpu), before);
    session.step(&[Rows::of(ids[0], &[5]).want(Output::TopK(30))]).unwrap();
    assert_ne!(made(&gpu), before, "the calls of a new plan are counted");
}

/// A step that wants nothing has no logits, though its plan computes some.
#[test]
fn a_step_that_wants_nothing_has_no_logits() {
    let mut session = llama(1);
    let id = session.open().unwrap();
    session.step(&[Rows::of(id, &[1, 2])]).unwrap();
    assert!(session.logits().is_err());
    session.step(&[Rows::of(id, &[3]).want(Output::Logits)]).unwrap();
    assert_eq!(session.logits().unwrap().row(0).len(), 96);
}

/// Several tokens of one sequence, each with its logits, are what single tokens give.
#[test]
fn guesses_are_verified_in_one_step() {
    for make in [|| llama(1), || hybrid(&options(1))] {
        let (prompt, guesses) = (text(1, 30), text(2, 6));
        let mut session = make();
        let id = session.open().unwrap();
        session.prefill(id, &prompt).unwrap();
        session.mark(id).unwrap();
        let outputs = session.step(&[Rows::of(id, &guesses).want_all(Output::Logits)]).unwrap();
        let rows: Vec<Vec<f32>> = (0..6).map(|row| logits(outputs.row(0, row))).collect();
        // Three guesses were right: the others are taken back.
        let left = match session.rewind(id, 33).unwrap() {
            Rewind::Done => 33,
            Rewind::RecomputeFrom(left) => left,
        };
        assert!(left == 33 || (left == 30 && session.states().has_recurrent()), "{left}");
        session.prefill(id, &[&guesses[left - 30..3], &[17]].concat()).unwrap();
        let after = logits(session.step(&[Rows::of(id, &[5]).want(Output::Logits)]).unwrap().last(0));

        let mut fresh = make();
        let id = fresh.open().unwrap();
        fresh.prefill(id, &prompt).unwrap();
        let single: Vec<Vec<f32>> =
            guesses.iter().map(|&token| fresh.decode(&[(id, token)]).unwrap().row(0).to_vec()).collect();
        let limit = tolerance(&single, tiny_hybrid::N_LAYER);
        assert!(worst(&rows, &single) <= limit);
        let _ = fresh.rewind(id, 0).unwrap();
        fresh.prefill(id, &[&prompt[..], &guesses[..3], &[17]].concat()).unwrap();
        let wanted = fresh.decode(&[(id, 5)]).unwrap().row(0).to_vec();
        assert!(worst(&[after], &[wanted]) <= limit);
    }
}

/// Embedding rows copied from the model's table equal tokens.
#[test]
fn embedding_rows_mix_with_tokens() {
    let model = tiny_llama(N_LAYER);
    let table: Vec<f32> = {
        let info = model.gguf().tensor("token_embd.weight").unwrap();
        model.gguf().data(info).chunks_exact(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect()
    };
    let embeddings_of = |tokens: &[u32]| -> Vec<f32> {
        tokens.iter().flat_map(|&token| table[token as usize * N_EMBD..][..N_EMBD].to_vec()).collect()
    };
    let all = text(3, 40);
    let mut session = llama(2);
    let (mixed, plain) = (session.open().unwrap(), session.open().unwrap());
    let (middle, end) = (embeddings_of(&all[10..25]), embeddings_of(&all[39..]));
    let rows = [
        Rows::of(mixed, &all[..10]),
        Rows::of(plain, &all[..7]),
        Rows::embeddings(mixed, &middle),
        Rows::of(mixed, &all[25..39]),
    ];
    session.step(&rows).unwrap();
    assert_eq!(session.states().len(mixed).unwrap(), 39);
    let found = session.step(&[Rows::embeddings(mixed, &end).want(Output::Logits)]).unwrap();
    let found = logits(found.last(0));
    let wanted = alone(llama(1), &all).0;
    assert!(
        worst(&[found], std::slice::from_ref(&wanted)) <= tolerance(std::slice::from_ref(&wanted), N_LAYER)
    );
    assert!(session.states().tokens(mixed).is_err(), "embedding rows have no tokens");
    assert!(session.put_aside(mixed).is_err() && session.fork(mixed).is_err());

    let refused = [&[0f32; N_EMBD + 1][..], &[f32::NAN; N_EMBD], &[]];
    for values in refused {
        let error = session.step(&[Rows::embeddings(mixed, values)]).map(drop).unwrap_err();
        assert!(matches!(error, ModelError::Rows(_)), "{error}");
    }
    assert_eq!(session.states().len(mixed).unwrap(), 40);
}

/// Queries and keys are rotated by a row's positions; by default the position is the place in the sequence.
#[test]
fn rows_carry_positions_of_their_own() {
    let tokens = text(4, 12);
    let run = |positions: Option<Vec<[i32; 4]>>| {
        let mut session = hybrid(&options(1));
        let id = session.open().unwrap();
        let rows = Rows::of(id, &tokens).want(Output::Logits);
        let rows = positions.as_ref().map_or(rows, |positions| rows.at(positions));
        logits(session.step(&[rows]).unwrap().last(0))
    };
    let places: Vec<[i32; 4]> = (0..12).map(|i| [i, i, -7, -7]).collect();
    let default = run(None);
    assert_eq!(
        bits(&default),
        bits(&run(Some(places.clone()))),
        "positions past the model's two are not read"
    );
    for dim in 0..2 {
        let mut other = places.clone();
        other[3][dim] = 90;
        assert_ne!(bits(&default), bits(&run(Some(other))), "position {dim} is not read");
    }
    let mut session = hybrid(&options(1));
    let id = session.open().unwrap();
    for wrong in [vec![[0; 4]; 11], vec![[0, -1, 0, 0]; 12]] {
        assert!(session.step(&[Rows::of(id, &tokens).at(&wrong)]).is_err());
    }
    let mut one = llama(1);
    let id = one.open().unwrap();
    let error = one.step(&[Rows::of(id, &tokens).at(&places)]).map(drop).unwrap_err();
    assert!(error.to_string().contains("one position"), "{error}");
}

/// Rows whose positions are not their places cannot be found by their tokens.
#[test]
fn a_prefix_with_other_positions_is_not_shared() {
    let prompt = text(5, 70);
    let shifted: Vec<[i32; 4]> = (0..64).map(|i| [i + 3, i + 3, 0, 0]).collect();
    for (positions, held) in [(None, 64), (Some(&shifted[..]), 0)] {
        let mut session = hybrid(&options(2));
        let first = session.open().unwrap();
        let rows = Rows::of(first, &prompt[..64]);
        session.step(&[positions.map_or(rows, |positions| rows.at(positions))]).unwrap();
        assert_eq!(session.open_with(&prompt).unwrap().1, held);
    }
}

#[test]
fn an_invalid_step_is_refused_and_changes_nothing() {
    let mut session = llama(3);
    let (a, b) = (session.open().unwrap(), session.open().unwrap());
    session.prefill(a, &text(1, 100)).unwrap();
    let before = bits(session.logits().unwrap().row(0));
    let closed = session.open().unwrap();
    session.close(closed).unwrap();
    let long = text(2, 65);
    let refused: [&[Rows<'_>]; 7] = [
        &[],
        &[Rows::of(a, &[])],
        &[Rows::of(a, &[1]), Rows::of(closed, &[1])],
        &[Rows::of(b, &long)],
        &[Rows::of(b, &[1]), Rows::of(a, &[96])],
        &[Rows::of(b, &[1]).want(Output::TopK(0))],
        &[Rows::of(b, &[1]), Rows::of(a, &long[..29])],
    ];
    for rows in refused {
        assert!(session.step(rows).is_err(), "{rows:?}");
        assert_eq!(session.states().len(a).unwrap(), 100);
        assert_eq!(session.states().len(b).unwrap(), 0);
        assert_eq!(bits(session.logits().unwrap().row(0)), before, "the outputs of before are still there");
    }
    assert!(matches!(
        session.step(&[Rows::of(a, &long[..29])]).map(drop).unwrap_err(),
        ModelError::ContextFull { wanted: 129, n_ctx: 128, .. }
    ));
    session.step(&[Rows::of(b, &[1]), Rows::of(a, &[2]), Rows::of(b, &[3])]).unwrap();
    assert_eq!(session.states().tokens(b).unwrap().collect::<Vec<_>>(), [1, 3]);
}

/// A pool for fewer tokens than all contexts: sequences that are put aside free room, and go on with the same results.
#[test]
fn a_sequence_is_put_aside_and_goes_on() {
    for make in [llama_pool as fn() -> Session, hybrid_pool] {
        let (mine, other) = (text(1, 70), text(2, 60));
        let mut session = make();
        let (a, b) = (session.open().unwrap(), session.open().unwrap());
        session.prefill(a, &mine).unwrap();
        let error = session.prefill(b, &other).map(drop).unwrap_err();
        assert!(matches!(error, ModelError::CacheFull { needed: 64, free: 32, total: 128 }), "{error}");
        let aside = session.put_aside(a).unwrap();
        session.prefill(b, &other).unwrap();
        session.close(b).unwrap();
        let (again, held) = session.go_on(&aside).unwrap();
        assert!(held.is_multiple_of(32) && held <= 64, "{held}");
        session.prefill(again, &aside.tokens()[held..]).unwrap();
        let found = session.decode(&[(again, 5)]).unwrap().row(0).to_vec();
        let wanted = alone(make(), &[&mine[..], &[5]].concat()).0;
        assert!(
            worst(&[found], std::slice::from_ref(&wanted))
                <= tolerance(std::slice::from_ref(&wanted), tiny_hybrid::N_LAYER)
        );
    }
}

/// An interrupted prompt keeps room for its computed tokens only.
#[test]
fn an_interrupted_prompt_releases_its_room() {
    use std::ops::ControlFlow;
    let mut session =
        Session::new(&tiny_llama(N_LAYER), &SessionOptions { ubatch: Some(32), ..pool() }).unwrap();
    let id = session.open().unwrap();
    assert!(session.prefill_with(id, &text(1, 100), |_| ControlFlow::Break(())).unwrap().is_break());
    assert_eq!((session.states().len(id).unwrap(), session.states().free_tokens()), (32, 96));
}

fn pool() -> SessionOptions {
    SessionOptions { n_tokens: Some(128), ..options(2) }
}

fn llama_pool() -> Session {
    Session::new(&tiny_llama(N_LAYER), &pool()).unwrap()
}

fn hybrid_pool() -> Session {
    hybrid(&pool())
}

#[test]
fn a_context_shift_is_refused_where_state_cannot_be_cut() {
    use rfgraph::model::ContextShift;
    use std::ops::ControlFlow;
    let mut session = hybrid(&SessionOptions { n_ctx: 40, ..options(1) });
    let id = session.open().unwrap();
    session.prefill(id, &text(1, 40)).unwrap();
    let error = session.shift(id, ContextShift { keep: 4 }, |_| ControlFlow::Continue(())).unwrap_err();
    assert!(error.to_string().contains("tiny-hybrid") && error.to_string().contains("recurrent"), "{error}");
    assert_eq!(session.states().len(id).unwrap(), 40);
}
