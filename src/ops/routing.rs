//! `select_experts` and `expert_weights`: selects a token's experts of a mixture, and computes their weights.

use serde::{Deserialize, Serialize};

use super::rule;
use super::sort::order;
use crate::cpu::{CpuStep, StepError, math, vector};
pub use crate::device::ChosenWeights;
use crate::device::{Arg, Lower, LowerError, Variant, Which};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::graph::{Cost, Operator, ShapeError, Tensor};
use crate::tensor::{DType, Desc};

/// The score of a group of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GroupScore {
    /// The score of its best expert (DeepSeek-V2).
    Best,
    /// The sum of the scores of its two best experts (DeepSeek-V3, GLM-4.5).
    BestTwo,
}

/// Groups of adjacent experts; a token's experts are selected only from its best groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpertGroups {
    /// The number of groups, all of the same size.
    pub n_group: usize,
    /// The number of groups that a token's experts are selected from.
    pub n_group_used: usize,
    /// The score of a group.
    pub score: GroupScore,
}

/// The `n_used` experts with the largest scores F32 `[n_expert, n_tokens]` within the best groups, the largest first:
/// I32 `[n_used, n_tokens]`. Equal experts or groups are ordered by index; NaN counts as -∞.
///
/// DeepSeek-AI, "DeepSeek-V2", 2024, 2.1.2 (device-limited routing), and "DeepSeek-V3", 2024, 2.1.2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectExperts {
    /// The number of selected experts.
    pub n_used: usize,
    /// The groups.
    pub groups: ExpertGroups,
}

/// Of each token's numbers F32 `[n_expert, n_tokens]` those of its chosen experts I32 `[n_used, n_tokens]`, as weights:
/// F32 `[n_used, n_tokens]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpertWeights {
    /// The normalisation.
    pub chosen: ChosenWeights,
    /// Factor of the weights.
    pub scale: f32,
}

impl<'g> Tensor<'g> {
    /// The `n_used` experts with the largest scores F32 `[n_expert, n_tokens]`, the largest first: I32 `[n_used,
    /// n_tokens]`. With groups, only from the best ones; see [`SelectExperts`].
    #[track_caller]
    pub fn select_experts(self, n_used: usize, groups: Option<ExpertGroups>) -> Tensor<'g> {
        match groups.filter(|groups| groups.n_group > 1) {
            Some(groups) => self.graph().apply(SelectExperts { n_used, groups }, &[self]),
            None => self.top_k(n_used),
        }
    }

    /// The weights of the experts `ids`, I32 `[n_used, n_tokens]`, from `self`, F32 `[n_expert, n_tokens]`: F32
    /// `[n_used, n_tokens]`. An expert out of range fails the run. See [`ExpertWeights`].
    #[track_caller]
    pub fn expert_weights(self, ids: Tensor<'g>, chosen: ChosenWeights, scale: f32) -> Tensor<'g> {
        self.graph().apply(ExpertWeights { chosen, scale }, &[self, ids])
    }
}

/// Threads of a block, which selects for one token.
const THREADS: usize = 128;

/// Bytes of the score of an expert or group in shared memory.
const SCORE: usize = size_of::<f32>();

impl SelectExperts {
    /// The score of a group.
    fn score(&self, group: &[f32]) -> f32 {
        let (mut best, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for &x in group {
            if x > best {
                (best, second) = (x, best);
            } else if x > second {
                second = x;
            }
        }
        match self.groups.score {
            GroupScore::BestTwo if group.len() > 1 => best + second,
            _ => best,
        }
    }
}

impl Operator for SelectExperts {
    const NAME: &'static str = "select_experts";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let scores = rule::one(inputs)?;
        rule::like_first(inputs)?;
        rule::whole_rows(inputs)?;
        let [n_expert, n_tokens, n2, n3] = scores.shape.ne();
        let ExpertGroups { n_group, n_group_used, .. } = self.groups;
        if n_group == 0 || !n_expert.is_multiple_of(n_group) || i32::try_from(n_expert).is_err() {
            return Err(ShapeError::rule(format!("{n_group} groups must divide the experts"), inputs));
        }
        let eligible = (n_expert / n_group).saturating_mul(n_group_used);
        if n_group_used > n_group || !(1..=eligible).contains(&self.n_used) || n2 * n3 != 1 {
            let rule = format!(
                "{n_group_used} of {n_group} groups have {eligible} experts, of which {} are to be used",
                self.n_used
            );
            return Err(ShapeError::rule(rule, inputs));
        }
        Ok(Desc::contiguous(DType::I32, [self.n_used, n_tokens])?)
    }

