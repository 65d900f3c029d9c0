//! `rfgraph devices`: the usable GPUs, or the reasons why there are none.

use std::fmt::Write;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::error::CliError;
use super::output::{print, print_json};
use crate::device::PlatformKind;
use crate::exec::Bytes;
use crate::hip::{DEADLINE, Device, PlatformReport, Probe, ProbeReport};

/// Time that the probing process may take beyond its own deadline, to start and to exit.
const MARGIN: Duration = Duration::from_secs(5);

/// List the usable GPUs, or the reason why none was found
///
/// Tries AMD's libraries (ROCm), then NVIDIA's (CUDA). RFGRAPH_HIP_PLATFORM=amd, nvidia or sim selects one; the
/// simulated device (sim, in builds with the feature `sim`) is tried only if selected. HIP_VISIBLE_DEVICES selects and orders devices.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// Print one JSON object with `platforms`, each with its `devices` or its `problem`
    #[arg(long)]
    json: bool,
    /// Look in this process, whatever the libraries do to it
    #[arg(long, hide = true)]
    in_process: bool,
}

pub(super) fn run(args: &DevicesArgs) -> Result<(), CliError> {
    let wanted = Probe::from_env().map_err(|error| CliError::Usage(error.to_string()))?;
    let report = if args.in_process {
        Device::probe().map_err(|error| CliError::Usage(error.to_string()))?.clone()
    } else {
        ProbeReport { platforms: wanted.platforms.iter().map(|&platform| look(&wanted, platform)).collect() }
    };
    if args.json { print_json(&report) } else { print(text(&report)) }
}

/// Probes a platform in its own process, since libraries may terminate the process. If no process can be started,
/// probes in this one.
pub(super) fn look(probe: &Probe, platform: PlatformKind) -> PlatformReport {
    match ask(platform) {
        Ok(asked) => asked.unwrap_or_else(|problem| PlatformReport::nothing(platform, problem)),
        Err(error) => {
            tracing::debug!("no process of its own to look in: {error}");
            probe.report_of(platform)
        }
    }
}

fn ask(platform: PlatformKind) -> io::Result<Result<PlatformReport, String>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["devices", "--json", "--in-process"]).env("RFGRAPH_HIP_PLATFORM", platform.name());
    let ProcessAnswer { text: answer, status } = answer_of(&mut command, DEADLINE + MARGIN)?;
    // A complete answer counts, even if the libraries then crashed at exit.
    if let Ok(ProbeReport { platforms }) = serde_json::from_str(&answer)
        && let Some(report) = platforms.into_iter().next()
    {
        return Ok(Ok(report));
    }
    Ok(Err(match status {
        None => format!("the libraries of `{platform}` did not let the process end that asked them"),
        Some(status) => format!(
            "the libraries of `{platform}` ended the process that asked them ({status}); they are broken, or do not \
             fit this GPU or its driver"
        ),
    }))
}

/// A process's output.
pub(super) struct ProcessAnswer {
    pub(super) text: String,
    /// `None` if it had to be killed.
    pub(super) status: Option<ExitStatus>,
}

/// Runs a process with little output for at most this time.
pub(super) fn answer_of(command: &mut Command, most: Duration) -> io::Result<ProcessAnswer> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let status = wait(&mut child, most)?;
    let mut text = String::new();
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut text)?;
    }
    Ok(ProcessAnswer { text, status })
}

/// Waits for a process with little output; `None` if it had to be killed.
fn wait(child: &mut Child, most: Duration) -> io::Result<Option<ExitStatus>> {
    let end = Instant::now() + most;
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

fn text(report: &ProbeReport) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for platform in &report.platforms {
        let _ = write_platform(&mut text, platform);
    }
    let first = report.platforms.iter().find_map(|platform| platform.devices.first());
    let _ = match first {
        Some(device) => writeln!(
            text,
            "--device auto takes hip:{} ({}, {})",
            device.index, device.name, device.target.platform
        ),
        None => {
            writeln!(text, "--device auto takes the CPU; to use a GPU, install ROCm (AMD) or NVIDIA's driver")
        }
    };
    text
}

