//! The properties of a simulated device.

use std::env;

/// The amount of checking of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Check every load and store, and look for races in shared memory and between streams.
    Full,
    /// Like `Full`, without races in shared memory: several times faster for kernels that use much of it.
    Memory,
    /// No checks; kernels run at full speed. A wild access ends the process.
    Fast,
}

/// The time at which queued work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Immediately, in the order of the calls.
    Eager,
    /// When the host waits, in a random order that streams and events allow, drawn from the seed.
    Late,
}

/// The properties of a simulated device.
#[derive(Clone, Debug)]
pub struct Config {
    /// Lanes of a wave: 32 or 64.
    pub wave: u32,
    /// The seed of the orders of streams, blocks and threads.
    pub seed: u64,
    /// Bytes of device memory.
    pub memory: u64,
    /// Bytes of shared memory that a block may use.
    pub shared: u32,
    /// The number of compute units that it reports.
    pub compute_units: u32,
    /// Its clock in kHz.
    pub clock_khz: u32,
    /// Report that kernels' run time is limited, as a device that drives a display does.
    pub drives_display: bool,
    /// The amount of checking of kernels.
    pub checks: Checks,
    /// The time at which queued work runs.
    pub schedule: Schedule,
    /// `hipblasCreate` succeeds.
    pub blas: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            wave: 32,
            seed: 0,
            memory: 8 << 30,
            shared: 64 << 10,
            compute_units: 4,
            clock_khz: 1_000_000,
            drives_display: false,
            checks: Checks::Full,
            schedule: Schedule::Late,
            blas: true,
        }
    }
}

impl Config {
    /// The defaults, overridden by the environment: `RFGRAPH_SIM_WAVE` (32 or 64), `RFGRAPH_SIM_SEED`,
    /// `RFGRAPH_SIM_MEMORY` (bytes), `RFGRAPH_SIM_CHECKS` (`full`, `memory` or `fast`; by default `memory`) and
    /// `RFGRAPH_SIM_EAGER` (1: work runs when it is queued). Invalid values are ignored.
    pub fn from_env() -> Config {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let mut config = Config { checks: Checks::Memory, ..Config::default() };
        if number("RFGRAPH_SIM_WAVE") == Some(64) {
            config.wave = 64;
        }
        if let Some(seed) = number("RFGRAPH_SIM_SEED") {
            config.seed = seed;
        }
        if let Some(memory) = number("RFGRAPH_SIM_MEMORY") {
            config.memory = memory;
        }
        match env::var("RFGRAPH_SIM_CHECKS").as_deref() {
            Ok("full") => config.checks = Checks::Full,
            Ok("fast") => config.checks = Checks::Fast,
            _ => {}
        }
        if number("RFGRAPH_SIM_EAGER") == Some(1) {
            config.schedule = Schedule::Eager;
        }
        config
    }

    /// The compiler's name for the device.
    pub(super) fn arch(&self) -> String {
        let unchecked = if self.checks == Checks::Fast { ":fast" } else { "" };
        format!("sim{}{unchecked}", self.wave)
    }
}
