//! The random numbers of sampling: small, seeded, and identical on every machine.

/// xoshiro256++ 1.0 (Blackman, Vigna: "Scrambled linear pseudorandom number generators", 2019), seeded by SplitMix64
/// (Steele, Lea, Flood 2014) as its authors advise. Not cryptographically secure.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator for this seed.
    pub fn new(seed: u64) -> Rng {
        let mut counter = seed;
        let state = std::array::from_fn(|_| {
            counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = counter;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Rng { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let (c2, d2) = (c ^ a, d ^ b);
        self.state = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        a.wrapping_add(d).rotate_left(23).wrapping_add(a)
    }

    /// A number in [0, 1), uniform over the multiples of 2⁻⁵³.
    pub fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_fills_the_state() {
        // The first outputs of SplitMix64 for seed 0, from its published reference implementation.
        let expected =
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f, 0xf88b_b8a8_724c_81ec];
        assert_eq!(Rng::new(0).state, expected);
    }

    #[test]
    fn sequence_matches_the_reference() {
        // The state 1, 2, 3, 4: the first value is rotl(1 + 4, 23) + 1.
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let first: [u64; 4] = std::array::from_fn(|_| rng.next_u64());
        assert_eq!(first, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    }

    #[test]
    fn mean_of_unit_numbers_is_one_half() {
        let mut rng = Rng::new(7);
        let n = 100_000;
        let mean = (0..n).map(|_| rng.next_unit()).sum::<f64>() / f64::from(n);
        // The mean of n uniform numbers has a standard deviation of sqrt(1/12/n) = 0.0009; the bound is five of them.
        assert!((mean - 0.5).abs() < 0.0046, "{mean}");
    }
}