pub(super) fn write_platform(text: &mut String, report: &PlatformReport) -> std::fmt::Result {
    let platform = report.platform;
    match (&report.versions, &report.problem) {
        (Some(versions), _) => writeln!(text, "{versions}")?,
        (None, None) => writeln!(text, "{platform}")?,
        (None, Some(_)) => {}
    }
    for device in &report.devices {
        let Device { index, name, target, compute_units: units, free, total, .. } = device;
        let (arch, wave) = (&target.arch, target.wave);
        let shared = Bytes(u64::from(target.shared_bytes));
        writeln!(text, "  hip:{index}  {name}")?;
        writeln!(
            text,
            "         {arch}, {units} compute units, waves of {wave}, {shared} shared memory a block"
        )?;
        writeln!(text, "         {} free of {}", Bytes(*free), Bytes(*total))?;
        if !target.blas {
            let reason = device.blas_problem.as_deref().unwrap_or("no BLAS library");
            writeln!(text, "         {reason}; rfgraph's own kernels multiply")?;
        }
    }
    match &report.problem {
        Some(problem) if report.devices.is_empty() => writeln!(text, "{platform}: {problem}"),
        Some(problem) => writeln!(text, "  {problem}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Target;
    use crate::hip::HipError;

    fn device(index: u32, blas: bool) -> Device {
        let arch = "gfx90a:sramecc+:xnack-".into();
        let platform = PlatformKind::Amd;
        let target = Target { platform, arch, wave: 64, compute_units: 104, shared_bytes: 65_536, blas };
        let name = "AMD Instinct MI250X".into();
        let (free, total) = (60 << 30, 64 << 30);
        let (compute_units, blas_problem) = (208, None);
        Device { index, ordinal: index, name, target, compute_units, blas_problem, free, total }
    }

    #[test]
    fn list_names_devices_and_reasons_for_missing_ones() {
        let absent = "NVIDIA's driver is not installed";
        let blas_problem = Some("the BLAS library has no files for gfx90a in /x".into());
        let without_files = Device { blas_problem, ..device(2, false) };
        let report = ProbeReport {
            platforms: vec![
                PlatformReport {
                    platform: PlatformKind::Amd,
                    versions: Some("amd runtime 6.4.43484, driver 6.4.43484, compiler 9.0".into()),
                    devices: vec![device(0, true), device(1, false), without_files],
                    problem: Some(format!("hip:3: {}", HipError::new("hipSetDevice", 2))),
                },
                PlatformReport::nothing(PlatformKind::Nvidia, absent),
            ],
        };
        insta::assert_snapshot!(text(&report), @"
        amd runtime 6.4.43484, driver 6.4.43484, compiler 9.0
          hip:0  AMD Instinct MI250X
                 gfx90a:sramecc+:xnack-, 208 compute units, waves of 64, 64.0 KiB shared memory a block
                 60.0 GiB free of 64.0 GiB
          hip:1  AMD Instinct MI250X
                 gfx90a:sramecc+:xnack-, 208 compute units, waves of 64, 64.0 KiB shared memory a block
                 60.0 GiB free of 64.0 GiB
                 no BLAS library; rfgraph's own kernels multiply
          hip:2  AMD Instinct MI250X
                 gfx90a:sramecc+:xnack-, 208 compute units, waves of 64, 64.0 KiB shared memory a block
                 60.0 GiB free of 64.0 GiB
                 the BLAS library has no files for gfx90a in /x; rfgraph's own kernels multiply
          hip:3: hipSetDevice failed with hipErrorOutOfMemory (2): the device has no room for it; use a smaller context, fewer layers on the GPU or a smaller file, or close what else uses the GPU
        nvidia: NVIDIA's driver is not installed
        --device auto takes hip:0 (AMD Instinct MI250X, amd)
        ");
        let again: ProbeReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(again, report, "what a child process says is what its parent reads");
    }

    #[test]
    fn list_without_a_gpu_names_the_cpu() {
        let report =
            ProbeReport { platforms: vec![PlatformReport::nothing(PlatformKind::Amd, "nothing there")] };
        insta::assert_snapshot!(text(&report), @"
        amd: nothing there
        --device auto takes the CPU; to use a GPU, install ROCm (AMD) or NVIDIA's driver
        ");
    }
}
