//! Replays a trace: applies its rows to a pool when they are due. Where a trace stands follows from when the pool
//! first started, so it goes on, not back to its beginning, when the coordinator starts anew.

use crate::pools::TraceConfig;
use crate::provider::Inner;
use crate::trace::{NodeChange, TraceStep};
use coordinator_core::PoolName;
use std::sync::Weak;
use std::time::Duration;
use tokio::time::Instant;

/// One pool's trace.
pub(crate) struct Replay {
    pool: PoolName,
    /// When the trace began, in this clock; before it: the rows that are past.
    begin: Instant,
    running_for: Duration,
    steps: Vec<TraceStep>,
}

impl Replay {
    pub(crate) fn new(pool: PoolName, config: &TraceConfig, running_for: Duration) -> Self {
        let due = |step: &TraceStep| TraceStep {
            at: Duration::try_from_secs_f64(step.at.as_secs_f64() / config.speed).unwrap_or(Duration::MAX),
            change: step.change.clone(),
        };
        Self { pool, begin: Instant::now(), running_for, steps: config.trace.steps.iter().map(due).collect() }
    }

    /// The changes that are past when it starts.
    pub(crate) fn past(&self) -> impl Iterator<Item = &NodeChange> {
        self.steps.iter().take_while(|step| step.at <= self.running_for).map(|step| &step.change)
    }

    /// Applies the others when they are due; ends with the trace or the provider.
    pub(crate) async fn run(self, provider: Weak<Inner>) {
        for step in self.steps.into_iter().skip_while(|step| step.at <= self.running_for) {
            let wait = step.at.saturating_sub(self.running_for);
            let Some(due) = self.begin.checked_add(wait) else { return };
            tokio::time::sleep_until(due).await;
            let Some(inner) = provider.upgrade() else { return };
            inner.change_pool(&self.pool, |pool| pool.apply(&step.change));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;
    use std::path::Path;

    #[tokio::test]
    async fn goes_on_from_where_the_pool_stands() {
        let trace = Trace::parse("0,add,a\n60000,add,b\n120000,remove,a\n", Path::new("t")).expect("a good trace");
        let config = TraceConfig { trace, speed: 600.0 };
        let past = |ms| {
            let replay = Replay::new(PoolName::from("p"), &config, Duration::from_millis(ms));
            replay.past().cloned().collect::<Vec<_>>()
        };
        assert_eq!(past(0), vec![NodeChange::Add("a".to_owned())]);
        assert_eq!(past(100).len(), 2);
        assert_eq!(past(500).len(), 3);
    }
}
