//! Progress bars on standard error, only on a terminal and for work of more than a second.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::exec::Budget;
use crate::gguf::Gguf;
use crate::model::DeviceChoice;

/// A bar that appears if the work takes more than a second.
pub(super) struct Progress {
    what: &'static str,
    unit: Unit,
    total: u64,
    start: Instant,
    bar: Option<ProgressBar>,
}

/// The unit of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Tokens.
    Tokens,
    /// Repetitions of a test.
    Runs,
    /// Programs for a GPU.
    Programs,
    /// Weights of a model.
    Weights,
}

impl Progress {
    /// Delay before the bar appears.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// Starts work of `total` units.
    pub(super) fn new(what: &'static str, unit: Unit, total: usize) -> Progress {
        Progress { what, unit, total: total as u64, start: Instant::now(), bar: None }
    }

    /// Sets the number of finished units.
    pub(super) fn set(&mut self, done: usize) {
        if self.bar.is_none() && self.start.elapsed() > Progress::PATIENCE && io::stderr().is_terminal() {
            let counts = match self.unit {
                Unit::Bytes => "{bytes}/{total_bytes}",
                Unit::Tokens => "{pos}/{len} tokens, {per_sec}",
                Unit::Runs => "{pos}/{len} runs",
                Unit::Programs => "{pos}/{len} programs",
                Unit::Weights => "{human_pos}/{human_len} weights",
            };
            let bar = ProgressBar::new(self.total).with_message(self.what).with_elapsed(self.start.elapsed());
            if let Ok(style) =
                ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {counts}, {{eta}} left"))
            {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
    }
}

impl Progress {
    /// Sets the finished and total number of units. The bar disappears when all are finished.
    pub(super) fn set_of(&mut self, done: usize, total: usize) {
        self.total = total as u64;
        if done < total {
            self.set(done);
        } else if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Reads a model's pages in file order, so that a file that is not in memory is loaded in one sweep and under a
/// progress bar, instead of page by page during the first answer. A file larger than the free memory is skipped: its
/// first pages would be evicted before its last are read.
pub(super) fn read_ahead(gguf: &Gguf, device: DeviceChoice) {
    const PAGE: usize = 4096;
    const STRETCH: usize = 16 << 20;
    // For a GPU, weights are copied to it while they are read.
    if device != DeviceChoice::Cpu || gguf.total_bytes() > Budget::host(1.0).limit() {
        return;
    }
    let total = gguf.tensors().iter().map(|info| info.bytes).sum();
    let mut progress = Progress::new("loading", Unit::Bytes, total);
    let mut done = 0;
    for info in gguf.tensors() {
        for stretch in gguf.data(info).chunks(STRETCH) {
            let touched = stretch.iter().step_by(PAGE).fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            std::hint::black_box(touched);
            done += stretch.len();
            progress.set(done);
        }
    }
}
