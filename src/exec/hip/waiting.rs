//! Waiting for an event with a deadline, and how that ends.

use std::time::Duration;

use crate::hip::{Event, HipError};

/// How waiting for an event ended.
pub(super) enum Ended {
    Done,
    /// The work is over, and this went wrong.
    Failed(HipError),
    /// The work may still go on.
    Late,
}

/// Waits for an event, at most for `timeout`.
pub(super) fn wait_for(event: &Event, timeout: Duration) -> Ended {
    match event.wait_until(timeout) {
        Ok(true) => Ended::Done,
        Ok(false) => Ended::Late,
        Err(first) => wait_again(event, timeout, first),
    }
}

/// A question that failed says nothing about the work. One that fails again says that the device has stopped.
pub(super) fn wait_again(event: &Event, timeout: Duration, first: HipError) -> Ended {
    match event.wait_until(timeout) {
        Ok(false) => Ended::Late,
        Ok(true) | Err(_) => Ended::Failed(first),
    }
}
