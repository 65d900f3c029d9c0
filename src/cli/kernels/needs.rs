//! The needed kernels: by a model's plans, or by every operator of the table on many shapes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::error::CliError;
use crate::device::{Command, Lower, LowerError, Target, Variant};
use crate::graph::Memory;
use crate::graph::case::Draw;
use crate::graph::operator::AnyOperator;
use crate::hip::jit::describe;
use crate::model::{CacheLayout, CacheTypes, Model, ModelError, Output, SessionOptions};
use crate::ops::{self, Attention, GetRows, Linear, LinearId};
use crate::plan::{CompileError, DeviceDesc, compile};
use crate::sampling::SamplerParams;
use crate::tensor::{DType, Desc};

/// Parity cases drawn per operator.
const DRAWS: u64 = 300;

/// Kernels with the targets that need them.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Each kernel with its constants, and the targets that need it.
    pub variants: BTreeMap<Variant, BTreeSet<String>>,
    /// Operators without a kernel, and the targets that lack it.
    pub without: BTreeMap<String, BTreeSet<String>>,
}

impl Needs {
    fn add(&mut self, target: &Target, commands: &[Command]) {
        for command in commands {
            if let Command::Launch(launch) = command {
                self.variants.entry(launch.variant.clone()).or_default().insert(target.arch.clone());
            }
        }
    }

    fn lack(&mut self, target: &Target, what: String) {
        self.without.entry(what).or_default().insert(target.arch.clone());
    }

    /// Kernels that `arch` needs, grouped into programs by source and constants: the first kernel, and all their names.
    pub fn programs(&self, arch: &str) -> Vec<(Variant, Vec<String>)> {
        let mut programs: BTreeMap<_, (Variant, Vec<String>)> = BTreeMap::new();
        for (variant, targets) in &self.variants {
            if targets.contains(arch) {
                let program = programs.entry((variant.source.clone(), variant.defines.clone()));
                let (_, entries) = program.or_insert_with(|| (variant.clone(), Vec::new()));
                entries.push(variant.entry.to_string());
            }
        }
        programs.into_values().collect()
    }

    /// Each kernel's description with its targets.
    pub fn described(&self) -> impl Iterator<Item = (String, &BTreeSet<String>)> {
        self.variants.iter().map(|(variant, targets)| (describe(variant), targets))
    }
}

/// Kernels of a model's session with default options: prompts in chunks of every size that a GPU uses, and one token
/// with the logits, the largest or the 40 largest as output.
pub(super) fn of_model(model: &Model, targets: &[Target]) -> Result<Needs, CliError> {
    let mut needs = Needs::default();
    let n_ctx = model.architecture().shape().n_ctx_train.min(4096);
    let layout = CacheLayout::new(n_ctx, 1)?;
    let wants = [Output::Argmax, Output::TopK(SamplerParams::default().top_k.k)];
    for graph in model.graphs_of_session(
        SessionOptions::LARGEST_UBATCH.min(n_ctx),
        layout,
        CacheTypes::default(),
        &wants,
    )? {
        for target in targets.iter().flat_map(with_and_without_blas) {
            match compile(&graph, &DeviceDesc::hip(target.clone())) {
                Ok(plan) => plan.steps.iter().for_each(|step| needs.add(&target, &step.commands)),
                Err(CompileError::Lower { node, error }) => needs.lack(&target, format!("`{node}`: {error}")),
                Err(error) => return Err(ModelError::from(error).into()),
            }
        }
    }
    Ok(needs)
}

/// Kernels of every operator, on drawn parity cases and on the shapes that kernels are selected by.
pub(super) fn of_table(targets: &[Target]) -> Needs {
    let mut needs = Needs::default();
    let mut cases = shapes();
    cases.extend(drawn());
    for target in targets.iter().flat_map(with_and_without_blas) {
        for (op, inputs) in &cases {
            let Ok(outputs) = op.outputs(inputs) else { continue };
            let Some((output, further)) = outputs.split_first() else { continue };
            // A view runs nothing.
            if matches!(op.memory(inputs), Memory::View { .. }) {
                continue;
            }
            let mut lower = Lower::new(op.name(), &target, inputs, output, further);
            match op.hip(&mut lower) {
                Ok(()) => needs.add(&target, &lower.finish().0),
                Err(LowerError::NoKernel { op }) => needs.lack(&target, format!("operator `{op}`")),
                // A case that the operator's kernels do not support, which is an error at run time.
                Err(LowerError::Unsupported { .. }) => {}
            }
        }
    }
    needs
}

/// The presence of the BLAS library may change which kernels are needed.
fn with_and_without_blas(target: &Target) -> [Target; 2] {
    [false, true].map(|blas| Target { blas, ..target.clone() })
}

type Asked = (Arc<dyn AnyOperator>, Vec<Desc>);

