//! `rfgraph doctor`: what this machine has, what of it rfgraph can use, and why not the rest.

mod cards;
#[cfg(feature = "hub")]
mod models;

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::devices;
use super::error::CliError;
use super::output::{print, print_json};
use crate::cpu::{Isa, physical_cores};
use crate::device::PlatformKind;
use crate::exec::{Budget, Bytes};
use crate::hip::platform::{Library, libraries};
use crate::hip::{PlatformReport, Probe};
use cards::Card;

/// Say what rfgraph can use of this machine, why not the rest, and which of its models would fit
///
/// Looks at the processor, the graphics cards with their drivers and libraries, and the models of `rfgraph list`, and
/// answers a question with the built-in demo model. The exit status is 1 if something is broken: a card that cannot be
/// used, or a wrong answer. A machine without a card is in order.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Print the libraries of this platform, opened in this process
    #[arg(long, hide = true, value_name = "PLATFORM")]
    libraries_of: Option<String>,
}

#[derive(Serialize)]
struct Report {
    version: &'static str,
    system: String,
    cpu: Cpu,
    platforms: Vec<Platform>,
    cards: Vec<Card>,
    #[cfg(feature = "hub")]
    models: Vec<models::ModelFit>,
    test: Test,
    /// Broken parts; empty if there are none.
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Cpu {
    name: Option<String>,
    cores: usize,
    /// The instruction sets that kernels are written for, the fastest last.
    instruction_sets: Vec<&'static str>,
    /// Bytes that a session may take, and free ones; absent if the system does not say.
    usable: Option<u64>,
    free: Option<u64>,
}

#[derive(Serialize)]
struct Platform {
    #[serde(flatten)]
    devices: PlatformReport,
    libraries: Vec<Library>,
    /// The reason why the libraries could not be looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    libraries_problem: Option<String>,
}

/// A question to the demo model.
#[derive(Serialize)]
struct Test {
    question: &'static str,
    answer: Option<String>,
    seconds: f64,
    problem: Option<String>,
}

const QUESTION: &str = "What is 347 + 285?";
#[cfg(feature = "demo")]
const ANSWER: &str = "632";

pub(super) fn run(args: &DoctorArgs) -> Result<(), CliError> {
    if let Some(name) = &args.libraries_of {
        let kind = [PlatformKind::Amd, PlatformKind::Nvidia].into_iter().find(|kind| kind.name() == name);
        let kind = kind.ok_or_else(|| CliError::Usage(format!("`{name}` has no libraries")))?;
        return print_json(&libraries(kind));
    }
    let report = examine()?;
    if args.json {
        print_json(&report)?
    } else {
        print(report.text())?
    }
    match report.problems.len() {
        0 => Ok(()),
        1 => Err(CliError::Check("1 problem was found".into())),
        n => Err(CliError::Check(format!("{n} problems were found"))),
    }
}

fn examine() -> Result<Report, CliError> {
    let probe = Probe::from_env().map_err(|error| CliError::Usage(error.to_string()))?;
    let platforms: Vec<Platform> = probe.platforms.iter().map(|&kind| Platform::of(&probe, kind)).collect();
    let cards = cards::find();
    let test = Test::run();
    let cpu = Cpu::of_machine();
    #[cfg(feature = "hub")]
    let models = {
        let first = platforms.iter().find_map(|platform| platform.devices.devices.first());
        let gpu = first.map(|device| Budget::gpu(device.free, device.total, Budget::FRACTION).limit());
        models::fit(&Budget::host(Budget::FRACTION), gpu)?
    };
    let mut problems = unused(&cards, &platforms);
    problems.extend(test.problem.iter().map(|problem| format!("the demo model: {problem}")));
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cpu,
        platforms,
        cards,
        #[cfg(feature = "hub")]
        models,
        test,
        problems,
    })
}

