//! Embeddings: hidden states compared with another implementation's, and pooling compared with its definition.

use std::num::NonZeroUsize;

use rfgraph::model::{
    CacheTypes, Model, ModelError, Pooling, Session, SessionExtras, SessionOptions, l2_normalize,
};
use rfgraph::tensor::DType;

use crate::support::architectures;
use crate::support::gpu::{self, Gpu, config};
use crate::support::inside::inside;
use crate::support::reference::{ids, npy};
use crate::support::sessions::{self, bits, cut, demo, tokens, tolerance, worst};
use crate::support::tiny_llama::{N_EMBD, tiny_llama, tiny_llama_with};

fn states_of(session: &mut Session, tokens: &[u32]) -> Vec<Vec<f32>> {
    let id = session.open().unwrap();
    let mut rows = Vec::new();
    session.all_states(id, tokens, |row| rows.push(row.to_vec())).unwrap();
    session.close(id).unwrap();
    rows
}

/// One thread: tests run side by side.
fn options() -> SessionOptions {
    SessionOptions { threads: Some(NonZeroUsize::MIN), ..sessions::options() }
}

fn exact() -> SessionOptions {
    SessionOptions { cache_types: CacheTypes::both(DType::F32), ..options() }
}

/// Tokens of the tiny model's vocabulary.
fn few(seed: u32, n: u32) -> Vec<u32> {
    tokens(seed, n).iter().map(|token| token % 96).collect()
}

/// The states of Transformers for the same F32 weights (`make_states.py`). Only the order of sums differs: 1e-3 at
/// most, as for the logits computed from them.
#[test]
fn hidden_states_agree_with_transformers() {
    let model = Model::open(inside("stories260K/stories260K-F32.gguf")).unwrap();
    let prompt = ids(&inside("stories260K/stories260K.ids.txt"));
    let wanted = npy(&inside("stories260K/stories260K.states.npy"));
    let wanted: Vec<Vec<f32>> = wanted.chunks(wanted.len() / prompt.len()).map(<[f32]>::to_vec).collect();
    assert_eq!(wanted[0].len(), model.architecture().shape().n_embd);
    let check = |name: &str, mut session: Session| {
        let worst = worst(&states_of(&mut session, &prompt), &wanted);
        println!("{name}: {worst:.1e}");
        assert!(worst <= 1e-3, "{name}: {worst}");
    };
    check("cpu", Session::new(&model, &exact()).unwrap());
    let gpu = Gpu::simulated(config(32));
    // All layers on the device, and only the last two.
    for gpu_layers in [None, Some(2)] {
        let options = SessionOptions { device: gpu.choice(), gpu_layers, n_ctx: 64, ..exact() };
        let extras = SessionExtras { hip: gpu::options(), ..SessionExtras::default() };
        check("simulated", Session::with(&model, &options, &extras).unwrap());
    }
    gpu.sim().assert_no_fault();
}

/// Each architecture's graph has hidden states of the width that its shape declares.
#[test]
fn every_architecture_has_hidden_states() {
    for fixture in architectures::fixtures() {
        let model = fixture.model();
        let (shape, name) = (model.architecture().shape(), &fixture.name);
        let text: Vec<u32> = tokens(1, 40).iter().map(|token| token % shape.n_vocab as u32).collect();
        let mut session = Session::new(&model, &SessionOptions { n_ctx: 64, ..exact() }).unwrap();
        let states = states_of(&mut session, &text);
        assert_eq!(states.len(), text.len(), "{name}");
        for state in &states {
            assert_eq!(state.len(), shape.n_embd, "{name}");
            assert!(state.iter().all(|x| x.is_finite()) && state.iter().any(|&x| x != 0.0), "{name}");
        }
        assert_ne!(states[0], states[39], "{name}");
    }
}

#[test]
fn pooling_uses_the_documented_states() {
    let mut session = Session::new(&tiny_llama(2), &exact()).unwrap();
    let text = few(1, 40);
    let states = states_of(&mut session, &text);
    let mut embed = |pooling| session.embed(&text, pooling).unwrap();
    assert_eq!(bits(&embed(Pooling::Cls)), bits(&states[0]));
    assert_eq!(bits(&embed(Pooling::Last)), bits(&states[39]));
    let mean = embed(Pooling::Mean);
    assert_eq!(mean.len(), N_EMBD);
    for (i, &mean) in mean.iter().enumerate() {
        let sum: f64 = states.iter().map(|state| f64::from(state[i])).sum();
        assert_eq!(mean, (sum / 40.0) as f32);
    }
}

