//! Turns many variants into code objects: from the cache, or compiled, several at once.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::super::api::Rtc;
use super::compile::{compile, key};
use super::{Cache, JitError, Key, isa, stamps};
use crate::device::{PlatformKind, Target, Variant};

/// The compilers recurse deeply; the default stack of two megabytes is too small.
const STACK: usize = 64 << 20;

/// Options of the kernel compiler.
#[derive(Clone, Debug)]
pub struct JitOptions {
    /// The number of programs that are compiled at once.
    pub threads: NonZeroUsize,
    /// The cache of compiled programs; `None` turns it off.
    pub cache: Option<Arc<Cache>>,
}

impl JitOptions {
    /// Options from the environment: the user's cache folder ([`Cache::user_folder`]), `RFGRAPH_CACHE_MIB` for its
    /// limit in MiB (0: no cache), `RFGRAPH_JIT_THREADS` for the number of programs that are compiled at once (by
    /// default one per processor, at most eight).
    pub fn from_env() -> JitOptions {
        let number = |name: &str| {
            let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
            let number = text.parse::<u32>().ok();
            if number.is_none() {
                tracing::warn!("{name}={text} is ignored: it is not a whole number");
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
    /// One program per processor at once, at most eight; no cache, so each process compiles anew.
    fn default() -> JitOptions {
        let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        JitOptions { threads: processors.min(NonZeroUsize::MIN.saturating_add(7)), cache: None }
    }
}

/// Compiles code for one target. Needs no device.
#[derive(Clone, Debug)]
pub struct Compiler {
    rtc: Rtc,
    target: Target,
    options: JitOptions,
    /// Distinguishes compilers in keys.
    identity: String,
}

impl Compiler {
    /// A compiler for `target` that calls the functions of `rtc`. `versions` names anything else that may change its
    /// code, such as the runtime: it is part of every key, as are the sizes and times of the compiler's libraries,
    /// since hipRTC reports the same version for years.
    pub fn new(rtc: &Rtc, target: &Target, versions: &str, options: JitOptions) -> Compiler {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the pointers are valid for writes.
        let code = unsafe { (rtc.hiprtcVersion)(&raw mut major, &raw mut minor) };
        if code != 0 {
            tracing::debug!("hiprtcVersion gave error {code}");
        }
        if target.platform == PlatformKind::Amd {
            // Reading the list loads the code generator's library, so that its stamp is included below.
            isa::known();
        }
        let identity = format!("{major}.{minor} {versions} {}", stamps::stamps(target.platform));
        Compiler { rtc: *rtc, target: target.clone(), options, identity }
    }

    /// The target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The compiler's version, and further properties that distinguish it from others.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The cache key of a variant's code. Variants that differ only in their entry share it.
    pub fn key(&self, variant: &Variant) -> Result<Key, JitError> {
        key(&self.target, variant, &self.identity)
    }

    /// Compiles the code of one variant even if it is cached, and stores it in the cache.
    pub fn code_anew(&self, variant: &Variant) -> Result<Arc<[u8]>, JitError> {
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("compile".into()).stack_size(STACK);
            let thread = thread.spawn_scoped(scope, || self.make(&self.key(variant)?, variant));
            let thread = thread.map_err(|error| JitError::Thread(error.to_string()))?;
            thread.join().map_err(|_| JitError::Thread("the compiling thread panicked".into()))?
        })
    }

    /// The code of each program that the variants are kernels of, by key. `progress` receives the number of finished
    /// programs and the total.
    ///
    /// # Errors
    /// The error of the first variant that fails; programs not started by then are not compiled.
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

    /// Calls `done` with each variant's number and code as they become ready; every variant is tried. Meant for one
    /// variant of each program: variants share nothing but the cache.
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

    /// Compiles on separate threads; `done` is called on this one, and returns whether to continue.
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
                    // One thread is enough; fewer threads only take longer.
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

    /// Loads a program from the cache, or compiles and stores it.
    fn one(&self, variant: &Variant) -> Result<Arc<[u8]>, JitError> {
        let key = self.key(variant)?;
        let cache = self.options.cache.as_deref();
        if let Some(code) = cache.and_then(|cache| cache.get(&key)) {
            return Ok(code.into());
        }
        self.make(&key, variant)
    }

    /// Compiles and stores a program.
    fn make(&self, key: &Key, variant: &Variant) -> Result<Arc<[u8]>, JitError> {
        let code = compile(&self.rtc, &self.target, variant)?;
        if let Some(cache) = &self.options.cache {
            cache.put(key, &code);
        }
        Ok(code.into())
    }
}
