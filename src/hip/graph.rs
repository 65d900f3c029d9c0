//! Recorded work that is queued with one call.

use super::api::{self, hipGraph_t, hipGraphExec_t};
use super::context::Context;
use super::error::HipError;

/// Recorded work. It refers to kernels and addresses but owns none; the caller that launches it keeps them alive.
#[derive(Debug)]
pub struct GraphExec {
    context: Context,
    raw: hipGraphExec_t,
}

// SAFETY: the runtime accepts a graph from any thread.
unsafe impl Send for GraphExec {}
// SAFETY: a graph is immutable; the runtime orders launches of one graph.
unsafe impl Sync for GraphExec {}

impl GraphExec {
    /// Makes recorded work launchable and destroys the record. `ended` is the result of ending the recording.
    pub(super) fn instantiate(
        context: &Context,
        graph: hipGraph_t,
        ended: Result<(), HipError>,
    ) -> Result<GraphExec, HipError> {
        if graph.is_null() {
            let text = "recording gave no graph";
            let empty =
                HipError::with_text("hipStreamEndCapture", api::hipErrorStreamCaptureInvalidated, text);
            return Err(ended.err().unwrap_or(empty));
        }
        let none = std::ptr::null_mut;
        let mut raw: hipGraphExec_t = none();
        let made = ended.and_then(|()| {
            // SAFETY: the graph is alive, `raw` is valid for a write, and no message buffer is passed.
            let code = unsafe {
                (context.runtime()?.hipGraphInstantiate)(&mut raw, graph, none().cast(), none().cast(), 0)
            };
            context.check("hipGraphInstantiate", code)
        });
        // SAFETY: made by the end of recording, destroyed once.
        context.release("hipGraphDestroy", |runtime| unsafe { (runtime.hipGraphDestroy)(graph) });
        made.map(|()| GraphExec { context: context.clone(), raw })
    }

    pub(super) fn raw(&self) -> hipGraphExec_t {
        self.raw
    }
}

impl Drop for GraphExec {
    fn drop(&mut self) {
        // SAFETY: made by `hipGraphInstantiate`, destroyed once; the caller that launched it has waited for its end.
        self.context
            .release("hipGraphExecDestroy", |runtime| unsafe { (runtime.hipGraphExecDestroy)(self.raw) });
    }
}
