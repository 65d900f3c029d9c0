//! The feed-forward layer of a mixture of experts, from its tensors in GGUF files.

use super::ModelBuilder;
use crate::graph::Tensor;
use crate::model::{Keys, ModelError};
use crate::ops::{ChosenWeights, ExpertGroups, GroupScore, UnaryKind};

/// The weights of experts from the router's logits, by `expert_gating_func`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gating {
    /// 1: softmax over all experts.
    Softmax,
    /// 2: sigmoid of each logit.
    Sigmoid,
    /// 3: experts are chosen by their logits, and weighted by the softmax of the chosen logits.
    SoftmaxOfChosen,
}

/// The activation between an expert's matrices.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ExpertActivation {
    /// `activation(gate) · up`.
    Gated(UnaryKind),
    /// See [`ClampedSwiglu`](crate::ops::ClampedSwiglu).
    ClampedSwiglu {
        /// Factor of the gate inside the sigmoid.
        alpha: f32,
        /// The largest gate, and the largest magnitude of `up`.
        limit: f32,
    },
}

/// Twice the largest number of published models: the time to choose grows with the square.
const MAX_EXPERTS: usize = 1024;
/// Eight times the largest number of published models.
const MAX_GROUPS: usize = 64;

/// A mixture of experts: their number, how they are chosen and weighted, and the computation of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// Experts of a layer.
    pub n_expert: usize,
    /// Experts that compute each token.
    pub n_used: usize,
    /// Elements of an expert's hidden layer.
    pub n_ff: usize,
    /// The weights of experts from the router's logits.
    pub gating: Gating,
    /// Divides the weights of a token's experts by their sum.
    pub normalise: bool,
    /// Factor of the weights.
    pub scale: f32,
    /// Groups of experts; only experts of the best groups are chosen.
    pub groups: Option<ExpertGroups>,
    /// The activation between an expert's matrices.
    pub activation: ExpertActivation,
}

impl Experts {
    /// Experts with SwiGLU, whose softmax weights are divided by their sum, as in Mixtral and Qwen3.
    pub fn new(n_expert: usize, n_used: usize, n_ff: usize) -> Experts {
        Experts {
            n_expert,
            n_used,
            n_ff,
            gating: Gating::Softmax,
            normalise: true,
            scale: 1.0,
            groups: None,
            activation: ExpertActivation::Gated(UnaryKind::Silu),
        }
    }

    /// Reads `expert_count` and `expert_used_count`, which are required, and `expert_feed_forward_length`,
    /// `expert_gating_func`, `expert_weights_norm`, `expert_weights_scale`, `expert_group_count` and
    /// `expert_group_used_count`. Missing values are taken from `otherwise`, except for its counts of experts; the
    /// score of a group is that of its two best experts unless `otherwise` has groups with another rule.
    ///
    /// # Errors
    /// A missing or invalid key, by name.
    pub fn read(keys: &Keys<'_>, otherwise: Experts) -> Result<Experts, ModelError> {
        let n_expert = keys.count("expert_count", 1..=MAX_EXPERTS)?;
        let n_used = keys.count("expert_used_count", 1..=n_expert)?;
        let n_ff = keys.opt_count("expert_feed_forward_length", 1..=1 << 22)?.unwrap_or(otherwise.n_ff);
        let gating = match keys.opt_count("expert_gating_func", 0..=3)? {
            Some(1) => Gating::Softmax,
            Some(2) => Gating::Sigmoid,
            Some(3) => Gating::SoftmaxOfChosen,
            _ => otherwise.gating,
        };
        // Some files store 0 when they have no scale.
        let scale = keys.opt_real("expert_weights_scale")?.filter(|&scale| scale != 0.0);
        let n_group = keys.opt_count("expert_group_count", 0..=n_expert.min(MAX_GROUPS))?.unwrap_or(0);
        let groups = match n_group {
            0 | 1 => {
                keys.opt_count("expert_group_used_count", 0..=1)?;
                None
            }
            n if !n_expert.is_multiple_of(n) => {
                let reason = format!("it must divide the {n_expert} experts of expert_count");
                return Err(keys.refuse("expert_group_count", n, reason));
            }
            _ => {
                let n_group_used = keys.count("expert_group_used_count", 1..=n_group)?;
                let score = otherwise.groups.map_or(GroupScore::BestTwo, |groups| groups.score);
                Some(ExpertGroups { n_group, n_group_used, score })
            }
        };
        if let Some(groups) = groups.filter(|groups| n_expert / n_group * groups.n_group_used < n_used) {
            let reason =
                format!("so many of the {n_group} groups have fewer than the {n_used} experts to use");
            return Err(keys.refuse("expert_group_used_count", groups.n_group_used, reason));
        }
        Ok(Experts {
            n_expert,
            n_used,
            n_ff,
            gating,
            normalise: keys.opt_bool("expert_weights_norm")?.unwrap_or(otherwise.normalise),
            scale: scale.unwrap_or(otherwise.scale),
            groups,
            ..otherwise
        })
    }

