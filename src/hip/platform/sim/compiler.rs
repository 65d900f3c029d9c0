//! The simulated device's run-time compiler: runs the system's C++ compiler on a kernel's source.
//!
//! The source is preprocessed first, so that kernels in macros or headers are found; then it is compiled together with
//! a table of the kernels. The checks that the compiler can insert are determined once.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, io, process};

use super::text;

/// Headers that adapt a source to this platform; available even if a program does not provide them.
const OWN_HEADERS: &[(&str, &str)] = &[
    ("platform_sim.h", include_str!("../../../../kernels/platform_sim.h")),
    ("sim_access.h", include_str!("../../../../kernels/sim_access.h")),
    ("sim_block.h", include_str!("../../../../kernels/sim_block.h")),
    ("sim_state.h", include_str!("../../../../kernels/sim_state.h")),
];

/// Options of every compiler.
const OPTIONS: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-g1",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fcf-protection=none",
    "-w",
];

/// Symbols of a shared object for the host. It is compiled after preprocessing, so `$CHECKED` and `$WAVE` are
/// substituted here.
const TABLE: &str = r#"{}};
extern "C" __attribute__((visibility("default"), used)) const RfModule* rf_module() {
    static RfModule m;
    m = {rf_abi, $WAVE, $CHECKED, (int)(sizeof(rf_kernels) / sizeof(rf_kernels[0])) - 1, rf_kernels, rf_run,
         (rf_u64)(__stop_rfshared - __start_rfshared), (rf_uptr)__ehdr_start};
    return &m;
}
"#;

/// The C++ compiler.
#[derive(Debug)]
pub(super) struct Compiler {
    program: PathBuf,
    /// The first two numbers of its version.
    pub version: (i32, i32),
    /// The options that make it check every load and store; empty if it has none.
    checks: &'static [&'static str],
}

/// The options of both compilers for calling a function of ours for every load and store.
const CHECKS: [&[&str]; 2] = [
    &[
        "-fsanitize=kernel-address,alignment",
        "--param=asan-stack=0",
        "--param=asan-globals=1",
        "--param=asan-instrumentation-with-call-threshold=0",
        "-fsanitize-sections=rfshared",
    ],
    &[
        "-fsanitize=kernel-address,alignment",
        "-mllvm",
        "-asan-stack=0",
        "-mllvm",
        "-asan-opt-globals=0",
        "-mllvm",
        "-asan-instrumentation-with-call-threshold=0",
    ],
];

impl Compiler {
    /// The system's compiler: `$CXX`, else `c++`, `g++` or `clang++`. The error lists what was tried.
    pub fn find() -> Result<&'static Compiler, &'static str> {
        static FOUND: OnceLock<Result<Compiler, String>> = OnceLock::new();
        FOUND.get_or_init(Compiler::look).as_ref().map_err(String::as_str)
    }

    fn look() -> Result<Compiler, String> {
        let named = env::var_os("CXX").filter(|name| !name.is_empty()).map(PathBuf::from);
        let programs: Vec<PathBuf> =
            named.into_iter().chain(["c++", "g++", "clang++"].map(PathBuf::from)).collect();
        for program in &programs {
            let Ok(output) = Command::new(program).arg("-dumpfullversion").arg("-dumpversion").output()
            else {
                continue;
            };
            if !output.status.success() {
                continue;
            }
            let text = String::from_utf8_lossy(&output.stdout);
            let mut numbers = text.trim().split('.').map(|number| number.parse().unwrap_or(0));
            let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            let mut compiler = Compiler { program: program.clone(), version, checks: &[] };
            compiler.checks = CHECKS.into_iter().find(|checks| compiler.accepts(checks)).unwrap_or(&[]);
            if compiler.checks.is_empty() {
                tracing::warn!(
                    "{} cannot check the loads and stores of kernels: on the simulated device they run unchecked",
                    program.display()
                );
            }
            return Ok(compiler);
        }
        let names: Vec<String> = programs.iter().map(|program| format!("`{}`", program.display())).collect();
        Err(format!(
            "the simulated device needs a C++ compiler; tried {}. Install g++ or clang++, or name one in CXX",
            names.join(", ")
        ))
    }

    fn accepts(&self, checks: &[&str]) -> bool {
        let Ok(folder) = Folder::new() else { return false };
        let source = folder.path.join("try.cpp");
        fs::write(&source, "int f(int* p) { return *p; }\n").is_ok()
            && Command::new(&self.program)
                .args(OPTIONS)
                .args(checks)
                .arg("-c")
                .arg(&source)
                .arg("-o")
                .arg(folder.path.join("try.o"))
                .output()
                .is_ok_and(|output| output.status.success())
    }