/// The cards of platforms that were asked and have no device.
fn unused(cards: &[Card], platforms: &[Platform]) -> Vec<String> {
    let mut problems = Vec::new();
    for card in cards {
        let Some(platform) = platforms.iter().find(|platform| platform.devices.platform == card.platform)
        else {
            continue;
        };
        if platform.devices.devices.is_empty() {
            let reason = platform.devices.problem.as_deref().unwrap_or("the platform has no device");
            problems.push(format!("{card} cannot be used: {reason}"));
        }
    }
    problems
}

impl Cpu {
    fn of_machine() -> Cpu {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let limit = |fraction| Some(Budget::host(fraction).limit()).filter(|bytes| *bytes < u64::MAX);
        Cpu {
            name: name.map(|(_, name)| name.trim().to_owned()),
            cores: physical_cores().get(),
            instruction_sets: Isa::available().into_iter().map(Isa::name).collect(),
            usable: limit(Budget::FRACTION),
            free: limit(1.0),
        }
    }
}

impl Platform {
    /// Looks at a platform in processes of its own, which its libraries may end.
    fn of(probe: &Probe, kind: PlatformKind) -> Platform {
        let devices = devices::look(probe, kind);
        let (libraries, libraries_problem) = match kind {
            PlatformKind::Sim => (Vec::new(), None),
            _ => match ask_libraries(kind) {
                Ok(libraries) => (libraries, None),
                Err(problem) => (Vec::new(), Some(problem)),
            },
        };
        Platform { devices, libraries, libraries_problem }
    }
}

fn ask_libraries(kind: PlatformKind) -> Result<Vec<Library>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the libraries could not be opened: {error}");
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.args(["doctor", "--libraries-of", kind.name()]);
    let answer = devices::answer_of(&mut command, Duration::from_secs(30)).map_err(|error| failed(&error))?;
    serde_json::from_str(&answer.text).map_err(|_| match answer.status {
        Some(status) => failed(&format!("they ended the process that opened them ({status})")),
        None => failed(&"they did not let the process end that opened them"),
    })
}

impl Test {
    #[cfg(feature = "demo")]
    fn run() -> Test {
        let start = std::time::Instant::now();
        let answer = crate::Chat::demo().and_then(|mut chat| chat.ask(QUESTION));
        let seconds = start.elapsed().as_secs_f64();
        let (answer, problem) = match answer {
            Ok(answer) if answer.contains(ANSWER) => (Some(answer), None),
            Ok(answer) => {
                let problem =
                    format!("`{QUESTION}` is answered with `{}`, and not {ANSWER}", answer.escape_debug());
                (Some(answer), Some(problem))
            }
            Err(error) => (None, Some(error.to_string())),
        };
        Test { question: QUESTION, answer, seconds, problem }
    }

    #[cfg(not(feature = "demo"))]
    fn run() -> Test {
        Test { question: QUESTION, answer: None, seconds: 0.0, problem: None }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "rfgraph {}, {}\n", self.version, self.system)?;
        self.cpu.write(text)?;
        writeln!(text, "\ngraphics")?;
        for card in &self.cards {
            writeln!(text, "  {card}")?;
        }
        if self.cards.is_empty() {
            writeln!(text, "  no card of AMD's or NVIDIA's on the PCI bus")?;
        }
        for platform in &self.platforms {
            platform.write(text)?;
        }
        #[cfg(feature = "hub")]
        {
            writeln!(text, "\nmodels")?;
            models::write(text, &self.models)?;
        }
        writeln!(text, "\nself test")?;
        match (&self.test.answer, &self.test.problem) {
            (_, Some(problem)) => writeln!(text, "  wrong: {problem}")?,
            (Some(_), None) => {
                writeln!(text, "  right: the demo model answered in {:.1} s", self.test.seconds)?
            }
            (None, None) => writeln!(text, "  none: this build has no demo model")?,
        }
        writeln!(text)?;
        for problem in &self.problems {
            writeln!(text, "problem: {problem}")?;
        }
        if self.problems.is_empty() {
            writeln!(text, "no problem was found")?;
        }
        Ok(())
    }
}

