//! Caches by layer: own, none, or another layer's, with other heads in each layer.

use std::num::NonZeroUsize;

use rfgraph::graph::StateKind;
use rfgraph::model::{
    CacheTypes, MemoryNeed, Model, Output, RowOutput, Rows, Session, SessionExtras, SessionOptions,
};
use rfgraph::tensor::DType;

use crate::support::sessions::{bits, tokens};
use crate::support::tiny_hybrid::{self, Second, tiny_hybrid_with};

fn options() -> SessionOptions {
    SessionOptions {
        n_ctx: 128,
        ubatch: Some(64),
        threads: Some(NonZeroUsize::MIN),
        cache_types: CacheTypes::both(DType::F32),
        ..SessionOptions::default()
    }
}

fn session(model: &Model) -> Result<Session, String> {
    let extras = tiny_hybrid::extras(SessionExtras::default());
    Session::with(model, &options(), &extras).map_err(|error| error.to_string())
}

/// Sizes of a slot of each paged state.
fn paged(model: &Model) -> Vec<(String, [usize; 2])> {
    let states = MemoryNeed::of(model, &options()).unwrap().states;
    let paged = states.into_iter().filter(|state| state.kind == StateKind::Paged);
    paged.map(|state| (state.name, [state.shape[0], state.shape[1]])).collect()
}

fn state(name: &str, shape: [usize; 2]) -> (String, [usize; 2]) {
    (name.to_string(), shape)
}

#[test]
fn each_layer_has_the_cache_that_it_declares() {
    let (first, last) = ([8, 4], [16, 1]);
    let of_1 = [state("cache_k.1", first), state("cache_v.1", first)];
    let of_2 = [state("cache_k.2", first), state("cache_v.2", first)];
    let of_3 = [state("cache_k.3", last), state("cache_v.3", last)];
    assert_eq!(paged(&tiny_hybrid_with(Second::Shared)), [&of_1[..], &of_3].concat());
    assert_eq!(paged(&tiny_hybrid_with(Second::Copied)), [&of_1[..], &of_2, &of_3].concat());
}

/// A layer that reads another one's cache has the bits of a layer with a copy of it, in chunks and token by token.
#[test]
fn a_shared_cache_gives_the_bits_of_a_copy() {
    let run = |second: Second| {
        let mut session = session(&tiny_hybrid_with(second)).unwrap();
        let text: Vec<u32> = tokens(1, 100).iter().map(|token| token % 96).collect();
        let id = session.open().unwrap();
        session.prefill(id, &text[..97]).unwrap();
        let rows: Vec<Vec<u32>> = text[97..]
            .iter()
            .map(|&token| {
                let outputs = session.step(&[Rows::of(id, &[token]).want(Output::Logits)]).unwrap();
                match outputs.last(0) {
                    RowOutput::Logits(logits) => bits(logits),
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        rows
    };
    assert_eq!(run(Second::Shared), run(Second::Copied));
}

#[test]
fn a_cache_that_is_written_later_is_refused() {
    let error = session(&tiny_hybrid_with(Second::FromLater)).map(drop).unwrap_err();
    assert!(error.contains("layer 2 reads the cache of layer 3"), "{error}");
}
