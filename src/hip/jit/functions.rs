//! Turns variants into functions on an open device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::{Context, Function, HipError, Module};
use super::{Compiler, JitError, JitOptions, Key, describe};
use crate::device::Variant;

/// The kernels of one device: compiled on first use, then kept.
#[derive(Clone, Debug)]
pub struct Jit {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Context,
    compiler: Compiler,
    loaded: Mutex<LoadedCode>,
}

/// The code that the device has loaded.
#[derive(Debug, Default)]
struct LoadedCode {
    modules: HashMap<Key, Module>,
    functions: HashMap<Variant, Function>,
}

impl Jit {
    /// Kernels for this device. Nothing is compiled yet.
    pub fn new(context: &Context, options: JitOptions) -> Jit {
        let versions = context.versions().to_string();
        let compiler = Compiler::new(&context.api().rtc, context.target(), &versions, options);
        Jit { inner: Arc::new(Inner { context: context.clone(), compiler, loaded: Mutex::default() }) }
    }

    /// The compiler.
    pub fn compiler(&self) -> &Compiler {
        &self.inner.compiler
    }

    /// A kernel; compiled now if it is not loaded yet.
    ///
    /// # Errors
    /// The kernel does not compile, or the device refuses its code.
    pub fn function(&self, variant: &Variant) -> Result<Function, JitError> {
        if let Some(function) = self.loaded().functions.get(variant) {
            return Ok(function.clone());
        }
        self.prepare(std::slice::from_ref(variant), &|_, _| {})?;
        let function = self.loaded().functions.get(variant).cloned();
        function.ok_or_else(|| JitError::Thread("the compiling thread ended without an answer".into()))
    }

    /// Makes [`Jit::function`] fast for these variants: missing ones are compiled, several at a time. `progress`
    /// receives the number of finished programs and the total; it is not called if nothing is missing.
    ///
    /// # Errors
    /// Like [`Jit::function`], for the first variant that fails.
    pub fn prepare(&self, variants: &[Variant], progress: &dyn Fn(usize, usize)) -> Result<(), JitError> {
        let compiler = &self.inner.compiler;
        let mut wanted = Vec::new();
        let mut to_compile = Vec::new();
        for variant in variants {
            // Hashing the sources of all variants for their keys took 3 ms for each plan of an 8B model.
            if self.loaded().functions.contains_key(variant) {
                continue;
            }
            let key = compiler.key(variant)?;
            if !self.loaded().modules.contains_key(&key) {
                to_compile.push(variant.clone());
            }
            wanted.push((variant, key));
        }
        let mut codes = HashMap::new();
        if !to_compile.is_empty() {
            codes = compiler.codes(&to_compile, progress)?;
        }
        for (variant, key) in wanted {
            let module = self.loaded().modules.get(&key).cloned();
            let module = match (module, codes.get(&key)) {
                (Some(module), _) => module,
                (None, code) => self.load(variant, key, code.map(|code| &**code).unwrap_or_default())?,
            };
            let function = module.function(&variant.entry).map_err(|error| refused(variant, error))?;
            self.loaded().functions.insert(variant.clone(), function);
        }
        Ok(())
    }

    /// Loads a program. If the device refuses code from the cache, the program is compiled again.
    fn load(&self, variant: &Variant, key: Key, code: &[u8]) -> Result<Module, JitError> {
        let context = &self.inner.context;
        let module = match context.load_module(code) {
            Ok(module) => module,
            Err(error) => {
                tracing::info!("{error}; {} is compiled again", describe(variant));
                let code = self.inner.compiler.code_anew(variant)?;
                context.load_module(&code).map_err(|error| refused(variant, error))?
            }
        };
        self.loaded().modules.insert(key, module.clone());
        Ok(module)
    }

    fn loaded(&self) -> MutexGuard<'_, LoadedCode> {
        self.inner.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(variant: &Variant, error: HipError) -> JitError {
    JitError::Load { variant: describe(variant), error }
}
