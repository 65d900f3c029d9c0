//! What a simulated device is like.

use std::env;

/// How closely kernels are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Every load and store is checked, races in shared memory and between streams are looked for.
    Full,
    /// As `Full`, without races in shared memory: several times faster where kernels use much of it.
    Memory,
    /// Nothing is checked, and kernels run at their own speed. A wild access ends the process.
    Fast,
}

/// When queued work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At once, in the order of the calls.
    Eager,
    /// When somebody waits, in any order that streams and events allow, drawn by the seed.
    Late,
}

/// What a simulated device is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Lanes of a wave: 32 or 64.
    pub wave: u32,
    /// Where the orders of streams, blocks and threads are drawn from.
    pub seed: u64,
    /// Bytes of device memory.
    pub memory: u64,
    /// Bytes of shared memory that a block may use.
    pub shared: u32,
    /// Compute units that it says it has.
    pub compute_units: u32,
    /// Its clock in kHz.
    pub clock_khz: u32,
    /// Whether it says that it limits the time of kernels, as a device that drives a display does.
    pub drives_display: bool,
    /// How closely kernels are watched.
    pub checks: Checks,
    /// When queued work runs.
    pub schedule: Schedule,
    /// Whether `hipblasCreate` succeeds.
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
    /// The defaults, with what the environment says otherwise: `RFGRAPH_SIM_WAVE` (32 or 64),
    /// `RFGRAPH_SIM_SEED`, `RFGRAPH_SIM_MEMORY` (bytes), `RFGRAPH_SIM_CHECKS` (`full`, `memory` or `fast`; `memory`
    /// without it) and `RFGRAPH_SIM_EAGER` (1: work runs when it is queued). What cannot be read is passed over.
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
