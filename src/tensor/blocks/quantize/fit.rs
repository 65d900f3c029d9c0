//! The search for scale and offset of one group of values.
//!
//! For given levels, the best scale (and offset) solve a linear least-squares problem; for given scale and offset, the
//! best levels are the nearest ones. Alternating both never increases the error, but ends in a local minimum. So it
//! starts from the best of a grid of candidates.

use super::levels::{Group, Levels, Moments, inverse};

/// The most alternating improvements of levels and scales after the grid.
const POLISH: usize = 3;

/// The grid for a scale: numbers that the largest value is mapped to, before it is rounded to a level.
#[derive(Clone, Copy)]
pub(super) struct ScaleGrid {
    /// The first number, below the largest level.
    pub(super) from: f32,
    /// The last number, beyond the smallest level: large values are then clamped, so that the others get finer steps.
    pub(super) to: f32,
    /// The distance between adjacent numbers.
    pub(super) step: f32,
}

/// A scale with a small error of `x ≈ scale · level`. It may be negative: the levels of most formats
/// reach further on one side.
pub(super) fn scale<L: Levels, const N: usize>(group: &Group<'_, N>, grid: ScaleGrid) -> f32 {
    let extreme = group.extreme().abs();
    if extreme == 0.0 {
        return 0.0;
    }
    // With the best scale for given levels the error is Σwx² − (Σwxl)²/Σwl²: maximize the fraction.
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

/// The grid for scale and offset: distances of the ends of the levels' range from those of the values' range, positive
/// inside, in units of a level's step. Both ends use the same numbers.
pub(super) type OffsetGrid = &'static [f32];

/// Scale and offset with a small error of `x ≈ scale · level + offset`; the offset is at most `most_offset`. Levels are
/// whole numbers from 0.
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

/// The best scale and offset for given levels, the offset at most `most_offset`.
fn solve(m: &Moments, most_offset: f32) -> (f32, f32) {
    let determinant = m.w * m.ll - m.l * m.l;
    if determinant > f32::EPSILON * m.w * m.ll {
        let scale = (m.w * m.xl - m.x * m.l) / determinant;
        let offset = (m.ll * m.x - m.l * m.xl) / determinant;
        if offset <= most_offset {
            return (scale, offset);
        }
    }
    // The offset is at its bound, or all levels are equal.
    let mean = m.x / m.w;
    if m.ll == 0.0 || most_offset.is_infinite() {
        return (0.0, mean.min(most_offset));
    }
    ((m.xl - most_offset * m.l) / m.ll, most_offset)
}

/// The error minus the constant Σwx².
fn residual(m: &Moments, scale: f32, offset: f32) -> f32 {
    scale * (scale * m.ll - 2.0 * m.xl) + offset * (offset * m.w - 2.0 * m.x) + 2.0 * scale * offset * m.l
}