impl Cpu {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "processor")?;
        let name = self.name.as_deref().unwrap_or("unknown").escape_debug();
        writeln!(
            text,
            "  {name}, {} cores, instruction sets {}",
            self.cores,
            self.instruction_sets.join(", ")
        )?;
        match (self.usable, self.free) {
            (Some(usable), Some(free)) => {
                writeln!(
                    text,
                    "  {} of memory free, of which rfgraph takes at most {}",
                    Bytes(free),
                    Bytes(usable)
                )
            }
            _ => writeln!(text, "  the system does not say how much memory is free"),
        }
    }
}

impl Platform {
    fn write(&self, text: &mut String) -> std::fmt::Result {
        let mut devices = String::new();
        devices::write_platform(&mut devices, &self.devices)?;
        devices.lines().try_for_each(|line| writeln!(text, "  {line}"))?;
        // The devices' reason is not said twice.
        let is_new =
            |library: &&Library| library.problem.is_none() || library.problem != self.devices.problem;
        for library in self.libraries.iter().filter(is_new) {
            match (&library.file, &library.problem) {
                (Some(file), _) => writeln!(text, "    found: {}, {}", library.what, file.display())?,
                (None, problem) => {
                    let problem = problem.as_deref().unwrap_or("not found");
                    writeln!(text, "    not found: {problem}")?;
                }
            }
        }
        self.libraries_problem.iter().try_for_each(|problem| writeln!(text, "    {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(kind: PlatformKind, problem: &str) -> Platform {
        let devices = PlatformReport::nothing(kind, problem);
        Platform { devices, libraries: Vec::new(), libraries_problem: None }
    }

    /// A card is a problem if its platform was asked and cannot use it, and then the reason is said.
    #[test]
    fn a_card_that_cannot_be_used_is_a_problem_with_its_reason() {
        let card = |platform| Card {
            platform,
            address: "0000:03:00.0".into(),
            id: "1002:744c".into(),
            driver: Some("amdgpu".into()),
        };
        let nodes = platform(PlatformKind::Amd, "this user may not open /dev/kfd");
        let problems = unused(&[card(PlatformKind::Amd)], &[nodes]);
        insta::assert_snapshot!(problems.join("\n"), @"an AMD card (1002:744c at 0000:03:00.0, driver amdgpu) cannot be used: this user may not open /dev/kfd");
        let other = || platform(PlatformKind::Nvidia, "NVIDIA's driver is not installed");
        assert!(unused(&[card(PlatformKind::Amd)], &[other()]).is_empty(), "AMD was not asked");
        assert!(unused(&[], &[other()]).is_empty(), "a machine without a card is in order");
    }

    #[test]
    fn a_report_says_what_is_there_and_what_is_not() {
        let libraries = vec![
            Library {
                what: "ROCm's HIP runtime".into(),
                file: Some("/opt/rocm/lib/libamdhip64.so.6".into()),
                problem: None,
            },
            Library { what: "hipBLAS".into(), file: None, problem: Some("hipBLAS is not installed".into()) },
        ];
        let report = Report {
            version: "0.1.0",
            system: "linux x86_64".into(),
            cpu: Cpu {
                name: Some("A CPU".into()),
                cores: 8,
                instruction_sets: vec!["plain", "avx2"],
                usable: Some(7 << 30),
                free: Some(10 << 30),
            },
            platforms: vec![Platform { libraries, ..platform(PlatformKind::Amd, "/dev/kfd is not there") }],
            cards: Vec::new(),
            #[cfg(feature = "hub")]
            models: Vec::new(),
            test: Test { question: QUESTION, answer: Some("632".into()), seconds: 0.25, problem: None },
            problems: Vec::new(),
        };
        insta::assert_snapshot!(report.text());
    }
}
