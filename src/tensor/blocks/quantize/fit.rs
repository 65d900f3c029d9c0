//! The search for scale and offset of one group of values.
//!
//! With the levels given, the best scale (and offset) are a linear least-squares problem; with scale and offset
//! given, the best levels are the nearest ones. Doing both in turn never makes the error larger, but ends in the
//! nearest of many minima. So it starts from the best of a grid of candidates.

use super::levels::{Group, Levels, Moments, inverse};

/// How often levels and scales are improved in turn, after the grid.
const POLISH: usize = 3;

/// The grid for a scale: numbers that the largest value is mapped to, before it is rounded to a level.
#[derive(Clone, Copy)]
pub(super) struct ScaleGrid {
    /// The first, less than the greatest level.
    pub(super) from: f32,
    /// The last, beyond the least level: large values are then cut to it, for the good of the others.
    pub(super) to: f32,
    /// The distance of two.
    pub(super) step: f32,
}

/// The scale that makes the error of `x ≈ scale · level` small. It may be negative: the levels of most formats
/// reach further on one side.
pub(super) fn scale<L: Levels, const N: usize>(group: &Group<'_, N>, grid: ScaleGrid) -> f32 {
    let extreme = group.extreme().abs();
    if extreme == 0.0 {
        return 0.0;
    }
    // With the best scale for given levels the error is Σwx² − (Σwxl)²/Σwl²: the fraction is to be large.
    let gain = |m: &Moments| if m.ll > 0.0 { m.xl * m.xl / m.ll } else { 0.0 };
    let (mut best, mut most) = (Moments::default(), 0.0);
    let mut improve = |inverse: f32| {
        let moments = group.moments::<L>(inverse, 0.0);
        let gain = gain(&moments);
        let better = gain > most;
        if better {
            (best, most) = (moments, gain);
        }
        (better, if best.ll > 0.0 { best.xl / best.ll } else { 0.0 })
    };
    let steps = ((grid.to - grid.from) / grid.step).round() as i32;
    let mut scale = 0.0;
    for i in 0..=steps {
        let inverse = (grid.from + grid.step * i as f32) / extreme;
        improve(inverse);
        scale = improve(-inverse).1;
    }
    for _ in 0..POLISH {
        let (better, improved) = improve(inverse(scale));
        if !better {
            break;
        }
        scale = improved;
    }
    scale
}

/// The grid for scale and offset: how far the ends of the levels' range lie inside of the values' range, in
/// units of a level's step. The same numbers serve both ends.
pub(super) type OffsetGrid = &'static [f32];

/// Scale and offset that make the error of `x ≈ scale · level + offset` small; the offset is at most
/// `most_offset`. Levels are whole numbers from 0.
pub(super) fn scale_and_offset<L: Levels, const N: usize>(
    group: &Group<'_, N>,
    most_offset: f32,
    grid: OffsetGrid,
) -> (f32, f32) {
    let (least, greatest) = group.range();
    let least = least.min(most_offset);
    let plain = ((greatest - least).max(0.0) / L::MOST, least);
    if plain.0 == 0.0 {
        return plain;
    }
    let (mut best, mut lowest) = (plain, f32::INFINITY);
    let mut improve = |scale: f32, offset: f32| {
        let moments = group.moments::<L>(inverse(scale), offset);
        let (scale, offset) = solve(&moments, most_offset);
        let error = residual(&moments, scale, offset);
        let better = error < lowest;
        if better {
            (best, lowest) = ((scale, offset), error);
        }
        (better, best)
    };
    for low in grid {
        let offset = least + low * plain.0;
        for high in grid {
            let scale = (greatest - high * plain.0 - offset) / L::MOST;
            if scale > 0.0 {
                improve(scale, offset.min(most_offset));
            }
        }
    }
    let (mut scale, mut offset) = improve(plain.0, plain.1).1;
    for _ in 0..POLISH {
        let (better, improved) = improve(scale, offset);
        if !better {
            break;
        }
        (scale, offset) = improved;
    }
    (scale, offset)
}

/// Scale and offset of least error for given levels, the offset at most `most_offset`.
fn solve(m: &Moments, most_offset: f32) -> (f32, f32) {
    let determinant = m.w * m.ll - m.l * m.l;
    if determinant > f32::EPSILON * m.w * m.ll {
        let scale = (m.w * m.xl - m.x * m.l) / determinant;
        let offset = (m.ll * m.x - m.l * m.xl) / determinant;
        if offset <= most_offset {
            return (scale, offset);
        }
    }
    // The offset at its bound, or all levels the same.
    let mean = m.x / m.w;
    if m.ll == 0.0 || most_offset.is_infinite() {
        return (0.0, mean.min(most_offset));
    }
    ((m.xl - most_offset * m.l) / m.ll, most_offset)
}

/// The error less the constant Σwx².
fn residual(m: &Moments, scale: f32, offset: f32) -> f32 {
    scale * (scale * m.ll - 2.0 * m.xl) + offset * (offset * m.w - 2.0 * m.x) + 2.0 * scale * offset * m.l
}
