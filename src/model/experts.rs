//! The feed-forward part of a mixture of experts, from the tensors that GGUF files have for it.

use super::{Keys, ModelBuilder, ModelError};
use crate::graph::Tensor;
use crate::ops::{ChosenWeights, ExpertGroups, GroupScore, UnaryKind};

/// What becomes of the router's numbers, by `expert_gating_func`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gating {
    /// 1: their softmax over all experts.
    Softmax,
    /// 2: σ of each of them.
    Sigmoid,
    /// 3: experts are chosen by the numbers themselves, and weigh as the softmax of those that were chosen.
    SoftmaxOfChosen,
}

/// What is between an expert's matrices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExpertActivation {
    /// `activation(gate) · up`.
    Gated(UnaryKind),
    /// As [`ClampedSwiglu`](crate::ops::ClampedSwiglu) says.
    ClampedSwiglu {
        /// Factor of the gate inside of the sigmoid.
        alpha: f32,
        /// The largest gate, and the largest magnitude of `up`.
        limit: f32,
    },
}

/// A mixture of experts: how many, how they are chosen and weighted, and what each computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Experts {
    /// Experts of a layer.
    pub n_expert: usize,
    /// Experts that each token goes to.
    pub n_used: usize,
    /// Elements inside of an expert.
    pub n_ff: usize,
    /// What becomes of the router's numbers.
    pub gating: Gating,
    /// Whether the weights of a token's experts are divided by their sum.
    pub normalise: bool,
    /// Factor of the weights.
    pub scale: f32,
    /// Groups of experts of which the best ones are chosen first.
    pub groups: Option<ExpertGroups>,
    /// What is between an expert's matrices.
    pub activation: ExpertActivation,
}

impl Experts {
    /// Experts with SwiGLU behind a softmax, whose weights are divided by their sum: Mixtral's and Qwen3's.
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

    /// Reads `expert_count` and `expert_used_count`, which must be there, and `expert_feed_forward_length`,
    /// `expert_gating_func`, `expert_weights_norm`, `expert_weights_scale`, `expert_group_count` and
    /// `expert_group_used_count`. What the file does not say is as in `otherwise`, whose own counts of experts do not
    /// matter; groups count as their two best experts unless `otherwise` has groups that say otherwise.
    ///
    /// # Errors
    /// A key that is missing or absurd, by its name.
    pub fn read(keys: &Keys<'_>, otherwise: Experts) -> Result<Experts, ModelError> {
        let n_expert = keys.count("expert_count", 1..=1 << 16)?;
        let n_used = keys.count("expert_used_count", 1..=n_expert)?;
        let n_ff = keys.opt_count("expert_feed_forward_length", 1..=1 << 22)?.unwrap_or(otherwise.n_ff);
        let gating = match keys.opt_count("expert_gating_func", 0..=3)? {
            Some(1) => Gating::Softmax,
            Some(2) => Gating::Sigmoid,
            Some(3) => Gating::SoftmaxOfChosen,
            _ => otherwise.gating,
        };
        // Some files write 0 for a scale that there is not.
        let scale = keys.opt_real("expert_weights_scale")?.filter(|&scale| scale != 0.0);
        let n_group = keys.opt_count("expert_group_count", 0..=n_expert)?.unwrap_or(0);
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

    /// What the numbers of the chosen experts become.
    fn chosen(&self) -> ChosenWeights {
        match (self.gating, self.normalise) {
            // Their sum is one already.
            (Gating::SoftmaxOfChosen, _) => ChosenWeights::Softmax,
            (_, true) => ChosenWeights::Shares,
            (_, false) => ChosenWeights::Given,
        }
    }
}

impl<'g> ModelBuilder<'g, '_> {
    /// The feed-forward part of a mixture of experts, `x` F32 `[n_embd, n_tokens]` in, the same out. The tensors are
    /// those of the layer `prefix`, `blk.3` say:
    ///
    /// - the router `ffn_gate_inp.weight` `[n_embd, n_expert]`, and `.bias` if the file has it;
    /// - `exp_probs_b.bias` `[n_expert]` if the file has it: it is added to the probabilities when experts are chosen,
    ///   and not when they are weighted;
    /// - the experts `ffn_gate_exps`, `ffn_up_exps`, both `.weight` `[n_embd, n_ff, n_expert]`, and `ffn_down_exps`
    ///   `.weight` `[n_ff, n_embd, n_expert]`, each with a `.bias` of `[n_ff, n_expert]` or `[n_embd, n_expert]` if the file
    ///   has it.
    ///
    /// Experts that every token goes to (shared ones) are for the architecture to add.
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
