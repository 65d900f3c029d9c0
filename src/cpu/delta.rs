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
    let columns: [&mut [f32]; N] = std::array::from_fn(|_| columns.next().unwrap_or_default());
    let (decayed_k, k_rest) = row.decayed_k[..d].as_chunks::<LANES>();
    let n = decayed_k.len();
    let mut sums = [[0.0f32; LANES]; N];
    let whole: [&[[f32; LANES]]; N] = std::array::from_fn(|c| &columns[c].as_chunks().0[..n]);
    for (i, k) in decayed_k.iter().enumerate() {
        for c in 0..N {
            let s = &whole[c][i];
            for lane in 0..LANES {
                sums[c][lane] = s[lane].mul_add(k[lane], sums[c][lane]);
            }
        }
    }
    for c in 0..N {
        for (sum, (&s, &k)) in sums[c].iter_mut().zip(columns[c][n * LANES..].iter().zip(k_rest)) {
            *sum = s.mul_add(k, *sum);
        }
    }
    let mut correction = [0.0f32; N];
    for c in 0..N {
        correction[c] = row.beta * (v[c] - fold(sums[c], |a, b| a + b));
    }
    let mut sums = [[0.0f32; LANES]; N];
    let [q, k, decay] = [row.q, row.k, row.decay].map(|x| x[..d].as_chunks::<LANES>());
    let mut columns = columns.into_iter();
    let split: [(&mut [[f32; LANES]], &mut [f32]); N] =
        std::array::from_fn(|_| columns.next().unwrap_or_default().as_chunks_mut());
    for (i, ((&q, &k), &decay)) in q.0.iter().zip(k.0).zip(decay.0).enumerate() {
        for c in 0..N {
            let Some(place) = split[c].0.get_mut(i) else { continue };
            // A copy, so that the loop need not expect the state to share memory with the operands.
            let mut s = *place;
            for lane in 0..LANES {
                s[lane] = k[lane].mul_add(correction[c], decay[lane] * s[lane]);
            }
            *place = s;
            for lane in 0..LANES {
                sums[c][lane] = s[lane].mul_add(q[lane], sums[c][lane]);
            }
        }
    }
    for c in 0..N {
        for (i, s) in split[c].1.iter_mut().enumerate() {
            *s = k.1[i].mul_add(correction[c], decay.1[i] * *s);
            sums[c][i] = s.mul_add(q.1[i], sums[c][i]);
        }
        y[c] = fold(sums[c], |a, b| a + b);
    }
}
