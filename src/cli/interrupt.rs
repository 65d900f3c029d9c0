//! Ctrl-C: the first press requests an end, which the work checks at its next token or chunk.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first press.
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Effect of a second press before the first was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// Exits the program.
    Exits,
    /// No effect: in a chat only the answer ends.
    Waits,
}

/// Starts listening for Ctrl-C. If the system refuses, Ctrl-C ends the program as usual.
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
