use super::super::fuse_gpu::fuse_gpu;
use super::super::{DeviceDesc, fuse::fuse, simplify::simplify};
use super::{graph, ops};
use crate::device::{PlatformKind, Target};
use crate::graph::{Graph, GraphDef, Tensor};
use crate::ops::{Project, UnaryKind};
use crate::tensor::DType;

pub(super) fn gpu() -> DeviceDesc {
    DeviceDesc::hip(Target {
        platform: PlatformKind::Sim,
        arch: "sim32".into(),
        wave: 32,
        compute_units: 4,
        shared_bytes: 65536,
        blas: false,
    })
}

/// The graph after both fusing passes.
fn fused(write: impl FnOnce(&Graph)) -> GraphDef {
    let fused = fuse_gpu(simplify(&fuse(&graph(write))).unwrap(), &gpu()).unwrap();
    fused.check("fuse_gpu").unwrap();
    fused
}

/// A normalized `x` of this many tokens.
fn normed(g: &Graph, tokens: usize) -> Tensor<'_> {
    g.input("x", DType::F32, [64, tokens]).rms_norm(g.weight("norm", DType::F32, [64]), 1e-5)
}

fn weight<'g>(g: &'g Graph, name: &str, dtype: DType, rows: usize) -> Tensor<'g> {
    g.weight(name, dtype, [64, rows])
}

/// Three products of one `x`, as separate outputs.
fn three(g: &Graph, tokens: usize, dtypes: [DType; 3]) {
    let x = normed(g, tokens);
    for (i, dtype) in dtypes.into_iter().enumerate() {
        g.output(format!("y{i}"), x.linear(weight(g, &format!("w{i}"), dtype, 32 * (i + 1))));
    }
}

#[test]
fn products_of_one_token_become_one_step() {
    let def = fused(|g| three(g, 1, [DType::Q4_0; 3]));
    assert_eq!(ops(&def), ["norm_quantize", "project", "slice", "slice", "slice"]);
    let descs: Vec<String> =
        def.outputs().iter().map(|(_, id)| def.node(*id).desc.shape.to_string()).collect();
    assert_eq!(descs, ["[32, 1]", "[64, 1]", "[96, 1]"]);
}

#[test]
fn products_of_different_formats_share_quantized_activations_only() {
    let def = fused(|g| three(g, 1, [DType::Q4_0, DType::Q8_0, DType::Q4_0]));
    assert_eq!(ops(&def), ["norm_quantize", "project", "slice", "project", "slice"]);
}

/// Gated norms of heads of `n` elements, and the product of a token's heads.
fn gated_heads(g: &Graph, n: usize, heads: usize, tokens: usize) -> Tensor<'_> {
    let [x, gate] = ["x", "gate"].map(|name| g.input(name, DType::F32, [n, heads, tokens]));
    let normed = gate.silu().mul(x.rms_norm(g.weight("norm", DType::F32, [n]), 1e-5));
    let row = normed.reshape([n * heads, tokens]);
    row.linear(g.weight("w", DType::Q4_0, [n * heads, 8]))
}

#[test]
fn heads_are_normed_gated_and_quantized_in_one_step() {
    let def = fused(|g| g.output("y", gated_heads(g, 32, 3, 2)));
    assert_eq!(ops(&def), ["gated_norm_quantize", "project"]);
    // A block of 32 may not reach into the next head.
    let def = fused(|g| g.output("y", gated_heads(g, 16, 2, 2)));
    assert_eq!(ops(&def), ["gated_norm", "reshape", "quantize", "project"]);
}

#[test]
fn several_tokens_share_quantized_activations_only() {
    let def = fused(|g| three(g, 4, [DType::Q4_0; 3]));
    assert_eq!(ops(&def), ["norm_quantize", "project", "project", "project"]);
}

#[test]
fn many_tokens_are_not_fused() {
    let def = fused(|g| three(g, 9, [DType::Q4_0; 3]));
    assert_eq!(ops(&def), ["rms_norm", "linear", "linear", "linear"]);
}

#[test]
fn plain_weights_take_plain_activations() {
    let def = fused(|g| three(g, 1, [DType::F16; 3]));
    assert_eq!(ops(&def), ["rms_norm", "project", "slice", "slice", "slice"]);
}

#[test]
fn gate_absorbs_both_products() {
    for tokens in [1, 8, 9] {
        let def = fused(|g| {
            let x = normed(g, tokens);
            let gate = x.linear(weight(g, "gate", DType::Q4_0, 96)).silu();
            let h = gate.mul(x.linear(weight(g, "up", DType::Q4_0, 96)));
            let residual = g.input("r", DType::F32, [64, tokens]).abs();
            g.output("y", h.linear(g.weight("down", DType::Q4_0, [96, 64])).add(residual));
        });
        match tokens {
            9 => assert_eq!(ops(&def), ["rms_norm", "linear", "linear", "gated", "unary", "linear"]),
            _ => assert_eq!(ops(&def), ["norm_quantize", "project", "unary", "quantize", "project"]),
        }
        let gates: Vec<Option<UnaryKind>> =
            def.ids().filter_map(|id| def.node(id).op_as::<Project>()).map(|op| op.gate).collect();
        assert!(tokens == 9 || gates == [Some(UnaryKind::Silu), None]);
    }
}

#[test]
fn values_with_other_readers_are_kept() {
    let def = fused(|g| {
        let x = normed(g, 1);
        let gate = x.linear(weight(g, "gate", DType::F32, 96));
        g.output("gate", gate);
        g.output("y", gate.silu().mul(x.linear(weight(g, "up", DType::F32, 96))));
        g.output("norm", x);
    });
    assert_eq!(ops(&def), ["rms_norm", "project", "slice", "slice", "gated"]);
}

#[test]
fn cpu_graphs_are_unchanged() {
    let def = simplify(&fuse(&graph(|g| three(g, 1, [DType::Q4_0; 3])))).unwrap();
    let before = ops(&def);
    assert_eq!(ops(&fuse_gpu(def, &DeviceDesc::cpu(2)).unwrap()), before);
}
