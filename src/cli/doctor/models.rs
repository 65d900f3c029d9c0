//! The models on this machine that would fit, and the longest context of each.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::error::CliError;
use crate::exec::{Budget, Bytes};
use crate::hub::Store;
use crate::model::{MemoryNeed, Model, ModelError, SessionOptions};

/// Contexts are counted in steps of this many tokens.
const STEP: usize = 256;

/// A model with the contexts that fit.
#[derive(Serialize)]
pub(super) struct ModelFit {
    name: String,
    bytes: u64,
    n_ctx_train: Option<usize>,
    /// The longest context in the host's memory, weights included; 0: not even a short one.
    cpu: Option<usize>,
    /// The same in the first GPU's memory, with all layers there; absent without a GPU.
    gpu: Option<usize>,
    /// The reason why the file cannot be used.
    problem: Option<String>,
}

/// The models of this machine, in these budgets.
pub(super) fn fit(host: &Budget, gpu: Option<u64>) -> Result<Vec<ModelFit>, CliError> {
    let entries = Store::from_env()?.list();
    Ok(entries
        .iter()
        .map(|entry| {
            let fits = Model::open(entry.path()).and_then(|model| {
                let longest = |bytes| longest_context(&model, bytes);
                let n_ctx_train = model.architecture().shape().n_ctx_train;
                Ok((n_ctx_train, longest(host.limit())?, gpu.map(longest).transpose()?))
            });
            let (n_ctx_train, cpu, gpu, problem) = match fits {
                Ok((trained, cpu, gpu)) => (Some(trained), Some(cpu), gpu, None),
                Err(error) => (None, None, None, Some(error.to_string())),
            };
            ModelFit { name: entry.name.clone(), bytes: entry.bytes, n_ctx_train, cpu, gpu, problem }
        })
        .collect())
}

/// The longest context, up to the trained one, of which weights, cache and arena fit so many bytes. The need grows
/// linearly with the context: two of its values tell the others, and the result is computed once more.
fn longest_context(model: &Model, bytes: u64) -> Result<usize, ModelError> {
    let trained = model.architecture().shape().n_ctx_train.max(1);
    let need = |n_ctx: usize| {
        let need = MemoryNeed::of(model, &SessionOptions { n_ctx, ..SessionOptions::default() })?;
        Ok::<u64, ModelError>(need.weights.saturating_add(need.kv_cache).saturating_add(need.arena))
    };
    let all = need(trained)?;
    if all <= bytes {
        return Ok(trained);
    }
    let least = STEP.min(trained);
    let some = need(least)?;
    if some > bytes {
        return Ok(0);
    }
    let share = (bytes - some) as f64 / (all - some).max(1) as f64;
    let mut n_ctx = least + ((trained - least) as f64 * share) as usize / STEP * STEP;
    // The arena grows in steps.
    while n_ctx > least && need(n_ctx)? > bytes {
        n_ctx = (n_ctx / 8 * 7 / STEP * STEP).max(least);
    }
    Ok(n_ctx)
}

pub(super) fn write(text: &mut String, models: &[ModelFit]) -> std::fmt::Result {
    if models.is_empty() {
        return writeln!(text, "  none; `rfgraph pull USER/REPO` downloads one");
    }
    for model in models {
        write!(text, "  {} ({}): ", model.name.escape_debug(), Bytes(model.bytes))?;
        match (&model.problem, model.cpu, model.n_ctx_train) {
            (None, Some(cpu), Some(trained)) => {
                write!(text, "on the CPU {}", context(cpu, trained))?;
                if let Some(gpu) = model.gpu {
                    write!(text, ", on the GPU {}", context(gpu, trained))?;
                }
                writeln!(text)?;
            }
            (problem, ..) => writeln!(text, "{}", problem.as_deref().unwrap_or("unknown").escape_debug())?,
        }
    }
    Ok(())
}

fn context(n_ctx: usize, trained: usize) -> String {
    match n_ctx {
        0 => "it does not fit".into(),
        n if n == trained => format!("its whole context of {n}"),
        n => format!("a context of {n} of {trained}"),
    }
}

#[cfg(feature = "demo")]
#[cfg(test)]
mod tests {
    use super::*;

    /// The context that is named fits, and one step more does not.
    #[test]
    fn the_longest_context_is_the_longest() {
        let model = Model::demo().unwrap();
        let trained = model.architecture().shape().n_ctx_train;
        let need = |n_ctx| {
            let need =
                MemoryNeed::of(&model, &SessionOptions { n_ctx, ..SessionOptions::default() }).unwrap();
            need.weights + need.kv_cache + need.arena
        };
        assert_eq!(longest_context(&model, need(trained)).unwrap(), trained);
        assert_eq!(longest_context(&model, need(trained) - 1).unwrap(), STEP.min(trained - STEP));
        assert_eq!(longest_context(&model, need(STEP)).unwrap(), STEP);
        assert_eq!(longest_context(&model, need(STEP) - 1).unwrap(), 0);
    }
}
