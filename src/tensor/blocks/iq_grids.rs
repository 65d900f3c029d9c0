//! The grids of the IQ1, IQ2 and IQ3 formats, expanded at compile time to one byte a coordinate.
//!
//! A grid index of a block is an index into these tables. Magnitudes fit an `i8`, so that a kernel can
//! apply signs and multiply in 8 bits.

use super::iq_points;

/// Magnitudes of the IQ2 lattices.
const IQ2_VALUES: [i8; 3] = [8, 25, 43];
/// Magnitudes of the IQ3_XXS lattice.
const IQ3_XXS_VALUES: [i8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];
/// Magnitudes of the IQ3_S lattice.
const IQ3_S_VALUES: [i8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];
/// Numbers of the IQ1 lattice.
const IQ1_VALUES: [i8; 3] = [-1, 0, 1];

/// Grid of IQ2_XXS: magnitudes of eight neighbours.
pub static IQ2_XXS_GRID: [[i8; 8]; 256] = expand(&iq_points::IQ2_XXS, &IQ2_VALUES);
/// Grid of IQ2_XS: magnitudes of eight neighbours.
pub static IQ2_XS_GRID: [[i8; 8]; 512] = expand(&iq_points::IQ2_XS, &IQ2_VALUES);
/// Grid of IQ2_S: magnitudes of eight neighbours.
pub static IQ2_S_GRID: [[i8; 8]; 1024] = expand(&iq_points::IQ2_S, &IQ2_VALUES);
/// Grid of IQ3_XXS: magnitudes of four neighbours.
pub static IQ3_XXS_GRID: [[i8; 4]; 256] = expand(&iq_points::IQ3_XXS, &IQ3_XXS_VALUES);
/// Grid of IQ3_S: magnitudes of four neighbours.
pub static IQ3_S_GRID: [[i8; 4]; 512] = expand(&iq_points::IQ3_S, &IQ3_S_VALUES);
/// Grid of IQ1_S and IQ1_M: eight numbers of −1, 0, 1.
pub static IQ1_GRID: [[i8; 8]; 2048] = expand(&iq_points::IQ1, &IQ1_VALUES);

/// The points of each lattice as the formats number them, 16 bits each, with the name of the lattice. Kernels are given these.
pub fn lattice_points() -> [(&'static str, &'static [u16]); 6] {
    [
        ("IQ2_XXS", &iq_points::IQ2_XXS),
        ("IQ2_XS", &iq_points::IQ2_XS),
        ("IQ2_S", &iq_points::IQ2_S),
        ("IQ3_XXS", &iq_points::IQ3_XXS),
        ("IQ3_S", &iq_points::IQ3_S),
        ("IQ1", &iq_points::IQ1),
    ]
}

/// `POINTS` points of `DIMS` coordinates from 16 bits each. A coordinate without a value stops the
/// compilation.
const fn expand<const DIMS: usize, const POINTS: usize>(
    packed: &[u16; POINTS],
    values: &[i8],
) -> [[i8; DIMS]; POINTS] {
    let width = 16 / DIMS;
    let mut grid = [[0; DIMS]; POINTS];
    let mut p = 0;
    while p < POINTS {
        let mut j = 0;
        while j < DIMS {
            grid[p][j] = values[packed[p] as usize >> (j * width) & ((1 << width) - 1)];
            j += 1;
        }
        p += 1;
    }
    grid
}

/// The factors 1 and −1 that a byte of signs stands for: bit `j` set makes element `j` negative.
pub static SIGN_FACTORS: [[i8; 8]; 256] = sign_factors();

const fn sign_factors() -> [[i8; 8]; 256] {
    let mut factors = [[1; 8]; 256];
    let mut i = 0;
    while i < 256 * 8 {
        if (i / 8) >> (i % 8) & 1 == 1 {
            factors[i / 8][i % 8] = -1;
        }
        i += 1;
    }
    factors
}

/// Eight magnitudes with their signs; bit `j` of `signs` makes element `j` negative.
#[inline(always)]
pub(super) fn signed(magnitudes: &[i8; 8], signs: u8) -> [i8; 8] {
    let factors = &SIGN_FACTORS[usize::from(signs)];
    std::array::from_fn(|j| magnitudes[j] * factors[j])
}