    /// The function from the scores of the chosen experts to their weights.
    fn chosen(&self) -> ChosenWeights {
        match (self.gating, self.normalise) {
            // They already add up to one.
            (Gating::SoftmaxOfChosen, _) => ChosenWeights::Softmax,
            (_, true) => ChosenWeights::Shares,
            (_, false) => ChosenWeights::Given,
        }
    }
}

impl<'g> ModelBuilder<'g, '_> {
    /// The feed-forward layer of a mixture of experts; input `x` and output are F32 `[n_embd, n_tokens]`. The tensors
    /// are those of the layer `prefix`, such as `blk.3`:
    ///
    /// - the router `ffn_gate_inp.weight` `[n_embd, n_expert]`, and `.bias` if the file has it;
    /// - `exp_probs_b.bias` `[n_expert]` if the file has it: it is added to the probabilities when experts are chosen,
    ///   and not when they are weighted;
    /// - the experts `ffn_gate_exps`, `ffn_up_exps`, both `.weight` `[n_embd, n_ff, n_expert]`, and `ffn_down_exps`
    ///   `.weight` `[n_ff, n_embd, n_expert]`, each with a `.bias` of `[n_ff, n_expert]` or `[n_embd, n_expert]` if the file
    ///   has it.
    ///
    /// Shared experts, which compute every token, are for the architecture to add.
    #[track_caller]
    pub fn moe(&self, x: Tensor<'g>, prefix: &str, experts: &Experts) -> Tensor<'g> {
        let name = |part: &str| format!("{prefix}.{part}");
        let Experts { n_expert, n_used, n_ff, .. } = *experts;
        let (n_embd, n_tokens) = (x.dim(0), x.dim(1));

        let logits = self.linear(x, &name("ffn_gate_inp"), n_expert);
        let probs = match experts.gating {
            Gating::Softmax => logits.softmax(1.0),
            Gating::Sigmoid => logits.sigmoid(),
            Gating::SoftmaxOfChosen => logits,
        }
        .named(name("ffn_moe_probs"));
        let scores = match self.opt_weight(&name("exp_probs_b.bias"), [n_expert]) {
            Some(bias) => probs.add(bias),
            None => probs,
        };
        let ids = scores.select_experts(n_used, experts.groups).named(name("ffn_moe_topk"));
        let weights =
            probs.expert_weights(ids, experts.chosen(), experts.scale).named(name("ffn_moe_weights"));

        let of_experts = |x: Tensor<'g>, part: &str, n_out: usize| {
            let weight = self.weight(&name(&format!("{part}.weight")), [x.dim(0), n_out, n_expert]);
            match self.opt_weight(&name(&format!("{part}.bias")), [n_out, n_expert]) {
                Some(bias) => x.linear_id_bias(weight, ids, bias),
                None => x.linear_id(weight, ids),
            }
            .named(name(part))
        };
        let x = x.reshape([n_embd, 1, n_tokens]);
        let gate = of_experts(x, "ffn_gate_exps", n_ff);
        let up = of_experts(x, "ffn_up_exps", n_ff);
        let h = match experts.activation {
            ExpertActivation::Gated(activation) => gate.gated(up, activation),
            ExpertActivation::ClampedSwiglu { alpha, limit } => gate.clamped_swiglu(up, alpha, limit),
        }
        .named(name("ffn_moe_act"));
        of_experts(h, "ffn_down_exps", n_embd).weighted_sum(weights).named(name("ffn_moe_out"))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::{BatchShape, GraphRequest, Portion};
    use super::*;
    use crate::exec::{Budget, CpuExecutor, Executor};
    use crate::gguf::{Gguf, GgufWriter, Value};
    use crate::graph::Graph;
    use crate::graph::case::Draw;
    use crate::model::{CacheLayout, CacheTypes, GgufWeights, Output};
    use crate::plan::compile;
    use crate::tensor::DType;

    const N_EMBD: usize = 8;
    const N_FF: usize = 12;
    const N_EXPERT: usize = 8;

    /// The tensors of a layer in F32, with their names without the layer's prefix.
    struct Layer(Vec<(&'static str, Vec<usize>, Vec<f32>)>);

    impl Layer {
        fn new(draw: &mut Draw<'_>, bias: bool, probs_bias: bool) -> Layer {
            let mut tensors = Vec::new();
            let mut add = |name, shape: &[usize]| {
                tensors.push((name, shape.to_vec(), draw.values(shape.iter().product(), 0.3)));
            };
            add("ffn_gate_inp.weight", &[N_EMBD, N_EXPERT]);
            add("ffn_gate_exps.weight", &[N_EMBD, N_FF, N_EXPERT]);
            add("ffn_up_exps.weight", &[N_EMBD, N_FF, N_EXPERT]);
            add("ffn_down_exps.weight", &[N_FF, N_EMBD, N_EXPERT]);
            if bias {
                add("ffn_gate_inp.bias", &[N_EXPERT]);
                add("ffn_gate_exps.bias", &[N_FF, N_EXPERT]);
                add("ffn_up_exps.bias", &[N_FF, N_EXPERT]);
                add("ffn_down_exps.bias", &[N_EMBD, N_EXPERT]);
            }
            if probs_bias {
                add("exp_probs_b.bias", &[N_EXPERT]);
            }
            Layer(tensors)
        }

        fn gguf(&self) -> Gguf {
            let mut file = GgufWriter::new();
            for (name, shape, values) in &self.0 {
                let shape = crate::tensor::Shape::new(shape).unwrap();
                let data = bytemuck::cast_slice::<f32, u8>(values).to_vec();
                file.tensor(&format!("blk.0.{name}"), DType::F32, shape, data).unwrap();
            }
            let mut bytes = Vec::new();
            file.write(&mut bytes).unwrap();
            Gguf::from_bytes(bytes).unwrap()
        }

        /// Row `row` of a weight of `k` columns times `x`, plus the bias; and the sum of the magnitudes.
        fn dot(&self, name: &str, row: usize, x: &[f64]) -> (f64, f64) {
            let find = |suffix: &str| {
                let wanted = format!("{name}.{suffix}");
                self.0.iter().find(|(name, ..)| *name == wanted).map(|(.., values)| values)
            };
            let w = &find("weight").unwrap()[row * x.len()..][..x.len()];
            let bias = find("bias").map_or(0.0, |bias| f64::from(bias[row]));
            let terms = w.iter().zip(x).map(|(&w, x)| f64::from(w) * x);
            (terms.clone().sum::<f64>() + bias, terms.map(f64::abs).sum::<f64>() + bias.abs())
        }

        /// The output for one token, and the sum of the magnitudes of its terms.
        fn answer(&self, experts: &Experts, x: &[f64]) -> Vec<(f64, f64)> {
            let logits: Vec<f64> = (0..N_EXPERT).map(|i| self.dot("ffn_gate_inp", i, x).0).collect();
            let softmax = |x: &[f64]| {
                let sum: f64 = x.iter().map(|x| x.exp()).sum();
                x.iter().map(|x| x.exp() / sum).collect::<Vec<f64>>()
            };
            let probs = match experts.gating {
                Gating::Softmax => softmax(&logits),
                Gating::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
                Gating::SoftmaxOfChosen => logits,
            };
            let bias = self.0.iter().find(|(name, ..)| *name == "exp_probs_b.bias");
            let score = |i: usize| probs[i] + bias.map_or(0.0, |(.., bias)| f64::from(bias[i]));
            let mut eligible: Vec<usize> = (0..N_EXPERT).collect();
            if let Some(groups) = experts.groups {
                let size = N_EXPERT / groups.n_group;
                let of_group = |group: usize| {
                    let mut of_group: Vec<f64> = (group * size..(group + 1) * size).map(score).collect();
                    of_group.sort_by(|a, b| b.total_cmp(a));
                    of_group.iter().take(if groups.score == GroupScore::Best { 1 } else { 2 }).sum::<f64>()
                };
                let mut best: Vec<usize> = (0..groups.n_group).collect();
                best.sort_by(|&a, &b| of_group(b).total_cmp(&of_group(a)));
                eligible.retain(|i| best[..groups.n_group_used].contains(&(i / size)));
            }
            eligible.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
            let chosen = &eligible[..experts.n_used];
            let mut weights: Vec<f64> = chosen.iter().map(|&i| probs[i]).collect();
            if experts.gating == Gating::SoftmaxOfChosen {
                weights = softmax(&weights);
            } else if experts.normalise {
                let sum: f64 = weights.iter().sum();
                weights.iter_mut().for_each(|w| *w /= sum);
            }
            let mut out = vec![(0.0, 0.0); N_EMBD];
            for (&expert, weight) in chosen.iter().zip(weights) {
                let (mut h, mut size) = (Vec::new(), Vec::new());
                for row in expert * N_FF..(expert + 1) * N_FF {
                    let (gate, gate_size) = self.dot("ffn_gate_exps", row, x);
                    let (up, up_size) = self.dot("ffn_up_exps", row, x);
                    h.push(match experts.activation {
                        ExpertActivation::ClampedSwiglu { alpha, limit } => {
                            let (alpha, limit) = (f64::from(alpha), f64::from(limit));
                            let gate = gate.min(limit);
                            gate / (1.0 + (-alpha * gate).exp()) * (up.clamp(-limit, limit) + 1.0)
                        }
                        ExpertActivation::Gated(_) => gate / (1.0 + (-gate).exp()) * up,
                    });
                    size.push(gate_size * (up_size + 1.0));
                }
                let weight = weight * f64::from(experts.scale);
                for (row, out) in out.iter_mut().enumerate() {
                    out.0 += weight * self.dot("ffn_down_exps", expert * N_EMBD + row, &h).0;
                    out.1 += weight.abs() * self.dot("ffn_down_exps", expert * N_EMBD + row, &size).1;
                }
            }
            out
        }
    }

    fn run(layer: &Layer, experts: &Experts, x: &[f32], n_tokens: usize) -> Vec<f32> {
        let gguf = Arc::new(layer.gguf());
        let graph = Graph::new();
        let cache = CacheLayout::new(16, 1).unwrap();
        let portion = Portion::whole(1);
        let shape = BatchShape::decode(n_tokens, Output::Hidden);
        let request = GraphRequest { shape, n_pos: 1, cache, cache_types: CacheTypes::default(), portion };
        let b = ModelBuilder::new(&graph, &gguf, &request);
        let out = b.moe(graph.input("x", DType::F32, [N_EMBD, n_tokens]), "blk.0", experts);
        assert_eq!(b.unused(), Vec::<String>::new());
        graph.output("out", out);
        let graph = graph.finish().unwrap();
        let weights = Arc::new(GgufWeights(Arc::clone(&gguf)));
        let budget = Budget::host(Budget::FRACTION);
        let mut executor = CpuExecutor::new(NonZeroUsize::new(2).unwrap(), weights, budget).unwrap();
        let plan = compile(&graph, &executor.device()).unwrap();
        // Router, softmax, its bias, experts, weights; gate, up, activation, down, sum.
        assert!(plan.steps.len() <= 10, "{} steps", plan.steps.len());
        let id = executor.load(plan).unwrap();
        // The builder declares all inputs of a batch.
        for name in ["tokens", "positions", "slots", "sequences"] {
            executor.set(id, name, &vec![0i32; n_tokens]).unwrap();
        }
        executor.set(id, "block_table", &vec![0i32; cache.blocks_per_sequence]).unwrap();
        executor.set(id, "x", x).unwrap();
        executor.run(id).unwrap().wait().unwrap().get("out").unwrap().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_mixture_agrees_with_its_definition(choices in prop::collection::vec(any::<u32>(), 20)) {
            let mut draw = Draw::new(&choices);
            let groups = draw.flag().then(|| ExpertGroups {
                n_group: 4,
                n_group_used: draw.number(2..=3),
                score: draw.one_of(&[GroupScore::Best, GroupScore::BestTwo]),
            });
            let experts = Experts {
                gating: draw.one_of(&[Gating::Softmax, Gating::Sigmoid, Gating::SoftmaxOfChosen]),
                normalise: draw.flag(),
                scale: draw.one_of(&[1.0, 2.5]),
                groups,
                activation: draw.one_of(&[
                    ExpertActivation::Gated(UnaryKind::Silu),
                    ExpertActivation::ClampedSwiglu { alpha: 1.702, limit: 0.2 },
                ]),
                ..Experts::new(N_EXPERT, draw.number(1..=4), N_FF)
            };
            let (bias, probs_bias) = (draw.flag(), draw.flag());
            let layer = Layer::new(&mut draw, bias, probs_bias);
            let n_tokens = draw.one_of(&[1, 2, 12]);
            let x = draw.values(N_EMBD * n_tokens, 1.0);
            let found = run(&layer, &experts, &x, n_tokens);
            for (x, found) in x.chunks(N_EMBD).zip(found.chunks(N_EMBD)) {
                let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                for (found, (wanted, size)) in found.iter().zip(layer.answer(&experts, &x)) {
                    // Each term of the sum depends on fewer than 200 roundings.
                    let bound = 200.0 * 2f64.powi(-24) * size + 1e-12;
                    prop_assert!((f64::from(*found) - wanted).abs() <= bound, "{experts:?}: {found}, not {wanted}");
                }
            }
        }
    }

    fn read(keys: &[(&str, Value)], otherwise: Experts) -> Result<Experts, ModelError> {
        let mut file = GgufWriter::new();
        for (key, value) in keys {
            file.set(&format!("a.{key}"), value.clone()).unwrap();
        }
        let mut bytes = Vec::new();
        file.write(&mut bytes).unwrap();
        let gguf = Gguf::from_bytes(bytes).unwrap();
        Experts::read(&Keys::new(&gguf, "a"), otherwise)
    }

    #[test]
    fn experts_are_read_from_keys() {
        let otherwise = Experts::new(0, 0, 77);
        let counts = [("expert_count", Value::U32(64)), ("expert_used_count", Value::U32(6))];
        let experts = read(&counts, otherwise).unwrap();
        assert_eq!(experts, Experts::new(64, 6, 77));
        let all = [
            ("expert_feed_forward_length", Value::U32(32)),
            ("expert_gating_func", Value::U32(2)),
            ("expert_weights_norm", Value::Bool(false)),
            ("expert_weights_scale", Value::F32(2.5)),
            ("expert_group_count", Value::U32(8)),
            ("expert_group_used_count", Value::U32(4)),
        ];
        let groups = ExpertGroups { n_group: 8, n_group_used: 4, score: GroupScore::BestTwo };
        let wanted = Experts {
            gating: Gating::Sigmoid,
            normalise: false,
            scale: 2.5,
            groups: Some(groups),
            ..Experts::new(64, 6, 32)
        };
        assert_eq!(read(&[&counts[..], &all[..]].concat(), otherwise).unwrap(), wanted);
    }

    #[test]
    fn keys_that_contradict_each_other_are_refused() {
        let otherwise = Experts::new(0, 0, 77);
        let counts = [("expert_count", Value::U32(64)), ("expert_used_count", Value::U32(9))];
        let refused = |more: &[(&str, u32)]| {
            let more = more.iter().map(|&(key, n)| (key, Value::U32(n)));
            let keys: Vec<(&str, Value)> = counts.iter().cloned().chain(more).collect();
            read(&keys, otherwise).unwrap_err().to_string()
        };
        assert!(read(&counts[..1], otherwise).unwrap_err().to_string().contains("a.expert_used_count"));
        assert!(refused(&[("expert_gating_func", 4)]).contains("a.expert_gating_func"));
        assert!(refused(&[("expert_group_count", 7)]).contains("a.expert_group_count"));
        assert!(refused(&[("expert_group_count", 8)]).contains("a.expert_group_used_count"));
        let few = refused(&[("expert_group_count", 8), ("expert_group_used_count", 1)]);
        assert!(few.contains("a.expert_group_used_count") && few.contains("9 experts"), "{few}");
    }
}
