//! How calls are repeated: with growing, jittered pauses, and only so many at a time for each region.
//!
//! A call that backs off keeps its place among those that run, so an API that asks to slow down is asked less often, not
//! by others instead.

use crate::api::ApiError;
use crate::errors;
use backon::{ExponentialBuilder, Retryable};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long to wait for what, and how many at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Between two looks at the instances of a region.
    pub look: Duration,
    /// Between two lists for the scheduler.
    pub list: Duration,
    /// Between two looks at spot prices.
    pub price: Duration,
    /// For so long a new instance may be missing from what the API lists.
    pub visible: Duration,
    /// The first pause after a call that failed; the longest is 64 times as long.
    pub pause: Duration,
    /// For how long one launch is tried.
    pub patience: Duration,
    /// Launches that are under way at once, for each region.
    pub launches: usize,
}

impl Default for Pace {
    /// For the real EC2: well below its limits on calls of one account.
    fn default() -> Self {
        Self {
            look: Duration::from_secs(5),
            list: Duration::from_secs(30),
            price: Duration::from_secs(60),
            visible: Duration::from_secs(60),
            pause: Duration::from_millis(500),
            patience: Duration::from_secs(180),
            launches: 8,
        }
    }
}

impl Pace {
    /// Pauses without an end.
    pub(crate) fn pauses(self) -> ExponentialBuilder {
        let longest = self.pause.saturating_mul(64);
        ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(self.pause)
            .with_max_delay(longest)
            .without_max_times()
    }
}

/// Calls of one kind in one region.
pub(crate) struct Calls {
    places: Semaphore,
    pace: Pace,
    region: String,
}

impl Calls {
    pub(crate) fn new(region: &str, at_once: usize, pace: Pace) -> Self {
        Self { places: Semaphore::new(at_once), pace, region: region.to_owned() }
    }

    /// Makes a call until it works, fails for good, or the patience is at its end.
    pub(crate) async fn make<T, F>(&self, what: &'static str, call: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let _place = self.places.acquire().await.expect("never closed");
        call.retry(self.pace.pauses().with_total_delay(Some(self.pace.patience)))
            .when(errors::passes)
            .notify(|error, pause| {
                let pause_ms = pause.as_millis();
                tracing::debug!(region = %self.region, what, %error, pause_ms, "EC2 is asked again");
            })
            .await
    }
}
