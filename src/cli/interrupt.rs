//! Ctrl-C: the first press asks for an end, which the work sees at its next token or chunk.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first press.
static PRESSED: AtomicBool = AtomicBool::new(false);

/// What a second press does before the first was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// It ends the program.
    Exits,
    /// Nothing: in a chat only the answer ends.
    Waits,
}

/// Begins to listen for Ctrl-C. Where the system refuses, Ctrl-C ends the program as it always does.
pub(super) fn listen(second: Second) -> &'static AtomicBool {
    let on_press = move || {
        if PRESSED.swap(true, Ordering::Relaxed) && second == Second::Exits {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(on_press) {
        tracing::warn!("Ctrl-C ends the program at once: {error}");
    }
    &PRESSED
}
