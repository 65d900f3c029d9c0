//! The budget (promise P2): memory is requested from it before it is allocated.

use std::fmt;

use crate::Remedy;

/// The memory that may be used, and its holders.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Free bytes when the budget was made.
    free: u64,
    total: u64,
    fraction: f64,
    on_gpu: bool,
    holders: Vec<(String, u64)>,
}

/// A refusal: the bytes requested, the bytes available, and a remedy.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub struct BudgetError {
    /// The purpose of the memory.
    pub what: String,
    /// Bytes requested.
    pub asked: u64,
    /// Bytes available in the budget.
    pub available: u64,
    /// Bytes that were free when the budget was made.
    pub free: u64,
    /// Total bytes.
    pub total: u64,
    /// The usable share of the free memory.
    pub fraction: f64,
    /// True for a GPU's memory.
    pub on_gpu: bool,
    /// The largest holders, at most three.
    pub holders: Vec<(String, u64)>,
}

impl fmt::Display for BudgetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} needs {}, and {} are left of the budget ({:.0} % of the {} that were free; {} in all)",
            self.what,
            Bytes(self.asked),
            Bytes(self.available),
            self.fraction * 100.0,
            Bytes(self.free),
            Bytes(self.total),
        )?;
        for (i, (name, bytes)) in self.holders.iter().enumerate() {
            write!(f, "{} {name} {}", if i == 0 { "; held by" } else { "," }, Bytes(*bytes))?;
        }
        for (i, remedy) in self.remedies().iter().enumerate() {
            write!(f, "{} {remedy}", if i == 0 { ";" } else { "," })?;
        }
        f.write_str(" or a smaller file would fit")
    }
}

impl BudgetError {
    /// The remedies, each of which may make the memory fit.
    pub fn remedies(&self) -> &'static [Remedy] {
        use Remedy::{FewerGpuLayers, LargerMemoryFraction, SmallerContext, SmallerUbatch};
        match self.on_gpu {
            true => &[SmallerContext, FewerGpuLayers, SmallerUbatch, LargerMemoryFraction],
            false => &[SmallerContext, SmallerUbatch, LargerMemoryFraction],
        }
    }
}

/// A byte count, displayed with a unit.
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match units.iter().find(|(_, shift)| self.0 >> shift > 0) {
            Some((unit, shift)) => write!(f, "{:.1} {unit}", self.0 as f64 / (1u64 << shift) as f64),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl Budget {
    /// The default share of free memory that may be used.
    pub const FRACTION: f64 = 0.7;

    /// A budget of a `fraction` of `free` bytes; `total` is for messages.
    pub fn new(free: u64, total: u64, fraction: f64) -> Budget {
        Budget { free, total, fraction: fraction.clamp(0.0, 1.0), on_gpu: false, holders: Vec::new() }
    }

    /// Like [`Budget::new`] for a GPU's memory: refusals then suggest how to use less of it.
    pub fn gpu(free: u64, total: u64, fraction: f64) -> Budget {
        Budget { on_gpu: true, ..Budget::new(free, total, fraction) }
    }

    /// A budget of a `fraction` of the host's free memory, as read from Linux's `/proc/meminfo`. Without that file the
    /// budget has no limit.
    pub fn host(fraction: f64) -> Budget {
        let read = |key: &str| -> Option<u64> {
            let text = std::fs::read_to_string("/proc/meminfo").ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        match (read("MemAvailable"), read("MemTotal")) {
            (Some(free), Some(total)) => Budget::new(free, total, fraction),
            _ => Budget::new(u64::MAX, u64::MAX, 1.0),
        }
    }

    /// The bytes that may be used.
    pub fn limit(&self) -> u64 {
        if self.free == u64::MAX { u64::MAX } else { (self.free as f64 * self.fraction) as u64 }
    }

    /// The bytes in use.
    pub fn held(&self) -> u64 {
        self.holders.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The bytes still available.
    pub fn available(&self) -> u64 {
        self.limit().saturating_sub(self.held())
    }

    /// The holders and their bytes.
    pub fn holders(&self) -> &[(String, u64)] {
        &self.holders
    }

    /// Sets the bytes that `what` holds, or refuses. Call it before allocating. A decrease is never refused, and a
    /// holder of 0 bytes is dropped.
    pub fn hold(&mut self, what: &str, bytes: u64) -> Result<(), BudgetError> {
        let at = self.holders.iter().position(|(name, _)| name == what);
        let before = at.map_or(0, |at| self.holders[at].1);
        let available = self.available().saturating_add(before);
        if bytes > available {
            let mut holders = self.holders.clone();
            holders.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            holders.truncate(3);
            let Budget { free, total, fraction, on_gpu, .. } = *self;
            return Err(BudgetError {
                what: what.into(),
                asked: bytes,
                available,
                free,
                total,
                fraction,
                on_gpu,
                holders,
            });
        }
        match at {
            Some(at) if bytes == 0 => _ = self.holders.remove(at),
            Some(at) => self.holders[at].1 = bytes,
            None if bytes == 0 => {}
            None => self.holders.push((what.into(), bytes)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_request_free_bytes_and_holders() {
        let mut budget = Budget::new(10 << 30, 16 << 30, 0.7);
        budget.hold("weights", 4 << 30).unwrap();
        budget.hold("arena", 1 << 20).unwrap();
        budget.hold("arena", 2 << 20).unwrap();
        let error = budget.hold("KV cache", 4 << 30).unwrap_err();
        assert_eq!(budget.held(), (4 << 30) + (2 << 20));
        budget.hold("arena", 0).unwrap();
        budget.hold("staging", 0).unwrap();
        assert_eq!(budget.holders(), [("weights".to_string(), 4 << 30)]);
        insta::assert_snapshot!(error, @"KV cache needs 4.0 GiB, and 3.0 GiB are left of the budget (70 % of the 10.0 GiB that were free; 16.0 GiB in all); held by weights 4.0 GiB, arena 2.0 MiB; a smaller context, a smaller ubatch, a larger memory fraction or a smaller file would fit");
    }

    #[test]
    fn a_gpus_refusal_names_options_that_need_less() {
        let error = Budget::gpu(100, 100, 1.0).hold("weights", 200).unwrap_err();
        assert!(error.to_string().contains("fewer layers on the GPU"), "{error}");
    }

    #[test]
    fn the_hosts_budget_is_a_share_of_free_memory() {
        let (half, whole) = (Budget::host(0.5), Budget::host(1.0));
        assert!(half.limit() <= whole.limit() && half.limit() > 0);
    }
}
