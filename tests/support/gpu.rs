//! Devices for tests: simulated ones, and the real one that `RFGRAPH_HIP_PLATFORM` names.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rfgraph::device::PlatformKind;
use rfgraph::exec::{Budget, HipExecutor, HipOptions, WeightSource};
use rfgraph::hip::jit::Cache;
use rfgraph::hip::platform::sim::{self, Checks, Config, SimHandle};
use rfgraph::hip::{Context, JitOptions};
use rfgraph::model::DeviceChoice;

/// A device, which checks for leaks when the test is over. Everything made on it must be dropped first.
pub struct Gpu {
    pub context: Context,
    pub sim: Option<SimHandle>,
    /// The test may leak memory of the simulated device.
    pub may_leak: bool,
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if let (Some(sim), false, false) = (&self.sim, self.may_leak, std::thread::panicking()) {
            sim.assert_no_leak();
        }
    }
}

/// The configuration of a simulated device with waves of `wave` lanes.
pub fn config(wave: u32) -> Config {
    Config { wave, checks: Checks::Memory, ..Config::default() }
}

impl Gpu {
    pub fn simulated(config: Config) -> Gpu {
        let sim = sim::add(config).unwrap();
        let context = Context::open(PlatformKind::Sim, sim.ordinal()).unwrap();
        Gpu { context, sim: Some(sim), may_leak: false }
    }

    /// The real device, if one is named.
    pub fn real() -> Option<Gpu> {
        let platform = match std::env::var("RFGRAPH_HIP_PLATFORM").ok()?.as_str() {
            "amd" => PlatformKind::Amd,
            "nvidia" => PlatformKind::Nvidia,
            _ => return None,
        };
        let ordinal = 0;
        Some(Gpu { context: Context::open(platform, ordinal).unwrap(), sim: None, may_leak: false })
    }

    pub fn choice(&self) -> DeviceChoice {
        DeviceChoice::Hip { platform: self.context.target().platform, ordinal: self.context.ordinal() }
    }

    pub fn executor(&self, weights: Arc<dyn WeightSource>) -> HipExecutor {
        self.executor_with(weights, options())
    }

    pub fn executor_with(&self, weights: Arc<dyn WeightSource>, options: HipOptions) -> HipExecutor {
        let (free, total) = self.context.memory_info().unwrap();
        HipExecutor::new(self.context.clone(), weights, Budget::gpu(free, total, 0.7), options).unwrap()
    }

    /// The handle of the simulated device.
    pub fn sim(&self) -> &SimHandle {
        self.sim.as_ref().unwrap()
    }
}

/// The folder of compiled kernels, in `target`, shared by all tests and runs.
pub fn kernel_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-kernels")
}

pub fn options() -> HipOptions {
    let cache = Some(Arc::new(Cache::new(kernel_folder(), Cache::LIMIT)));
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    HipOptions { jit: JitOptions { threads, cache }, ..HipOptions::from_env() }
}
