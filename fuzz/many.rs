//! Runs many inputs of the fuzz targets, in processes side by side, and says what they cost.
//!
//! ```sh
//! many COUNT TARGET…          # the inputs 0 to COUNT of each target; `all` is every target
//! many --first N COUNT TARGET # from another input on
//! many --file FILE TARGET     # the input in a file
//! ```
//!
//! An input is a function of its target and its number. An input that ends its process, hangs, or is beyond the limits
//! is reported by its number and does not end the run; the status is then 1. `RFGRAPH_FUZZ_SECONDS` bounds the run,
//! `RFGRAPH_FUZZ_JOBS` is the number of processes, and the worst inputs go to the folder `RFGRAPH_FUZZ_RECORDS`.
//! The program reads the repository's fixtures: it runs in the root of the repository.

mod bodies;
mod draw;
#[allow(dead_code, reason = "the sums of one process are of the other programs")]
mod limits;
mod tally;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bodies::{TARGETS, Target};
use draw::Source;
use limits::{Cost, counting};
use tally::{Line, Tally};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Inputs of a process.
const BLOCK: u64 = 2_000;

/// A process that says nothing for this long is ended, and its input is reported as one that hangs.
const HANG: Duration = Duration::from_secs(30);

/// The first argument of a process that runs inputs and reports the cost of each on its standard output.
const WORKER: &str = "--worker";

fn target_of(name: &str) -> Result<Target, String> {
    TARGETS.into_iter().find(|target| target.0 == name).ok_or_else(|| format!("{name} is no target"))
}

fn number_of(word: Option<&String>) -> Result<u64, String> {
    let word = word.ok_or("a number is missing")?;
    word.parse().map_err(|_| format!("`{word}` is not a number"))
}

/// A number in the environment.
fn setting(name: &str) -> Result<Option<u64>, String> {
    std::env::var(name).ok().map(|value| number_of(Some(&value))).transpose()
}

/// Runs the inputs `first` to `end` of a target.
fn work(target: &str, first: u64, end: u64) -> Result<(), String> {
    let (name, body) = target_of(target)?;
    let source = Source::of(name, Path::new("."))?;
    // Pays for what is made once.
    body(b"");
    let mut output = std::io::stdout().lock();
    for index in first..end {
        let cost = Cost::of(&source.input(index), body);
        // Each line is written at once: the parent knows the input at which the process ended.
        writeln!(output, "{}", Line { index, cost }).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Inputs that wait for a process.
#[derive(Clone)]
struct Block {
    target: &'static str,
    first: u64,
    end: u64,
}

/// Ends a child with the block.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails if the child has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a block in a process of its own. Returns the rest, if the process ended early.
fn run_block(block: &Block, tally: &Mutex<Tally>, until: Option<Instant>) -> Result<Option<Block>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let words = [WORKER, block.target, &block.first.to_string(), &block.end.to_string()];
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Running(command.spawn().map_err(|error| format!("no process: {error}"))?);
    let (send, lines) = channel();
    let output = child.0.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    let errors = child.0.stderr.take().ok_or("no errors")?;
    let errors = std::thread::spawn(move || std::io::read_to_string(errors).unwrap_or_default());
    let mut next = block.first;
    let hangs = loop {
        if until.is_some_and(|until| Instant::now() > until) {
            return Ok(None);
        }
        match lines.recv_timeout(HANG) {
            Ok(line) => {
                let line = Line::parse(&line).ok_or_else(|| format!("a process said {line}"))?;
                next = line.index + 1;
                tally.lock().unwrap_or_else(PoisonError::into_inner).add(block.target, &line);
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    if hangs {
        // Also ends its output, which the threads read.
        let _ = child.0.kill();
    }
    let status = child.0.wait().map_err(|error| error.to_string())?;
    let _ = reader.join();
    let said = errors.join().unwrap_or_default();
    if next >= block.end && status.success() {
        return Ok(None);
    }
    let why = if hangs { format!("no answer in {HANG:?}") } else { format!("{status}: {}", said.trim()) };
    tally.lock().unwrap_or_else(PoisonError::into_inner).fail(block.target, next, why);
    Ok((next + 1 < block.end).then(|| Block { first: next + 1, ..block.clone() }))
}

/// Runs all inputs, and prints what they cost.
fn run(targets: &[Target], first: u64, count: u64) -> Result<bool, String> {
    let jobs = match setting("RFGRAPH_FUZZ_JOBS")? {
        Some(jobs) => jobs as usize,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let until = setting("RFGRAPH_FUZZ_SECONDS")?.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // In turn from each target, so that a bounded run reaches about as many inputs of each.
    let starts = (first..first + count).step_by(BLOCK as usize);
    let blocks = starts.flat_map(|start| {
        let end = (start + BLOCK).min(first + count);
        targets.iter().map(move |&(target, _)| Block { target, first: start, end })
    });
    let queue = Mutex::new(blocks.collect::<VecDeque<Block>>());
    let tally = Mutex::new(Tally::default());
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        let serve = || {
            while let Some(block) = take() {
                if until.is_some_and(|until| Instant::now() > until) {
                    break;
                }
                if let Some(rest) = run_block(&block, &tally, until)? {
                    queue.lock().unwrap_or_else(PoisonError::into_inner).push_front(rest);
                }
            }
            Ok(())
        };
        let threads: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(serve)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
    .map_err(|error: String| error)?;
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    print!("{tally}");
    for (name, index) in tally.worst() {
        limits::keep(name, &index.to_string(), &Source::of(name, Path::new("."))?.input(index));
    }
    Ok(tally.is_clean())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = || -> Result<bool, String> {
        if words.first().is_some_and(|word| word == WORKER) {
            let target = words.get(1).ok_or("no target")?;
            return work(target, number_of(words.get(2))?, number_of(words.get(3))?).map(|()| true);
        }
        if let [option, file, target] = &words[..]
            && option == "--file"
        {
            let (_, body) = target_of(target)?;
            body(b"");
            let cost = Cost::of(&std::fs::read(file).map_err(|error| error.to_string())?, body);
            println!("{cost}, accepted: {}", cost.accepted);
            return Ok(cost.is_within(limits::TIME));
        }
        let (first, words) = match &words[..] {
            [option, first, rest @ ..] if option == "--first" => (number_of(Some(first))?, rest),
            words => (0, words),
        };
        let count = number_of(words.first())?;
        let targets = match &words[1..] {
            [all] if all == "all" => TARGETS.to_vec(),
            names => names.iter().map(|name| target_of(name)).collect::<Result<_, _>>()?,
        };
        run(&targets, first, count)
    };
    match done() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}\nmany [--first N] COUNT TARGET…");
            ExitCode::from(2)
        }
    }
}
