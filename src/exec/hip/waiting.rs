//! Waiting for an event with a deadline.

use std::time::Duration;

use crate::hip::{Event, HipError};

/// The outcome of waiting for an event.
pub(super) enum Ended {
    Done,
    /// The work has ended with this error.
    Failed(HipError),
    /// The work may still be running.
    Late,
}

/// Waits for an event until `timeout`.
pub(super) fn wait_for(event: &Event, timeout: Duration) -> Ended {
    match event.wait_until(timeout) {
        Ok(true) => Ended::Done,
        Ok(false) => Ended::Late,
        Err(first) => wait_again(event, timeout, first),
    }
}

/// A failed query says nothing about the work. If it fails again, the device has stopped.
pub(super) fn wait_again(event: &Event, timeout: Duration, first: HipError) -> Ended {
    match event.wait_until(timeout) {
        Ok(false) => Ended::Late,
        Ok(true) | Err(_) => Ended::Failed(first),
    }
}