#[test]
fn vectors_are_normalized_to_length_one() {
    let mut session = demo(&options());
    for pooling in Pooling::ALL {
        let mut vector = session.embed(&tokens(1, 30), pooling).unwrap();
        let raw = vector.clone();
        l2_normalize(&mut vector);
        let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        // Each element is rounded once: half a unit in its last place.
        assert!((square - 1.0).abs() <= 2f64.powi(-23), "{square}");
        let ratio = raw[0] / vector[0];
        let same = |(a, b): (&f32, &f32)| (a - b * ratio).abs() <= a.abs() * 2f32.powi(-22);
        assert!(raw.iter().zip(&vector).all(same), "the direction is another one");
    }
    let mut nothing = [0.0; 4];
    l2_normalize(&mut nothing);
    assert_eq!(nothing, [0.0; 4]);
}

/// Chunks change only the order of sums.
#[test]
fn chunks_do_not_change_an_embedding() {
    let n_layer = 4;
    let (model, text) = (tiny_llama(n_layer), few(1, 150));
    let embed = |ubatch, pooling| {
        let mut session = Session::new(&model, &SessionOptions { ubatch: Some(ubatch), ..exact() }).unwrap();
        vec![session.embed(&text, pooling).unwrap()]
    };
    for pooling in Pooling::ALL {
        let whole = embed(512, pooling);
        for ubatch in [1, 7, 32] {
            let (worst, limit) = (worst(&whole, &embed(ubatch, pooling)), tolerance(&whole, n_layer));
            assert!(worst <= limit, "{} in chunks of {ubatch}: {worst} of {limit}", pooling.name());
        }
    }
}

/// Embedding a text between the tokens of another sequence does not change that sequence, and errors leave the session
/// usable.
#[test]
fn a_text_is_embedded_beside_others() {
    let mut session = demo(&SessionOptions { n_sequences: 2, n_ctx: 64, ..options() });
    let id = session.open().unwrap();
    session.prefill(id, &tokens(1, 20)).unwrap();
    let before = session.decode(&[(id, 300)]).unwrap().row(0).to_vec();
    let first = session.embed(&tokens(2, 50), Pooling::Mean).unwrap();
    assert!(session.logits().is_err(), "an embedding has no logits");
    cut(&mut session, id, 20);
    assert_eq!(bits(session.decode(&[(id, 300)]).unwrap().row(0)), bits(&before));

    let too_long = session.embed(&tokens(2, 65), Pooling::Mean).unwrap_err();
    assert!(matches!(too_long, ModelError::ContextFull { wanted: 65, n_ctx: 64, .. }), "{too_long}");
    assert!(matches!(session.embed(&[u32::MAX], Pooling::Mean), Err(ModelError::Token { .. })));
    assert!(session.embed(&[], Pooling::Mean).is_err());
    let other = session.open().unwrap();
    assert!(session.embed(&tokens(2, 50), Pooling::Mean).is_err(), "both sequences are open");
    session.close(other).unwrap();
    assert_eq!(bits(&session.embed(&tokens(2, 50), Pooling::Mean).unwrap()), bits(&first));
}

#[test]
fn pooling_defaults_to_the_files_type() {
    let of = |value: Option<u32>| {
        let keys: Vec<_> = value.into_iter().map(|value| ("llama.pooling_type", value)).collect();
        Pooling::of(&tiny_llama_with(1, &keys))
    };
    let said = [None, Some(0), Some(1), Some(2), Some(3)].map(|value| of(value).unwrap());
    assert_eq!(said, [Pooling::Mean, Pooling::Mean, Pooling::Mean, Pooling::Cls, Pooling::Last]);
    for value in [4, u32::MAX] {
        let error = of(Some(value)).unwrap_err().to_string();
        assert!(error.contains("llama.pooling_type") && error.contains(&value.to_string()), "{error}");
    }
}
