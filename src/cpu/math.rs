//! Elementary functions of F32, written so that the compiler can vectorise loops over them.
//!
//! They use the same additions, multiplications and fused multiply-adds on every instruction set, so their bits are the
//! same too, unlike those of the system's library.

/// e to the power of `x`, within 2 units in the last place; gradual underflow, overflow to infinity.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2 = 0.347; the Taylor polynomial of degree 7 has a relative error below 0.347⁸ / 8!
/// = 5.2e-9, a tenth of a unit in the last place.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding and subtracting this constant rounds to the nearest integer, which remains in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has 9 low zero bits, so that its product with n is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Below this range the result is 0, above it infinity.
    let x = x.clamp(-105.0, 90.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    p = r.mul_add(p, 1.0 / 720.0);
    p = r.mul_add(p, 1.0 / 120.0);
    p = r.mul_add(p, 1.0 / 24.0);
    p = r.mul_add(p, 1.0 / 6.0);
    p = r.mul_add(p, 0.5);
    p = r.mul_add(p, 1.0);
    p = r.mul_add(p, 1.0);
    // 2ⁿ as two factors, since n ranges from -152 to 130.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, within 4 units in the last place.
///
/// Near 0 it is the Taylor polynomial, with a relative error below 6e-4·0.5¹⁶ = 1e-8; elsewhere 1 - 2/(e²ˣ + 1).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let square = x * x;
    let mut p = -929_569.0 / 638_512_875.0;
    p = square.mul_add(p, 21_844.0 / 6_081_075.0);
    p = square.mul_add(p, -1382.0 / 155_925.0);
    p = square.mul_add(p, 62.0 / 2835.0);
    p = square.mul_add(p, -17.0 / 315.0);
    p = square.mul_add(p, 2.0 / 15.0);
    p = square.mul_add(p, -1.0 / 3.0);
    let near = (x * square).mul_add(p, x);
    let far = (1.0 - 2.0 / (exp(2.0 * a) + 1.0)).copysign(x);
    if a < 0.5 { near } else { far }
}

/// ln(1 + eˣ) = max(x, 0) + ln(1 + u) with u = e^-|x|, within 4 units in the last place; NaN gives NaN.
///
/// ln(1 + u) = 2·artanh(s) with s = u / (2 + u) ≤ 1/3; its series up to s¹⁵ has a relative error below s¹⁶ / 17 = 1.4e-9.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let u = exp(-x.abs());
    let s = u / (2.0 + u);
    let square = s * s;
    let mut p = 1.0 / 15.0;
    p = square.mul_add(p, 1.0 / 13.0);
    p = square.mul_add(p, 1.0 / 11.0);
    p = square.mul_add(p, 1.0 / 9.0);
    p = square.mul_add(p, 1.0 / 7.0);
    p = square.mul_add(p, 0.2);
    p = square.mul_add(p, 1.0 / 3.0);
    p = square.mul_add(p, 1.0);
    // A comparison in this direction keeps NaN.
    let above = if x < 0.0 { 0.0 } else { x };
    (2.0 * s).mul_add(p, above)
}

/// x·σ(x), also called swish.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// The Gaussian error linear unit in the tanh form of Hendrycks and Gimpel (2016): x/2·(1 + tanh(√(2/π)·(x +
/// 0.044715·x³))), computed with 1 + tanh u = 2σ(2u).
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
    x * sigmoid(TWICE_SQRT_2_OVER_PI * x * (x * x).mul_add(0.044_715, 1.0))
}

/// x·σ(1.702·x), the sigmoid form of Hendrycks and Gimpel (2016).
#[inline(always)]
pub fn gelu_quick(x: f32) -> f32 {
    x * sigmoid(1.702 * x)
}

