//! Limits of time, memory and stack for programs that a file brings with it.
//!
//! The engine counts its instructions. An instruction can call a function of `python` that builds or reads a long
//! value, so those functions account for what they build ([`made`]) and read ([`worked`]), and tell which values they
//! built ([`kept_alive`]). Templates rebuild the prompt with every message, so only values that are alive may count:
//! when the account is full, the dead ones are struck off. The accounts belong to the thread that renders.

use std::cell::RefCell;
use std::sync::Weak;

use minijinja::{Error, ErrorKind};

/// The limits of one rendering.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Instructions of the engine.
    pub(super) steps: u64,
    /// Bytes of values that are alive, and bytes that are written.
    pub(super) bytes: u64,
    /// Items and bytes that functions read.
    pub(super) work: u64,
}

impl Bounds {
    /// The limits for a template and a conversation of this many bytes and messages.
    ///
    /// Real templates take a few hundred steps for a message; two of the 70 in `tests/text` look through all messages
    /// for each message, hence the square. What is alive and what is written count apart, and a buffer that grows is
    /// there twice, so the memory of a rendering is up to five times `bytes` (`tests/memory/limits.rs`). The bounds are four times what any of them needs
    /// (`real_templates_stay_far_below_the_bounds`).
    pub(super) fn of(bytes: usize, messages: usize) -> Bounds {
        let (bytes, messages) = (bytes as u64, messages as u64);
        let square = (32 * messages * messages).min(100_000_000);
        Bounds {
            steps: 2_000_000 + 10_000 * messages + square,
            bytes: (12 << 20) + 12 * bytes,
            work: (12 << 20) + 512 * bytes + square,
        }
    }
}

/// The bound that a template exceeded, as the source of the engine's error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Exceeded {
    #[error("too many bytes")]
    Memory,
    #[error("too much work")]
    Work,
}

/// A value's memory, which does not keep it alive.
pub(super) trait Memory {
    /// True if nothing holds the value any more.
    fn is_dead(&self) -> bool;
}

impl<T: ?Sized> Memory for Weak<T> {
    fn is_dead(&self) -> bool {
        self.strong_count() == 0
    }
}

/// The accounts of one rendering.
struct Accounts {
    bounds: Bounds,
    /// Bytes that were written to an output or a captured text.
    written: u64,
    /// Bytes made since the last sweep, before the function that runs now.
    before: u64,
    /// Bytes made by the function that runs now.
    now: u64,
    /// Bytes that were alive at the last sweep.
    alive: u64,
    worked: u64,
    /// Functions that run now, each called by the one before.
    running: usize,
    values: Vec<(Box<dyn Memory>, u64)>,
}

impl Accounts {
    /// Strikes off the dead values.
    fn sweep(&mut self) {
        self.values.retain(|(value, _)| !value.is_dead());
        self.alive = self.values.iter().map(|&(_, bytes)| bytes).sum();
        self.before = 0;
    }

    fn check(&mut self) -> Result<(), Error> {
        if self.before + self.now + self.alive <= self.bounds.bytes {
            return Ok(());
        }
        self.sweep();
        // With little left, a sweep at every value would take long: what is alive may be half of the bound.
        match self.alive <= self.bounds.bytes / 2 && self.now + self.alive <= self.bounds.bytes {
            true => Ok(()),
            false => Err(exceeded(Exceeded::Memory)),
        }
    }
}

thread_local! {
    static ACCOUNTS: RefCell<Option<Accounts>> = const { RefCell::new(None) };
}

/// Runs `run` with these limits for the functions it calls on this thread.
pub(super) fn within<T>(bounds: Bounds, run: impl FnOnce() -> T) -> T {
    let fresh = Accounts {
        bounds,
        written: 0,
        before: 0,
        now: 0,
        alive: 0,
        worked: 0,
        running: 0,
        values: Vec::new(),
    };
    let outer = ACCOUNTS.replace(Some(fresh));
    let result = run();
    ACCOUNTS.set(outer);
    result
}

fn account(change: impl FnOnce(&mut Accounts) -> Result<(), Error>) -> Result<(), Error> {
    ACCOUNTS.with_borrow_mut(|accounts| accounts.as_mut().map_or(Ok(()), change))
}

/// Bytes of a value beside its content, with its entry in the account.
const HEADER: u64 = 64;

/// Accounts for a value of this many bytes that is about to be built.
pub(super) fn made(bytes: usize) -> Result<(), Error> {
    account(|accounts| {
        accounts.now = accounts.now.saturating_add(bytes as u64 + HEADER);
        accounts.check()
    })?;
    worked(bytes / 16)
}

/// Takes a value that was built into the account of what is alive.
pub(super) fn kept_alive(value: impl Memory + 'static, bytes: usize) {
    ACCOUNTS.with_borrow_mut(|accounts| {
        if let Some(accounts) = accounts {
            accounts.values.push((Box::new(value), bytes as u64 + HEADER));
        }
    });
}

/// Accounts for text that is written.
pub(super) fn written(bytes: usize) -> Result<(), Error> {
    account(|accounts| {
        accounts.written += bytes as u64;
        match accounts.written <= accounts.bounds.bytes {
            true => Ok(()),
            false => Err(exceeded(Exceeded::Memory)),
        }
    })?;
    worked(bytes / 16)
}

/// Accounts for reading this many items or bytes.
pub(super) fn worked(items: usize) -> Result<(), Error> {
    account(|accounts| {
        accounts.worked = accounts.worked.saturating_add(items as u64);
        match accounts.worked <= accounts.bounds.work {
            true => Ok(()),
            false => Err(exceeded(Exceeded::Work)),
        }
    })
}

/// Runs a function that builds values. Its values count as alive until it returns.
pub(super) fn running<T>(function: impl FnOnce() -> T) -> T {
    let enter = |depth: isize| {
        ACCOUNTS.with_borrow_mut(|accounts| {
            if let Some(accounts) = accounts {
                accounts.running = accounts.running.saturating_add_signed(depth);
                if accounts.running == 0 {
                    accounts.before += std::mem::take(&mut accounts.now);
                }
            }
        });
    };
    enter(1);
    let result = function();
    enter(-1);
    result
}

/// True for errors of a bound, the engine's own included: nothing may put them off.
pub(super) fn is_bound(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    error.kind() == ErrorKind::OutOfFuel || source.is_some_and(|source| source.is::<Exceeded>())
}

fn exceeded(bound: Exceeded) -> Error {
    Error::new(ErrorKind::InvalidOperation, bound.to_string()).with_source(bound)
}

/// Stack of the thread that compiles or renders. The engine's compiler and interpreter call themselves for nested
/// statements, expressions and macros; `syntax` and the engine's own limit bound the nesting. The deepest templates that
/// they allow take less than a quarter of this (`deepest_templates_fit_the_stack`).
pub(super) const STACK: usize = 16 << 20;

/// Runs `run` on a thread whose stack has room for the deepest nesting. The error says why it did not end.
pub(super) fn on_deep_stack<T: Send>(run: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("rfgraph-template".to_owned()).stack_size(STACK);
        match thread.spawn_scoped(scope, run) {
            Ok(running) => running.join().map_err(|_| "the template engine failed".to_owned()),
            Err(error) => Err(format!("no thread for the template: {error}")),
        }
    })
}
