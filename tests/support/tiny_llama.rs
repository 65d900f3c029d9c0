//! A small random Llama of any depth, in F32, as a GGUF file in memory.

#![allow(clippy::unwrap_used, reason = "it serves tests and benchmarks, which fail by panicking")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use rfgraph::gguf::{Gguf, GgufWriter};
use rfgraph::model::Model;
use rfgraph::tensor::DType;

/// Elements of a hidden state.
pub const N_EMBD: usize = 32;
/// Elements of the feed-forward layer.
pub const N_FF: usize = 64;
const N_VOCAB: usize = 96;
const N_HEAD: usize = 4;
const N_HEAD_KV: usize = 2;

/// A model of `n_layer` layers.
pub fn tiny_llama(n_layer: usize) -> Model {
    tiny_llama_with(n_layer, &[])
}

/// The same model with more metadata keys.
pub fn tiny_llama_with(n_layer: usize, keys: &[(&str, u32)]) -> Model {
    let mut file = GgufWriter::new();
    for &(key, value) in keys {
        file.set(key, value).unwrap();
    }
    let mut set = |key: &str, n: usize| {
        file.set(key, n as u32).unwrap();
    };
    set("llama.context_length", 1024);
    set("llama.embedding_length", N_EMBD);
    set("llama.block_count", n_layer);
    set("llama.feed_forward_length", N_FF);
    set("llama.attention.head_count", N_HEAD);
    set("llama.attention.head_count_kv", N_HEAD_KV);
    file.set("general.architecture", "llama").unwrap();
    file.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32).unwrap();
    let mut noise = Noise(1);
    let mut add = |name: String, shape: &[usize]| {
        // Such rows keep the magnitude of their inputs; norm weights are near one.
        let (center, spread) = match shape {
            [_] => (1.0, 0.1),
            _ => (0.0, (3.0 / shape[0] as f32).sqrt()),
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| center + spread * noise.next()).collect();
        let data = bytemuck::cast_slice(&values).to_vec();
        match *shape {
            [n] => file.tensor(&name, DType::F32, [n], data).unwrap(),
            [n, rows] => file.tensor(&name, DType::F32, [n, rows], data).unwrap(),
            _ => panic!("{shape:?}"),
        };
    };
    let kv = N_EMBD / N_HEAD * N_HEAD_KV;
    add("token_embd.weight".into(), &[N_EMBD, N_VOCAB]);
    add("output_norm.weight".into(), &[N_EMBD]);
    for il in 0..n_layer {
        let mut layer = |part: &str, shape: &[usize]| add(format!("blk.{il}.{part}.weight"), shape);
        layer("attn_norm", &[N_EMBD]);
        layer("attn_q", &[N_EMBD, N_EMBD]);
        layer("attn_k", &[N_EMBD, kv]);
        layer("attn_v", &[N_EMBD, kv]);
        layer("attn_output", &[N_EMBD, N_EMBD]);
        layer("ffn_norm", &[N_EMBD]);
        layer("ffn_gate", &[N_EMBD, N_FF]);
        layer("ffn_up", &[N_EMBD, N_FF]);
        layer("ffn_down", &[N_FF, N_EMBD]);
    }
    let mut bytes = Vec::new();
    file.write(&mut bytes).unwrap();
    Model::from_gguf(Gguf::from_bytes(bytes).unwrap()).unwrap()
}

struct Noise(u32);

impl Noise {
    /// The next number between -1 and 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}
