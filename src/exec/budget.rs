//! The budget (promise P2): how much memory may be taken, asked before any is.

use std::fmt;

use crate::Remedy;

/// How much memory may be taken, and who holds it.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Free memory when the budget was made.
    free: u64,
    total: u64,
    fraction: f64,
    on_gpu: bool,
    holders: Vec<(String, u64)>,
}

/// A refusal: what was asked, what there is, and what would make it fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub struct BudgetError {
    /// What the memory was for.
    pub what: String,
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes left in the budget.
    pub available: u64,
    /// Bytes that were free when the budget was made.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// The share of the free memory that may be taken.
    pub fraction: f64,
    /// Whether it is a GPU's memory.
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
    /// What would make it fit.
    pub fn remedies(&self) -> &'static [Remedy] {
        use Remedy::{FewerGpuLayers, LargerMemoryFraction, SmallerContext, SmallerUbatch};
        match self.on_gpu {
            true => &[SmallerContext, FewerGpuLayers, SmallerUbatch, LargerMemoryFraction],
            false => &[SmallerContext, SmallerUbatch, LargerMemoryFraction],
        }
    }
}

/// Bytes as people write them.
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
    /// The share of free memory that is taken unless told otherwise.
    pub const FRACTION: f64 = 0.7;

    /// A budget of this share of `free` bytes, of `total`.
    pub fn new(free: u64, total: u64, fraction: f64) -> Budget {
        Budget { free, total, fraction: fraction.clamp(0.0, 1.0), on_gpu: false, holders: Vec::new() }
    }

    /// As [`Budget::new`], of a GPU's memory: refusals then say what takes less of that.
    pub fn gpu(free: u64, total: u64, fraction: f64) -> Budget {
        Budget { on_gpu: true, ..Budget::new(free, total, fraction) }
    }

    /// A budget of this share of the host's free memory. Where the system does not say how much that is
    /// (it is read from Linux's `/proc/meminfo`), the budget has no limit.
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

    /// Bytes that may be taken in all.
    pub fn limit(&self) -> u64 {
        if self.free == u64::MAX { u64::MAX } else { (self.free as f64 * self.fraction) as u64 }
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.holders.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that may still be taken.
    pub fn available(&self) -> u64 {
        self.limit().saturating_sub(self.held())
    }

    /// Who holds what.
    pub fn holders(&self) -> &[(String, u64)] {
        &self.holders
    }

    /// Sets what `what` holds to `bytes`, or refuses. Must be called before the memory is taken. To hold
    /// less than before is never refused, and who holds nothing is no holder.
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
    fn a_refusal_says_what_was_asked_what_is_left_and_who_holds_it() {
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
    fn a_gpus_refusal_names_what_takes_less_of_it() {
        let error = Budget::gpu(100, 100, 1.0).hold("weights", 200).unwrap_err();
        assert!(error.to_string().contains("fewer layers on the GPU"), "{error}");
    }

    #[test]
    fn the_hosts_budget_is_a_share_of_what_is_free() {
        let (half, whole) = (Budget::host(0.5), Budget::host(1.0));
        assert!(half.limit() <= whole.limit() && half.limit() > 0);
    }
}
