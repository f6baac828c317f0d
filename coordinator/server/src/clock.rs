//! The time that the scheduler is given: Unix milliseconds that never go back while the process lives, whatever is done
//! to the machine's clock.

use coordinator_core::Timestamp;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The wall clock at the start, moved on by the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    begin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { wall: Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)), begin: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.wall.plus_ms(u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// When that is in the runtime's clock; now, if it is past.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let left_ms = u64::try_from(at.0.saturating_sub(self.now().0)).unwrap_or(0);
        Instant::now() + Duration::from_millis(left_ms)
    }
}
