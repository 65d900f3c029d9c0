//! Compiles in one process per target, several targets at once.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use serde::Serialize;

use super::super::error::CliError;
use super::super::progress::{Progress, Unit};
use super::child::{Line, Task};
use super::needs::Needs;
use crate::device::{Target, Variant};
use crate::hip::code_object::Resources;
use crate::hip::jit::describe;

/// Kernels that may spill: prefix of the kernel's description, prefix of the target, and the reason.
const MAY_SPILL: &[(&str, &str, &str)] = &[
    ("attention_tiled.hip: attention_tiled<BF16=1,", "gfx11", BF16_TILES),
    ("attention_tiled.hip: attention_tiled<BF16=1,", "gfx12", BF16_TILES),
];

/// 8 to 160 vector registers spill to scratch; the cause was not found. F16 caches, the default, do not spill.
const BF16_TILES: &str = "BF16 caches only; F16, the default, does not spill";

/// Results of a check.
#[derive(Debug)]
pub(super) struct Checked {
    pub targets: Vec<Outcome>,
}

/// Results for a target.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outcome {
    /// The target.
    pub arch: String,
    /// The compiler's version.
    pub compiler: Option<String>,
    /// Programs to compile.
    pub programs: usize,
    /// Calls of the compiler, each with one or many programs.
    pub compilations: usize,
    /// Duration of the process in seconds.
    pub seconds: f64,
    /// Kernels that compiled.
    pub kernels: Vec<Kernel>,
    /// Programs that did not compile, with the reasons.
    pub failures: Vec<String>,
}

/// A compiled kernel.
#[derive(Debug, Serialize)]
pub(super) struct Kernel {
    /// The kernel with its constants.
    pub kernel: String,
    /// Resources of the kernel, if the code object reports them.
    #[serde(flatten)]
    pub resources: Option<Resources>,
    /// The reason why it may spill registers, if it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_spill: Option<&'static str>,
}

impl Kernel {
    /// The number of spilled registers.
    pub fn spills(&self) -> u32 {
        self.resources.as_ref().map_or(0, |found| found.vgpr_spills.saturating_add(found.sgpr_spills))
    }
}

impl Checked {
    /// The command's error, if any check failed.
    pub fn verdict(&self, needs: &Needs) -> Result<(), CliError> {
        let failures: usize = self.targets.iter().map(|target| target.failures.len()).sum();
        let kernels = || self.targets.iter().flat_map(|target| &target.kernels);
        let spilling = kernels().filter(|kernel| kernel.spills() > 0 && kernel.may_spill.is_none()).count();
        if failures == 0 && spilling == 0 && !needs.variants.is_empty() {
            return Ok(());
        }
        Err(CliError::Check(match needs.variants.is_empty() {
            true => "there is no kernel to check".into(),
            false => {
                format!("of {} compiled kernels {spilling} spill; {failures} failures", kernels().count())
            }
        }))
    }
}

