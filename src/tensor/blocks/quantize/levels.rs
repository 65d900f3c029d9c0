//! The levels of codes, and sums over a group of values with their levels.

use super::super::{E2M1_DOUBLED, IQ4_VALUES};

/// The values of a format's codes, in units of the scale.
pub(super) trait Levels {
    /// The smallest level.
    const LEAST: f32;
    /// The largest level.
    const MOST: f32;
    /// The level nearest to a number.
    fn nearest(t: f32) -> f32;
    /// The code of a level.
    fn code(level: f32) -> u8;
}

/// Every whole number from `LEAST` to `MOST`; code 0 is `LEAST`.
pub(super) struct Whole<const LEAST: i32, const MOST: i32>;

/// Between `2²³` and `2²⁴` an f32 has no fraction: adding this rounds to a whole number, ties to even.
const ROUND: f32 = 12_582_912.0;

impl<const LEAST: i32, const MOST: i32> Levels for Whole<LEAST, MOST> {
    const LEAST: f32 = LEAST as f32;
    const MOST: f32 = MOST as f32;

    #[inline(always)]
    fn nearest(t: f32) -> f32 {
        // Comparisons, unlike `clamp`, are single vector instructions.
        let t = if t > Self::LEAST { t } else { Self::LEAST };
        let t = if t < Self::MOST { t } else { Self::MOST };
        (t + ROUND) - ROUND
    }

    fn code(level: f32) -> u8 {
        (level - Self::LEAST) as u8
    }
}

/// A table of the nearest level for each half unit from −128 on: all midpoints of two levels are multiples of one half.
const fn nearest_of(levels: &[i8; 16]) -> [f32; 512] {
    let mut table = [0.0; 512];
    let mut i = 0;
    while i < 512 {
        // Four times the middle of the half unit, so that it is an integer.
        let middle = 2 * i as i32 - 511;
        let (mut best, mut k) = (0, 1);
        while k < 16 {
            let (now, other) = (middle - 4 * levels[best] as i32, middle - 4 * levels[k] as i32);
            if other.abs() < now.abs() {
                best = k;
            }
            k += 1;
        }
        table[i] = levels[best] as f32;
        i += 1;
    }
    table
}

/// Looks a number up in a table of [`nearest_of`].
#[inline(always)]
fn look_up(table: &[f32; 512], t: f32) -> f32 {
    // The conversion truncates and saturates at 0; `min` limits the index at the other end.
    table[((2.0 * t + 256.0) as usize).min(511)]
}

/// The position of a level in its list.
fn position(levels: &[i8; 16], level: f32) -> u8 {
    levels.iter().position(|&value| f32::from(value) == level).unwrap_or(0) as u8
}

/// The levels of IQ4_NL and IQ4_XS.
pub(super) struct Iq4;

impl Levels for Iq4 {
    const LEAST: f32 = -127.0;
    const MOST: f32 = 113.0;

    #[inline(always)]
    fn nearest(t: f32) -> f32 {
        static TABLE: [f32; 512] = nearest_of(&IQ4_VALUES);
        look_up(&TABLE, t)
    }

    fn code(level: f32) -> u8 {
        position(&IQ4_VALUES, level)
    }
}

/// Twice the numbers of E2M1.
pub(super) struct E2m1;

impl Levels for E2m1 {
    const LEAST: f32 = -12.0;
    const MOST: f32 = 12.0;

    #[inline(always)]
    fn nearest(t: f32) -> f32 {
        static TABLE: [f32; 512] = nearest_of(&E2M1_DOUBLED);
        look_up(&TABLE, t)
    }

    fn code(level: f32) -> u8 {
        position(&E2M1_DOUBLED, level)
    }
}

/// Values with a common scale, and the weights of their errors.
pub(super) struct Group<'a, const N: usize> {
    pub(super) x: &'a [f32; N],
    pub(super) w: &'a [f32; N],
}

/// Weighted sums over a group: of 1, `x`, level, level², `x`·level.
#[derive(Clone, Copy, Default)]
pub(super) struct Moments {
    pub(super) w: f32,
    pub(super) x: f32,
    pub(super) l: f32,
    pub(super) ll: f32,
    pub(super) xl: f32,
}

/// The number of partial sums, so that sums are vector additions.
const LANES: usize = 8;

/// `1 / scale`, or 0 for a scale of 0, at which every value has the level nearest to 0.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

impl<const N: usize> Group<'_, N> {
    /// The sums of `terms` over all values and their weights.
    #[inline(always)]
    fn sum<const K: usize>(&self, terms: impl Fn(f32, f32) -> [f32; K]) -> [f32; K] {
        let mut lanes = [[0f32; LANES]; K];
        let chunks = self.x.as_chunks::<LANES>().0.iter().zip(self.w.as_chunks::<LANES>().0);
        for (x, w) in chunks {
            for i in 0..LANES {
                let terms = terms(x[i], w[i]);
                for k in 0..K {
                    lanes[k][i] += terms[k];
                }
            }
        }
        lanes.map(|lane| lane.iter().sum())
    }

    /// The sums for the levels nearest to `(x − offset) · inverse`.
    #[inline(always)]
    pub(super) fn moments<L: Levels>(&self, inverse: f32, offset: f32) -> Moments {
        let [w, x, l, ll, xl] = self.sum(|x, w| {
            let level = L::nearest((x - offset) * inverse);
            let wl = w * level;
            [w, w * x, wl, wl * level, wl * x]
        });
        Moments { w, x, l, ll, xl }
    }

    /// The weighted squared error with the nearest levels.
    #[inline(always)]
    pub(super) fn error<L: Levels>(&self, scale: f32, offset: f32) -> f32 {
        let inverse = inverse(scale);
        let [error] = self.sum(|x, w| {
            let level = L::nearest((x - offset) * inverse);
            let off = x - (scale * level + offset);
            [w * off * off]
        });
        error
    }

    /// The codes of the nearest levels.
    pub(super) fn codes<L: Levels>(&self, scale: f32, offset: f32) -> [u8; N] {
        let inverse = inverse(scale);
        self.x.map(|x| L::code(L::nearest((x - offset) * inverse)))
    }

    /// Smallest and largest value.
    pub(super) fn range(&self) -> (f32, f32) {
        let fold = |pick: fn(f32, f32) -> f32| self.x.iter().copied().fold(self.x[0], pick);
        (fold(f32::min), fold(f32::max))
    }

    /// The value of largest magnitude; the first of several.
    pub(super) fn extreme(&self) -> f32 {
        self.x.iter().fold(0.0, |extreme: f32, &x| if x.abs() > extreme.abs() { x } else { extreme })
    }
}