/// The parity cases of every row of the table, identical in every run.
fn drawn() -> Vec<Asked> {
    let mut seed = 0_u64;
    // A linear congruential generator (Knuth, MMIX); the upper bits are the better ones.
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 32) as u32
    };
    let mut asked = Vec::new();
    let mut seen = BTreeSet::new();
    for row in ops::TABLE {
        for _ in 0..DRAWS {
            let choices: Vec<u32> = (0..40).map(|_| next()).collect();
            let case = (row.case)(&mut Draw::new(&choices));
            let inputs: Vec<Desc> = case.inputs.iter().map(|input| input.desc).collect();
            if seen.insert(format!("{:?} {inputs:?}", case.op)) {
                asked.push((case.op, inputs));
            }
        }
    }
    asked
}

/// Sizes of keys and values per head in known models.
const HEADS: [(usize, usize); 13] = [
    (32, 32),
    (64, 64),
    (72, 72),
    (80, 80),
    (96, 96),
    (112, 112),
    (128, 128),
    (160, 160),
    (192, 128),
    (192, 192),
    (224, 224),
    (256, 256),
    (576, 512),
];

/// Types of keys and values: block formats for common head sizes.
fn cache_types(head: usize) -> Vec<(DType, DType)> {
    let (f16, q8, q4) = (DType::F16, DType::Q8_0, DType::Q4_0);
    let mut types = [DType::F32, f16, DType::BF16].map(|dtype| (dtype, dtype)).to_vec();
    if matches!(head, 64 | 128 | 256 | 576) {
        types.extend([(q8, q8), (q4, q4), (q8, q4), (f16, q8)]);
    }
    types
}

/// Shapes of real models, which are larger than those of parity cases.
fn shapes() -> Vec<Asked> {
    let mut asked: Vec<Asked> = Vec::new();
    let mut ask = |op: Arc<dyn AnyOperator>, inputs: &[(DType, &[usize])]| {
        let desc = |(dtype, sizes): &(DType, &[usize])| {
            Desc::contiguous(*dtype, crate::tensor::Shape::new(sizes)?).ok()
        };
        asked.extend(inputs.iter().map(desc).collect::<Option<Vec<_>>>().map(|inputs| (op, inputs)));
    };
    let (f32, i32) = (DType::F32, DType::I32);
    for weight in DType::all().filter(|dtype| dtype.is_float()) {
        for (tokens, k, n) in [1, 2, 4, 8, 64, 512].into_iter().flat_map(|tokens| {
            [(512, 256), (4096, 1024), (4096, 128_256), (14_336, 4096)].map(|(k, n)| (tokens, k, n))
        }) {
            for (bias, residual) in [(false, false), (true, false), (false, true)] {
                let (matrix, x, y) = ([k, n], [k, tokens], [n, tokens]);
                let mut inputs: Vec<(DType, &[usize])> = vec![(weight, &matrix), (f32, &x)];
                if bias {
                    inputs.push((f32, &matrix[1..]));
                }
                if residual {
                    inputs.push((f32, &y));
                }
                ask(Arc::new(Linear { bias, residual }), &inputs);
            }
        }
        for tokens in [1, 512] {
            let (experts, x, ids) = ([2048, 768, 128], [2048, 1, tokens], [8, tokens]);
            ask(Arc::new(LinearId { bias: false }), &[(weight, &experts), (f32, &x), (i32, &ids)]);
        }
        for ids in [1, 512] {
            ask(Arc::new(GetRows {}), &[(weight, &[4096, 1024]), (i32, &[ids])]);
        }
    }
    for (head, head_v) in HEADS {
        for (k_type, v_type) in cache_types(head) {
            for (n_head, n_head_kv, tokens, slots) in [
                (8, 8, 1, 256),
                (8, 2, 1, 4096),
                (32, 8, 1, 4096),
                (32, 8, 8, 4096),
                (32, 4, 64, 4096),
                (32, 8, 512, 4096),
                (32, 1, 512, 8192),
            ] {
                let q = [head, n_head, tokens];
                let (k, v) = ([head, n_head_kv, slots], [head_v, n_head_kv, slots]);
                let table = [slots / 32, 1];
                let inputs: [(DType, &[usize]); 6] = [
                    (f32, &q),
                    (k_type, &k),
                    (v_type, &v),
                    (i32, &[tokens]),
                    (i32, &[tokens]),
                    (i32, &table),
                ];
                let plain =
                    Attention { scale: 0.125, window: None, softcap: None, block_size: 32, n_single: 0 };
                let capped = Attention { window: Some(1024), softcap: Some(50.0), ..plain.clone() };
                for op in [plain, capped] {
                    ask(Arc::new(op.clone()), &inputs);
                    let mut with_sinks = inputs.to_vec();
                    let heads = [n_head];
                    with_sinks.push((f32, &heads));
                    ask(Arc::new(op), &with_sinks);
                }
            }
        }
    }
    asked
}
