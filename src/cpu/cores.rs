//! The number of cores that this process may use.

use std::num::NonZeroUsize;
use std::thread;

/// The number of cores that this process may use, with hyper-threads of one core counted once.
pub fn physical_cores() -> NonZeroUsize {
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    match NonZeroUsize::new(listed_cores()) {
        Some(cores) => cores.min(threads),
        None => threads,
    }
}

/// The number of distinct cores that Linux lists in `/sys`; 0 if it lists none.
fn listed_cores() -> usize {
    let Ok(entries) = std::fs::read_dir("/sys/devices/system/cpu") else { return 0 };
    let mut cores: Vec<String> = entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("topology/thread_siblings_list")).ok())
        .collect();
    cores.sort_unstable();
    cores.dedup();
    cores.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_at_least_one_core() {
        assert!(physical_cores() <= thread::available_parallelism().unwrap());
    }
}