    fn cpu_scratch(&self, inputs: &[Desc], _: &Desc, threads: usize) -> usize {
        let n_expert = inputs.first().map_or(0, |scores| scores.shape.dim(0));
        CpuStep::scratch_for(n_expert + self.groups.n_group, threads)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let scores = step.input(0);
        let ExpertGroups { n_group, n_group_used, .. } = self.groups;
        let (n_expert, size) = (scores.dim(0), scores.dim(0) / n_group);
        let (of_groups, ids) = step.take_scratch().split_at_mut(n_group);
        let ids: &mut [i32] = &mut bytemuck::cast_slice_mut(ids)[..n_expert];
        step.for_rows(|row, out: &mut [i32]| {
            let row = scores.row::<f32>(row);
            for (score, group) in of_groups.iter_mut().zip(row.chunks(size)) {
                *score = self.score(group);
            }
            let mut eligible = 0;
            for group in 0..n_group {
                let better = |&other: &usize| order(of_groups, true, other as i32, group as i32).is_lt();
                if (0..n_group).filter(better).count() < n_group_used {
                    let experts = (group * size..(group + 1) * size).map(|i| i as i32);
                    ids[eligible..].iter_mut().zip(experts).for_each(|(id, expert)| *id = expert);
                    eligible += size;
                }
            }
            let ids = &mut ids[..eligible];
            if self.n_used < eligible {
                ids.select_nth_unstable_by(self.n_used - 1, |&a, &b| order(row, true, a, b));
            }
            let best = &mut ids[..self.n_used];
            best.sort_unstable_by(|&a, &b| order(row, true, a, b));
            out.copy_from_slice(best);
            Ok(())
        })
    }

    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [n_expert, tokens, ..] = lower.inputs()[0].shape.ne();
        if tokens == 0 {
            return Ok(());
        }
        let ExpertGroups { n_group, n_group_used, score } = self.groups;
        let int = |n: usize| Arg::I32(i32::try_from(n).unwrap_or(i32::MAX));
        let args = [
            ("scores", Arg::Address(Which::Input(0), 0)),
            ("scores_at", Arg::Layout(Which::Input(0))),
            ("out", Arg::Address(Which::Output, 0)),
            ("n_expert", int(n_expert)),
            ("n_used", int(self.n_used)),
            ("n_group", int(n_group)),
            ("n_group_used", int(n_group_used)),
            ("best_two", Arg::I32((score == GroupScore::BestTwo).into())),
        ];
        let shared = (n_expert + 2 * n_group).saturating_mul(SCORE);
        let variant = Variant::new("experts", "select_experts");
        lower.launch_shared(variant, [tokens, 1, 1], THREADS, shared, &args)
    }

    fn cost(&self, inputs: &[Desc], output: &Desc) -> Cost {
        Cost::streaming(inputs, output, inputs.first().map_or(0, |x| x.shape.elements() as u64))
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (n_group, size) = (draw.number(1..=9), draw.one_of(&[1, 2, 3, 32]));
        let n_group_used = draw.number(1..=n_group);
        let score = draw.one_of(&[GroupScore::Best, GroupScore::BestTwo]);
        let n_used = draw.number(1..=(n_group_used * size).min(12));
        let (n_expert, tokens) = (n_group * size, draw.number(1..=4));
        // Whole numbers, whose sums are exact; few of them, so that many are equal. Adding 0 turns -0 into 0.
        let levels = draw.one_of(&[1000.0, 3.0]);
        let x: Vec<f32> =
            draw.values(n_expert * tokens, 1.0).iter().map(|x| (x * levels).round() + 0.0).collect();
        let mut expected = Vec::new();
        for row in x.chunks(n_expert) {
            let of_group = |group: usize| {
                let mut group = row[group * size..(group + 1) * size].to_vec();
                group.sort_by(|a, b| b.total_cmp(a));
                group.iter().take(if score == GroupScore::BestTwo { 2 } else { 1 }).sum::<f32>()
            };
            let mut groups: Vec<usize> = (0..n_group).collect();
            groups.sort_by(|&a, &b| of_group(b).total_cmp(&of_group(a)));
            let mut experts: Vec<usize> =
                (0..n_expert).filter(|i| groups[..n_group_used].contains(&(i / size))).collect();
            experts.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            expected.extend(experts[..n_used].iter().map(|&i| i as f64));
        }
        let op = SelectExperts { n_used, groups: ExpertGroups { n_group, n_group_used, score } };
        Case::new(op, vec![CaseInput::f32([n_expert, tokens], &x)], expected, 0.0)
    }
}

impl Operator for ExpertWeights {
    const NAME: &'static str = "expert_weights";

    fn infer(&self, inputs: &[Desc]) -> Result<Desc, ShapeError> {
        let [x, ids] = inputs else {
            return Err(ShapeError::Arity { wanted: "2", found: inputs.len() });
        };
        let [n_used, n_tokens, n2, n3] = ids.shape.ne();
        let [_, rows, x2, x3] = x.shape.ne();
        let fits = rows == n_tokens && n2 * n3 * x2 * x3 == 1;
        if x.dtype != DType::F32 || ids.dtype != DType::I32 || !fits {
            let rule =
                "the first must be F32 [n_expert, n_tokens], the chosen experts I32 [n_used, n_tokens]";
            return Err(ShapeError::rule(rule, inputs));
        }
        if !self.scale.is_finite() || i32::try_from(n_used).is_err() {
            let rule = format!("the scale {} must be finite, and I32 count the experts used", self.scale);
            return Err(ShapeError::rule(rule, inputs));
        }
        rule::whole_rows(inputs)?;
        Ok(Desc::contiguous(DType::F32, [n_used, n_tokens])?)
    }