    /// Compiles a program to a shared object; the error is the compiler's log.
    ///
    /// `options` are hipRTC's: `-D…` is passed on, `--offload-arch=sim32` (or `--gpu-architecture=`, or `-arch=`) sets
    /// the wave size, and a suffix `:fast` turns checks off.
    pub fn compile(
        &self,
        source: &str,
        name: &str,
        headers: &[(String, String)],
        options: &[String],
    ) -> Result<Vec<u8>, String> {
        let arch =
            options.iter().filter_map(|option| option.split_once("arch=")).map(|(_, arch)| arch).next_back();
        let arch =
            arch.or_else(|| options.iter().find_map(|option| option.strip_prefix("--gpu-architecture=")));
        let (wave, unchecked) = match arch {
            Some("sim32") | None => (32, false),
            Some("sim64") => (64, false),
            Some("sim32:fast") => (32, true),
            Some("sim64:fast") => (64, true),
            Some(other) => {
                return Err(format!(
                    "`{other}` is not a target of the simulated device: sim32, sim64, sim32:fast and sim64:fast are"
                ));
            }
        };
        let checks = if unchecked { &[] } else { self.checks };
        let mut defines: Vec<String> =
            options.iter().filter(|option| option.starts_with("-D")).cloned().collect();
        if !defines.iter().any(|define| define.starts_with("-DWAVE=")) {
            defines.push(format!("-DWAVE={wave}"));
        }
        defines.push("-DRFGRAPH_SIM".into());
        if !checks.is_empty() {
            defines.push("-DRFGRAPH_SIM_CHECKED".into());
        }
        self.build(source, name, headers, &defines, checks).map_err(|error| match error {
            BuildError::Refused(log) => log,
            BuildError::Io(error) => format!("the C++ compiler could not be run: {error}"),
        })
    }

    fn build(
        &self,
        source: &str,
        name: &str,
        headers: &[(String, String)],
        defines: &[String],
        checks: &[&str],
    ) -> Result<Vec<u8>, BuildError> {
        let folder = Folder::new()?;
        for (name, text) in OWN_HEADERS {
            fs::write(folder.path.join(name), text)?;
        }
        for (name, text) in headers {
            let path = folder.path.join(file_name(name)?);
            fs::write(path, text)?;
        }
        // An unnamed namespace allows shared variables in templates for every kernel: they are not merged with those of
        // other sources.
        let text = format!(
            "#include \"platform.h\"\nnamespace {{\n#line 1 \"{}\"\n{source}\n}}\n",
            name.replace(['"', '\\', '\n'], "_")
        );
        let main = folder.path.join("main.cpp");
        fs::write(&main, text)?;
        let mut preprocess = Command::new(&self.program);
        preprocess.args(["-E", "-x", "c++"]).args(OPTIONS).args(defines).arg("main.cpp");
        let mut text = run(preprocess.current_dir(&folder.path))?;
        let names = text::kernels(&text);
        if !checks.is_empty() {
            text = text::shared_by_reference(&text);
        }
        text.push_str("\nstatic constexpr RfKernel rf_kernels[] = {\n");
        for name in &names {
            text.push_str(&format!(
                "{{\"{name}\", RfCall<&{name}>::call, {name}_rf_threads, RfCall<&{name}>::n_args, \
                 RfCall<&{name}>::sizes, RfCall<&{name}>::addresses}},\n"
            ));
        }
        let checked = if checks.is_empty() { "0" } else { "1" };
        let wave = defines.iter().find_map(|define| define.strip_prefix("-DWAVE=")).unwrap_or("32");
        text.push_str(&TABLE.replace("$CHECKED", checked).replace("$WAVE", wave));
        fs::write(folder.path.join("main.ii"), text)?;
        let mut compile = Command::new(&self.program);
        compile.args(OPTIONS).args(checks).args(["-x", "c++-cpp-output", "main.ii"]);
        compile.args(["-shared", "-nostartfiles", "-o", "main.so", "-lm"]);
        run(compile.current_dir(&folder.path))?;
        Ok(fs::read(folder.path.join("main.so"))?)
    }
}

enum BuildError {
    Refused(String),
    Io(io::Error),
}

impl From<io::Error> for BuildError {
    fn from(error: io::Error) -> BuildError {
        BuildError::Io(error)
    }
}

/// A header's name, if it has no folders.
fn file_name(name: &str) -> io::Result<&str> {
    match Path::new(name).file_name() {
        Some(only) if only == name => Ok(name),
        _ => Err(io::Error::other(format!("header name `{name}` is not a plain file name"))),
    }
}

/// Runs the compiler and returns its standard output; the error is its standard error.
fn run(command: &mut Command) -> Result<String, BuildError> {
    // Plain ASCII messages, whatever the locale.
    let Output { status, stdout, stderr } = command.env("LC_ALL", "C").output()?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let mut log = String::from_utf8_lossy(&stderr).into_owned();
    if log.trim().is_empty() {
        log = format!("the C++ compiler ended with {status}");
    }
    Err(BuildError::Refused(log))
}

/// A private folder that is removed when it is dropped.
pub(super) struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new() -> io::Result<Folder> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("rfgraph-sim-{}-{number}", process::id()));
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            match builder.create(&path) {
                Ok(()) => return Ok(Folder { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes a file in the folder.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        fs::File::create(&path)?.write_all(bytes)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