/// Compiles every program for each target that needs it.
pub(super) fn run(needs: &Needs, targets: &[Target], through: &str) -> Result<Checked, CliError> {
    let unknown = |source| CliError::Path { verb: "find", path: "the running program".into(), source };
    let program = std::env::current_exe().map_err(unknown)?;
    let jobs: Vec<Job> = targets.iter().map(|target| Job::new(needs, target, &program, through)).collect();
    let total: usize = jobs.iter().map(|job| job.programs.len()).sum();
    let mut progress = Progress::new("compiling", Unit::Programs, total);
    let outcomes = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let (sender, done) = mpsc::channel();
    let work = |done: Sender<()>| {
        while let Some((i, job)) = take(&next, &jobs) {
            let outcome = job.run(&done);
            outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((i, outcome));
        }
    };
    thread::scope(|scope| {
        let processors = thread::available_parallelism().map_or(1, |n| n.get());
        for _ in 0..processors.min(jobs.len()) {
            let (sender, work) = (sender.clone(), &work);
            scope.spawn(move || work(sender));
        }
        drop(sender);
        for (count, ()) in done.iter().enumerate() {
            progress.set(count + 1);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(i, _)| *i);
    Ok(Checked { targets: outcomes.into_iter().map(|(_, outcome)| outcome).collect() })
}

fn take<'j>(next: &AtomicUsize, jobs: &'j [Job]) -> Option<(usize, &'j Job)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    Some((i, jobs.get(i)?))
}

/// A process's exit status, and the programs that it returned no result for.
struct Ended {
    status: ExitStatus,
    missing: Vec<usize>,
}

/// The programs to compile for a target.
struct Job {
    arch: String,
    command: Vec<String>,
    programs: Vec<(Variant, Vec<String>)>,
}

impl Job {
    fn new(needs: &Needs, target: &Target, program: &Path, through: &str) -> Job {
        let mut command: Vec<String> = through.split_whitespace().map(String::from).collect();
        command.push(program.to_string_lossy().into_owned());
        command.extend(["kernels", "--compile", &target.arch].map(String::from));
        Job { arch: target.arch.clone(), command, programs: needs.programs(&target.arch) }
    }

    fn run(&self, done: &Sender<()>) -> Outcome {
        let start = Instant::now();
        let mut outcome =
            Outcome { arch: self.arch.clone(), programs: self.programs.len(), ..Outcome::default() };
        if let Err(failure) = self.compile(&mut outcome, done) {
            outcome.failures.push(failure);
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        outcome
    }

    /// Compiles many programs at a time; if that terminates the process, compiles the rest one by one.
    fn compile(&self, outcome: &mut Outcome, done: &Sender<()>) -> Result<(), String> {
        let all: Vec<usize> = (0..self.programs.len()).collect();
        let mut ended = self.process(outcome, done, all, false)?;
        if !ended.missing.is_empty() {
            ended = self.process(outcome, done, ended.missing, true)?;
        }
        let status = ended.status;
        match ended.missing.first().and_then(|&i| self.programs.get(i)) {
            None if status.success() => Ok(()),
            None => Err(format!("the compiling process ended with {status} after its work")),
            Some((variant, _)) => Err(format!(
                "the compiling process ended with {status} while it compiled {}; {} programs are left",
                describe(variant),
                ended.missing.len()
            )),
        }
    }

    /// Runs one process for the programs with these numbers.
    fn process(
        &self,
        outcome: &mut Outcome,
        done: &Sender<()>,
        programs: Vec<usize>,
        alone: bool,
    ) -> Result<Ended, String> {
        let mut child = self.start().map_err(|error| format!("cannot start {:?}: {error}", self.command))?;
        let variants = programs.iter().filter_map(|&i| Some(self.programs.get(i)?.0.clone())).collect();
        // A process that ended early does not read everything; its exit status is handled below.
        let input = child.stdin.take();
        let _ = input.map(|input| serde_json::to_writer(input, &Task { variants, alone }));
        let mut missing: BTreeSet<usize> = programs.iter().copied().collect();
        let mut cannot = None;
        for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
            let line = line.ok().and_then(|line| serde_json::from_str(&line).ok());
            let mut answered = |i: usize| {
                let program = programs.get(i).copied().filter(|program| missing.remove(program));
                let _ = program.map(|_| done.send(()));
                program
            };
            match line.ok_or("the compiling process wrote what it should not")? {
                Line::Compiler(version) => outcome.compiler = Some(version),
                Line::Cannot(message) => cannot = Some(message),
                Line::Compilations(count) => outcome.compilations += count,
                Line::Kernels(i, kernels) => {
                    let _ = answered(i).map(|program| self.add(outcome, program, kernels));
                }
                Line::Failed(i, message) => {
                    let _ = answered(i).map(|_| outcome.failures.push(message));
                }
            }
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        match cannot {
            Some(message) => Err(message),
            None => Ok(Ended { status, missing: missing.into_iter().collect() }),
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let mut words = self.command.iter();
        let program = words.next().map_or("", |word| word.as_str());
        let mut command = Command::new(program);
        command.args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    }

    /// Records the needed kernels of program `i`.
    fn add(&self, outcome: &mut Outcome, i: usize, found: Vec<Resources>) {
        let Some((variant, entries)) = self.programs.get(i) else { return };
        for entry in entries {
            let variant = Variant { entry: entry.clone().into(), ..variant.clone() };
            let kernel = describe(&variant);
            let resources = found.iter().find(|kernel| kernel.name == *entry).cloned();
            if resources.is_none() && !found.is_empty() {
                outcome.failures.push(format!("{kernel}: the code object has no kernel of this name"));
                continue;
            }
            let may_spill = MAY_SPILL
                .iter()
                .find(|(name, arch, _)| kernel.starts_with(name) && self.arch.starts_with(arch));
            let may_spill = may_spill.map(|(_, _, reason)| *reason);
            outcome.kernels.push(Kernel { kernel, resources, may_spill });
        }
    }
}
