//! The memory bandwidth of all workers together: the upper bound of decoding.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::Pool;

/// Bytes read in one round: more than the caches of any machine that is likely to run this.
pub const READ_BYTES: usize = 512 << 20;

/// The total time of the rounds.
const TIME: Duration = Duration::from_millis(400);
/// Bytes that a worker takes at a time.
const DEAL_BYTES: usize = 1 << 20;

/// Measures the workers' read bandwidth in bytes per second, each streaming its own parts of a buffer of
/// `READ_BYTES`. Returns the best of several rounds, since other programs can only slow one down. Takes about half a
/// second, and longer where memory is slow to allocate.
pub fn read_bandwidth(pool: &Pool) -> f64 {
    measure(pool, READ_BYTES, TIME)
}

fn measure(pool: &Pool, bytes: usize, time: Duration) -> f64 {
    // Not zero: the system maps untouched zeros to one shared page, which would be read from the cache.
    let buffer = vec![1u64; bytes / size_of::<u64>()];
    let start = Instant::now();
    let mut best = Duration::MAX;
    loop {
        let round = Instant::now();
        pool.run(|worker| {
            worker.for_chunks(buffer.len(), DEAL_BYTES / size_of::<u64>(), |range| {
                black_box(sum(&buffer[range]));
            });
        });
        best = best.min(round.elapsed());
        if start.elapsed() >= time {
            return std::mem::size_of_val(&buffer[..]) as f64 / best.as_secs_f64();
        }
    }
}

/// A sum in many partial sums, so that the compiler uses wide loads and additions do not wait for each other.
fn sum(values: &[u64]) -> u64 {
    let mut parts = [0u64; 32];
    for values in values.as_chunks::<32>().0 {
        for (part, value) in parts.iter_mut().zip(values) {
            *part = part.wrapping_add(*value);
        }
    }
    parts.iter().fold(0, |sum, part| sum.wrapping_add(*part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_read_everything() {
        assert_eq!(sum(&(0..320).collect::<Vec<u64>>()), 319 * 160);
    }

    #[test]
    fn read_bandwidth_is_plausible() {
        let pool = Pool::new(std::num::NonZeroUsize::MIN).unwrap();
        let rate = measure(&pool, 8 << 20, Duration::ZERO);
        // From the slowest memory that runs this to beyond the fastest cache.
        assert!((1e7..1e14).contains(&rate), "{rate}");
    }
}