    fn cpu(&self, step: &CpuStep<'_>) -> Result<(), StepError> {
        let (isa, x, ids) = (step.isa(), step.input(0), step.input(1));
        let n_expert = x.dim(0);
        step.for_rows(|row, out: &mut [f32]| {
            let x = x.row::<f32>(row);
            for (out, &id) in out.iter_mut().zip(ids.row::<i32>(row)) {
                *out = x[StepError::check("a chosen expert", id, n_expert)?];
            }
            if self.chosen == ChosenWeights::Softmax {
                let largest = vector::max(isa, out);
                vector::map(isa, out, |x| math::exp(x - largest));
            }
            if self.chosen != ChosenWeights::Given {
                let sum = out.iter().fold(0.0, |sum, x| sum + x);
                let sum = if sum < f32::MIN_POSITIVE { f32::MIN_POSITIVE } else { sum };
                vector::map(isa, out, |x| x / sum);
            }
            vector::map(isa, out, |x| x * self.scale);
            Ok(())
        })
    }

    /// A GPU kernel cannot fail: an expert out of range gets the weight NaN.
    fn hip(&self, lower: &mut Lower<'_>) -> Result<(), LowerError> {
        let [n_used, tokens, ..] = lower.output().shape.ne();
        if n_used * tokens == 0 {
            return Ok(());
        }
        let args = [
            ("x", Arg::Address(Which::Input(0), 0)),
            ("x_at", Arg::Layout(Which::Input(0))),
            ("ids", Arg::Address(Which::Input(1), 0)),
            ("ids_at", Arg::Layout(Which::Input(1))),
            ("out", Arg::Address(Which::Output, 0)),
            ("chosen", Arg::I32(self.chosen.number())),
            ("scale", Arg::F32(self.scale)),
        ];
        let wave = lower.target().wave as usize;
        lower.launch(Variant::new("experts", "expert_weights"), [tokens, 1, 1], wave, &args)
    }

    fn cost(&self, _: &[Desc], output: &Desc) -> Cost {
        // Only the selected scores are read.
        let n = output.shape.elements() as u64;
        Cost { bytes: 12 * n, flops: 3 * n }
    }

    fn case(draw: &mut Draw<'_>) -> Case {
        let (n_expert, n_used, tokens) = (draw.number(1..=64), draw.number(1..=9), draw.one_of(&[1, 3, 70]));
        let chosen = draw.one_of(&[ChosenWeights::Given, ChosenWeights::Shares, ChosenWeights::Softmax]);
        let scale = draw.one_of(&[1.0, 2.5]);
        // Logits have either sign; probabilities, which `Shares` normalises, do not.
        let x = draw.values(n_expert * tokens, 3.0);
        let x: Vec<f32> = match chosen {
            ChosenWeights::Shares => x.iter().map(|x| x.abs()).collect(),
            _ => x,
        };
        let ids: Vec<i32> = (0..n_used * tokens).map(|_| (draw.unit() * n_expert as f64) as i32).collect();
        let (mut expected, mut tolerance) = (Vec::new(), Vec::new());
        for (x, ids) in x.chunks(n_expert).zip(ids.chunks(n_used)) {
            let mut y: Vec<f64> = ids.iter().map(|&id| f64::from(x[id as usize])).collect();
            if chosen == ChosenWeights::Softmax {
                y.iter_mut().for_each(|y| *y = y.exp());
            }
            if chosen != ChosenWeights::Given {
                let sum = y.iter().sum::<f64>().max(f64::from(f32::MIN_POSITIVE));
                y.iter_mut().for_each(|y| *y /= sum);
            }
            for y in y {
                let y = y * f64::from(scale);
                expected.push(y);
                // Roundings: n of the sum, the quotient's and the scale's; for each exp 4, and those of its argument,
                // up to 6, multiplied by it, twice: in the numerator and in the sum.
                let of_exp = if chosen == ChosenWeights::Softmax { 2.0 * (4.0 + 6.0) } else { 0.0 };
                let roundings = n_used as f64 + 2.0 + of_exp;
                tolerance.push(y.abs() * roundings * 2f64.powi(-24) + f64::from(f32::MIN_POSITIVE));
            }
        }
        let inputs = vec![CaseInput::f32([n_expert, tokens], &x), CaseInput::i32([n_used, tokens], &ids)];
        Case::with_tolerances(ExpertWeights { chosen, scale }, inputs, expected, tolerance)
    }
}