/// Sine and cosine of an angle in radians, each within 1e-12 for angles up to 10⁹.
///
/// Subtracting a multiple of π/2 gives |r| ≤ π/4, where the Taylor polynomials of degree 13 and 12 have an error below
/// 0.786¹⁴ / 14! = 4e-13.
#[inline(always)]
pub fn sin_cos(angle: f64) -> (f64, f64) {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // π/2 as the sum of two constants, to 106 bits.
    const HIGH: f64 = std::f64::consts::FRAC_PI_2;
    const LOW: f64 = 6.123_233_995_736_766e-17;
    let shifted = angle.mul_add(std::f64::consts::FRAC_2_PI, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LOW, n.mul_add(-HIGH, angle));
    let square = r * r;
    let mut sin = 1.0 / 6_227_020_800.0;
    sin = square.mul_add(sin, -1.0 / 39_916_800.0);
    sin = square.mul_add(sin, 1.0 / 362_880.0);
    sin = square.mul_add(sin, -1.0 / 5040.0);
    sin = square.mul_add(sin, 1.0 / 120.0);
    sin = square.mul_add(sin, -1.0 / 6.0);
    sin = (square * r).mul_add(sin, r);
    let mut cos = 1.0 / 479_001_600.0;
    cos = square.mul_add(cos, -1.0 / 3_628_800.0);
    cos = square.mul_add(cos, 1.0 / 40_320.0);
    cos = square.mul_add(cos, -1.0 / 720.0);
    cos = square.mul_add(cos, 1.0 / 24.0);
    cos = square.mul_add(cos, -0.5);
    cos = square.mul_add(cos, 1.0);
    // The quadrant is in the low two bits.
    let quarter = shifted.to_bits();
    let (sin, cos) = if quarter & 1 == 0 { (sin, cos) } else { (cos, -sin) };
    if quarter & 2 == 0 { (sin, cos) } else { (-sin, -cos) }
}

/// x·Φ(x) with the normal distribution Φ, whose tail is half of erfc(|x|/√2) by formula 7.1.26 of
/// Abramowitz and Stegun, Handbook of Mathematical Functions (error of erfc: 1.5e-7).
#[inline(always)]
pub fn gelu_erf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / z.mul_add(0.327_591_1, 1.0);
    let mut p = 1.061_405_4;
    p = t.mul_add(p, -1.453_152_1);
    p = t.mul_add(p, 1.421_413_8);
    p = t.mul_add(p, -0.284_496_72);
    p = t.mul_add(p, 0.254_829_6);
    let tail = 0.5 * p * t * exp(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worst error over many points of `from..to`, in units in the last place.
    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, from: f32, to: f32) -> f64 {
        let n = 200_000;
        (0..=n)
            .map(|i| {
                let x = from + (to - from) * i as f32 / n as f32;
                let want = exact(f64::from(x));
                let unit = want.abs().max(f64::from(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
                (f64::from(f(x)) - want).abs() / unit
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_within_its_bound() {
        assert!(worst(exp, f64::exp, -104.0, 88.7) <= 2.0);
        assert!(worst(exp, f64::exp, -1.0, 1.0) <= 2.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-104.5), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_its_bound() {
        assert!(worst(tanh, f64::tanh, -12.0, 12.0) <= 4.0);
        assert!(worst(tanh, f64::tanh, -0.6, 0.6) <= 4.0);
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
    }

    #[test]
    fn sine_and_cosine_are_within_their_bound() {
        for i in -20_000..20_000 {
            for angle in [f64::from(i) * 1e-3, f64::from(i) * 1.234_567, f64::from(i) * 50_000.1] {
                let (sin, cos) = sin_cos(angle);
                assert!((sin - angle.sin()).abs() < 1e-12 && (cos - angle.cos()).abs() < 1e-12, "{angle}");
            }
        }
    }

    #[test]
    fn sigmoid_is_accurate() {
        assert!(worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0) <= 4.0);
    }

    #[test]
    fn softplus_is_accurate() {
        assert!(worst(softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), -80.0, 80.0) <= 4.0);
        assert_eq!(softplus(f32::INFINITY), f32::INFINITY);
        assert_eq!(softplus(f32::NEG_INFINITY), 0.0);
        assert!(softplus(f32::NAN).is_nan());
    }
}
