//! Waiting for a condition, with a bound.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Looks until `look` finds something.
///
/// # Panics
/// When it doesn't within `at_most`; `what` says what was waited for.
pub fn eventually<T>(what: impl Display, at_most: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + at_most;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "within {at_most:?}: {what}");
        sleep(BETWEEN_LOOKS);
    }
}
