//! Many variants to code objects: from the cache where they are there, else compiled, several at once.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::super::api::Rtc;
use super::compile::{compile, key};
use super::{Cache, JitError, Key, isa, stamps};
use crate::device::{PlatformKind, Target, Variant};

/// The compilers recurse deeply; a thread's usual two megabytes are too few for them.
const STACK: usize = 64 << 20;

/// How kernels are compiled.
#[derive(Clone, Debug)]
pub struct JitOptions {
    /// Programs that are compiled at once.
    pub threads: NonZeroUsize,
    /// Where compiled programs are kept; nowhere, if none.
    pub cache: Option<Arc<Cache>>,
}

impl JitOptions {
    /// As the environment says: the user's cache folder ([`Cache::user_folder`]), `RFGRAPH_CACHE_MIB` for its
    /// limit in MiB (0: no cache), `RFGRAPH_JIT_THREADS` for the programs that are compiled at once (one for each
    /// processor, at most eight, where it is not set).
    pub fn from_env() -> JitOptions {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            let number = text.parse::<u32>().ok();
            if number.is_none() {
                tracing::warn!("{name}={text} is ignored: it is no whole number");
            }
            number
        };
        let limit = number("RFGRAPH_CACHE_MIB").map_or(Cache::LIMIT, |mib| u64::from(mib) << 20);
        let cache = Cache::user_folder().filter(|_| limit > 0);
        let threads = number("RFGRAPH_JIT_THREADS").map(|threads| threads as usize);
        let threads = threads.map(|threads| NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN));
        JitOptions {
            threads: threads.unwrap_or(JitOptions::default().threads),
            cache: cache.map(|folder| Arc::new(Cache::new(folder, limit))),
        }
    }
}

impl Default for JitOptions {
    /// One program for each processor at once, at most eight; nothing is kept: each process compiles anew.
    fn default() -> JitOptions {
        let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        JitOptions { threads: processors.min(NonZeroUsize::MIN.saturating_add(7)), cache: None }
    }
}

/// Makes code for one target. Needs no device.
#[derive(Clone, Debug)]
pub struct Compiler {
    rtc: Rtc,
    target: Target,
    options: JitOptions,
    /// What tells compilers apart in keys.
    identity: String,
}

impl Compiler {
    /// A compiler for `target` through the functions of `rtc`. `versions` names anything else that may change its
    /// code, such as the runtime: it becomes part of every key, as do the sizes and times of the compiler's
    /// libraries, since hipRTC gives one version for years.
    pub fn new(rtc: &Rtc, target: &Target, versions: &str, options: JitOptions) -> Compiler {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the pointers are valid for writes.
        let code = unsafe { (rtc.hiprtcVersion)(&raw mut major, &raw mut minor) };
        if code != 0 {
            tracing::debug!("hiprtcVersion gave error {code}");
        }
        if target.platform == PlatformKind::Amd {
            // Asking for the list loads the code generator's library, which is then seen below.
            isa::known();
        }
        let identity = format!("{major}.{minor} {versions} {}", stamps::stamps(target.platform));
        Compiler { rtc: *rtc, target: target.clone(), options, identity }
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The compiler's version, and what else tells it from others.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The name that a variant's code is filed under. Variants that differ in their entry alone share it.
    pub fn key(&self, variant: &Variant) -> Result<Key, JitError> {
        key(&self.target, variant, &self.identity)
    }

    /// The code of one variant, compiled even if the cache has it, which is given the new one.
    pub fn code_anew(&self, variant: &Variant) -> Result<Arc<[u8]>, JitError> {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("compile".into()).stack_size(STACK);
            let thread = thread.spawn_scoped(scope, || self.make(&self.key(variant)?, variant));
            let thread = thread.map_err(|error| JitError::Thread(error.to_string()))?;
            thread.join().map_err(|_| JitError::Thread("the compiling thread panicked".into()))?
        })
    }

    /// The code of each program that the variants are kernels of, by key. `progress` is told how many are done
    /// and how many there are.
    ///
    /// # Errors
    /// Of the first variant that fails; what was not begun by then is not compiled.
    pub fn codes(
        &self,
        variants: &[Variant],
        progress: &dyn Fn(usize, usize),
    ) -> Result<HashMap<Key, Arc<[u8]>>, JitError> {
        let mut first: HashMap<Key, usize> = HashMap::new();
        let mut programs = Vec::new();
        for variant in variants {
            let key = self.key(variant)?;
            first.entry(key).or_insert_with(|| {
                programs.push((key, variant.clone()));
                programs.len() - 1
            });
        }
        let list: Vec<Variant> = programs.iter().map(|(_, variant)| variant.clone()).collect();
        let mut codes = HashMap::new();
        let mut failed: Option<(usize, JitError)> = None;
        let mut done = 0;
        progress(done, list.len());
        self.run(&list, &mut |i, code| {
            done += 1;
            progress(done, list.len());
            match (code, programs.get(i)) {
                (Ok(code), Some((key, _))) => {
                    codes.insert(*key, code);
                }
                (Err(error), _) if failed.as_ref().is_none_or(|(first, _)| i < *first) => {
                    failed = Some((i, error));
                }
                _ => {}
            }
            failed.is_none()
        })?;
        match failed {
            Some((_, error)) => Err(error),
            None => Ok(codes),
        }
    }

    /// Calls `done` with each variant's number and code, as they get ready; every variant is tried. Meant for
    /// one variant of each program: nothing is shared between them but the cache.
    pub fn for_each(
        &self,
        variants: &[Variant],
        done: &mut dyn FnMut(usize, Result<Arc<[u8]>, JitError>),
    ) -> Result<(), JitError> {
        self.run(variants, &mut |i, code| {
            done(i, code);
            true
        })
    }

    /// Compiles on threads of their own; `done` is called here, and says whether to go on.
    fn run(
        &self,
        variants: &[Variant],
        done: &mut dyn FnMut(usize, Result<Arc<[u8]>, JitError>) -> bool,
    ) -> Result<(), JitError> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = |results: mpsc::Sender<_>| {
            while !stop.load(Ordering::Relaxed) {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(variant) = variants.get(i) else { break };
                if results.send((i, self.one(variant))).is_err() {
                    break;
                }
            }
        };
        thread::scope(|scope| {
            let (results, ready) = mpsc::channel();
            let mut started = Ok(());
            for number in 0..self.options.threads.get().min(variants.len()) {
                let (results, work) = (results.clone(), &work);
                let thread = thread::Builder::new().name("compile".into()).stack_size(STACK);
                if let Err(error) = thread.spawn_scoped(scope, move || work(results)) {
                    // With one thread all gets done, only later.
                    if number == 0 {
                        started = Err(JitError::Thread(error.to_string()));
                    }
                    break;
                }
            }
            drop(results);
            for (i, code) in ready {
                if !done(i, code) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            started
        })
    }

    /// From the cache, or compiled and filed.
    fn one(&self, variant: &Variant) -> Result<Arc<[u8]>, JitError> {
        let key = self.key(variant)?;
        let cache = self.options.cache.as_deref();
        if let Some(code) = cache.and_then(|cache| cache.get(&key)) {
            return Ok(code.into());
        }
        self.make(&key, variant)
    }

    /// Compiled and filed.
    fn make(&self, key: &Key, variant: &Variant) -> Result<Arc<[u8]>, JitError> {
        let code = compile(&self.rtc, &self.target, variant)?;
        if let Some(cache) = &self.options.cache {
            cache.put(key, &code);
        }
        Ok(code.into())
    }
}
