//! One row of the delta rule for some columns of a state.

use super::Isa;
use super::vector::{LANES, fold, per_isa};

/// The operands that all columns share; each vector has one element for each element of a column.
#[derive(Clone, Copy, Debug)]
pub struct DeltaRow<'a> {
    /// The query.
    pub q: &'a [f32],
    /// The key.
    pub k: &'a [f32],
    /// The factors of the old state.
    pub decay: &'a [f32],
    /// The key times these factors.
    pub decayed_k: &'a [f32],
    /// The factor of the correction.
    pub beta: f32,
}

/// Columns that are computed together: their sums do not wait for each other.
const TOGETHER: usize = 4;

per_isa! {
    /// `s ← decay ∘ s + k · beta · (v - decayed_k · s)` and `y = q · s` for each column `s` of the state, its `v` and
    /// its `y`. Columns lie one after another. Sums are made of [`LANES`] partial sums.
    pub fn delta_row(state: &mut [f32], row: &DeltaRow<'_>, v: &[f32], y: &mut [f32]) {
        let d = row.k.len();
        let mut groups = state.chunks_exact_mut((TOGETHER * d).max(1));
        let (mut v, mut y) = (v.chunks_exact(TOGETHER), y.chunks_exact_mut(TOGETHER));
        for ((state, v), y) in groups.by_ref().zip(v.by_ref()).zip(y.by_ref()) {
            delta_columns::<TOGETHER>(state, row, v, y);
        }
        let rest = groups.into_remainder().chunks_exact_mut(d.max(1));
        for ((state, v), y) in rest.zip(v.remainder().chunks(1)).zip(y.into_remainder().chunks_mut(1)) {
            delta_columns::<1>(state, row, v, y);
        }
    }
}

/// [`delta_row`] for `N` columns.
#[inline(always)]
fn delta_columns<const N: usize>(state: &mut [f32], row: &DeltaRow<'_>, v: &[f32], y: &mut [f32]) {
    let d = row.k.len();
    let mut columns = state.chunks_exact_mut(d.max(1));
    let mut columns: [&mut [f32]; N] = std::array::from_fn(|_| columns.next().unwrap_or_default());
    let whole = d / LANES * LANES;
    let mut sums = [[0.0f32; LANES]; N];
    for start in (0..whole).step_by(LANES) {
        let Some(k) = row.decayed_k[start..].first_chunk::<LANES>() else { break };
        for (column, sums) in columns.iter().zip(&mut sums) {
            let Some(s) = column[start..].first_chunk::<LANES>() else { break };
            for lane in 0..LANES {
                sums[lane] = s[lane].mul_add(k[lane], sums[lane]);
            }
        }
    }
    for (column, sums) in columns.iter().zip(&mut sums) {
        for (sum, (&s, &k)) in sums.iter_mut().zip(column[whole..].iter().zip(&row.decayed_k[whole..])) {
            *sum = s.mul_add(k, *sum);
        }
    }
    let mut correction = [0.0f32; N];
    for ((correction, sums), &v) in correction.iter_mut().zip(sums).zip(v) {
        *correction = row.beta * (v - fold(sums, |a, b| a + b));
    }
    let mut sums = [[0.0f32; LANES]; N];
    for start in (0..whole).step_by(LANES) {
        let of = |x: &'_ [f32]| x[start..].first_chunk::<LANES>().copied().unwrap_or_default();
        let (q, k, decay) = (of(row.q), of(row.k), of(row.decay));
        for ((column, sums), &correction) in columns.iter_mut().zip(&mut sums).zip(&correction) {
            let Some(s) = column[start..].first_chunk_mut::<LANES>() else { break };
            for lane in 0..LANES {
                s[lane] = k[lane].mul_add(correction, decay[lane] * s[lane]);
                sums[lane] = s[lane].mul_add(q[lane], sums[lane]);
            }
        }
    }
    for ((column, sums), &correction) in columns.iter_mut().zip(&mut sums).zip(&correction) {
        for (i, s) in column[whole..].iter_mut().enumerate() {
            let i = whole + i;
            *s = row.k[i].mul_add(correction, row.decay[i] * *s);
            sums[i - whole] = s.mul_add(row.q[i], sums[i - whole]);
        }
    }
    for (y, sums) in y.iter_mut().zip(sums) {
        *y = fold(sums, |a, b| a + b);
    }
}
