//! The operators: one file each, and the table that lists them.
//!
//! A file holds an operator's attributes, its method on [`Tensor`](crate::graph::Tensor), its shape rule, its CPU
//! definition, its GPU lowering and its parity cases. Operators know `graph`, `cpu` and `device`; they know no plans,
//! models or files. Built-in operators have no privileges: a user's operator implements the same trait.

mod attention;
mod binary;
mod clamped_swiglu;
mod delta_rule;
mod gated_norm;
mod gated_norm_quantize;
mod get_rows;
mod kv_write;
mod linear;
mod linear_id;
mod matmul;
mod norm_quantize;
mod pieces;
mod project;
mod quantize;
mod rearrange;
mod reduce;
mod rms_norm;
mod rope;
mod routing;
mod rule;
mod runs;
mod scale;
mod short_conv;
mod softmax;
mod sort;
mod temperature;
mod unary;
mod views;
mod weighted_sum;

pub use attention::{Attention, Paging};
pub use binary::{Binary, BinaryKind};
pub use clamped_swiglu::ClampedSwiglu;
pub use delta_rule::{DeltaInputs, DeltaRule, KeyHeads};
pub use gated_norm::GatedNorm;
pub use gated_norm_quantize::GatedNormQuantize;
pub use get_rows::GetRows;
pub use kv_write::KvWrite;
pub use linear::Linear;
pub use linear_id::LinearId;
pub use matmul::Matmul;
pub use norm_quantize::NormQuantize;
pub use project::Project;
pub use quantize::Quantize;
pub use rearrange::{Cast, Concat, Copy};
pub use reduce::{LayerNorm, ReduceRows};
pub use rms_norm::RmsNorm;
pub use rope::{Rope, RopeKind};
pub use routing::{ChosenWeights, ExpertGroups, ExpertWeights, GroupScore, SelectExperts};
pub use scale::{Scale, Softcap};
pub use short_conv::ShortConv;
pub use softmax::Softmax;
pub use sort::{Argmax, Argsort, TopK};
pub use temperature::Temperature;
pub use unary::{Gated, Unary, UnaryKind};
pub use views::{Permute, Reshape, Slice};
pub use weighted_sum::WeightedSum;

use crate::graph::operator::OperatorRow;

/// The built-in operators, one per line.
pub const TABLE: &[OperatorRow] = &[
    OperatorRow::of::<Argmax>(),
    OperatorRow::of::<Argsort>(),
    OperatorRow::of::<Attention>(),
    OperatorRow::of::<Binary>(),
    OperatorRow::of::<Cast>(),
    OperatorRow::of::<ClampedSwiglu>(),
    OperatorRow::of::<Concat>(),
    OperatorRow::of::<Copy>(),
    OperatorRow::of::<DeltaRule>(),
    OperatorRow::of::<ExpertWeights>(),
    OperatorRow::of::<Gated>(),
    OperatorRow::of::<GatedNorm>(),
    OperatorRow::of::<GatedNormQuantize>(),
    OperatorRow::of::<GetRows>(),
    OperatorRow::of::<KvWrite>(),
    OperatorRow::of::<LayerNorm>(),
    OperatorRow::of::<Linear>(),
    OperatorRow::of::<LinearId>(),
    OperatorRow::of::<Matmul>(),
    OperatorRow::of::<NormQuantize>(),
    OperatorRow::of::<Permute>(),
    OperatorRow::of::<Project>(),
    OperatorRow::of::<Quantize>(),
    OperatorRow::of::<ReduceRows>(),
    OperatorRow::of::<Reshape>(),
    OperatorRow::of::<RmsNorm>(),
    OperatorRow::of::<Rope>(),
    OperatorRow::of::<Scale>(),
    OperatorRow::of::<SelectExperts>(),
    OperatorRow::of::<ShortConv>(),
    OperatorRow::of::<Slice>(),
    OperatorRow::of::<Softcap>(),
    OperatorRow::of::<Softmax>(),
    OperatorRow::of::<Temperature>(),
    OperatorRow::of::<TopK>(),
    OperatorRow::of::<Unary>(),
    OperatorRow::of::<WeightedSum>(),
];
