//! What a job's checkpoints cost where they are kept, as configured: so much for a gigabyte and month, for those that
//! retention keeps. Files that several checkpoints share count for each of them, so this is an upper bound.

use crate::event::Checkpoint;
use crate::ids::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use trainctl_jobs::CheckpointSpec;

/// As the object stores' price lists have it.
const BYTES_PER_GB: f64 = 1_073_741_824.0;
const MS_PER_MONTH: f64 = 730.0 * 3_600_000.0;

/// Bytes that are kept, and what was paid for keeping.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stored {
    bytes: u64,
    since: Timestamp,
    usd_per_gb_month: f64,
    /// Up to `since`.
    paid_usd: f64,
}

impl Stored {
    /// Up to now.
    pub(crate) fn usd(&self, now: Timestamp) -> f64 {
        self.paid_usd + now.since_ms(self.since) as f64 * self.usd_per_ms()
    }

    /// Now.
    pub(crate) fn usd_per_hour(&self) -> f64 {
        3_600_000.0 * self.usd_per_ms()
    }

    fn usd_per_ms(&self) -> f64 {
        self.bytes as f64 / BYTES_PER_GB * self.usd_per_gb_month / MS_PER_MONTH
    }

    /// So many bytes at this price from now on. False: nothing changed.
    pub(crate) fn keep(&mut self, now: Timestamp, bytes: u64, usd_per_gb_month: f64) -> bool {
        if self.bytes == bytes && self.usd_per_gb_month == usd_per_gb_month {
            return false;
        }
        let paid_usd = self.usd(now);
        *self = Self { bytes, since: now.max(self.since), usd_per_gb_month, paid_usd };
        true
    }

    /// Nothing was ever kept for money.
    pub(crate) fn is_free(&self) -> bool {
        self.paid_usd == 0.0 && self.usd_per_ms() == 0.0
    }
}

/// Bytes of those checkpoints that retention keeps: the newest, and the first of each span that has one for ever.
pub(crate) fn kept_bytes(checkpoints: &[Checkpoint], spec: &CheckpointSpec) -> u64 {
    let newest = checkpoints.len().saturating_sub(spec.keep_last as usize);
    let mut spans = BTreeSet::new();
    let kept = checkpoints.iter().enumerate().filter(|(index, checkpoint)| {
        let first_of_span = spec.keep_every.is_some_and(|every| spans.insert(checkpoint.step / every.max(1)));
        *index >= newest || first_of_span
    });
    kept.map(|(_, checkpoint)| checkpoint.bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64, bytes: u64) -> Checkpoint {
        Checkpoint {
            step,
            bytes,
            seconds: 0.1,
            stall_ms: 1.0,
            why: String::new(),
            state_digest: String::new(),
            committed: Timestamp(0),
        }
    }

    #[test]
    fn a_gigabyte_for_a_month_costs_its_price() {
        let mut stored = Stored::default();
        assert!(stored.is_free());
        assert!(stored.keep(Timestamp(0), 1 << 30, 0.023));
        let month = 730 * 3_600_000;
        assert!((stored.usd(Timestamp(month)) - 0.023).abs() < 1e-12);
        stored.keep(Timestamp(month), 1 << 31, 0.023);
        assert!((stored.usd(Timestamp(2 * month)) - 0.069).abs() < 1e-12);
        assert!((stored.usd_per_hour() - 0.046 / 730.0).abs() < 1e-15);
    }

    #[test]
    fn only_what_retention_keeps_counts() {
        let all: Vec<Checkpoint> =
            (1..=6).map(|n| checkpoint(100 * n, 10u64.pow(u32::try_from(n).unwrap_or(0)))).collect();
        let spec = |keep_last, keep_every| CheckpointSpec { keep_last, keep_every, ..CheckpointSpec::default() };
        assert_eq!(kept_bytes(&all, &spec(2, None)), 1_100_000);
        assert_eq!(kept_bytes(&all, &spec(1, Some(300))), 1_001_010, "of 100 to 299, of 300 to 599, and the newest");
        assert_eq!(kept_bytes(&[], &spec(3, Some(300))), 0);
    }
}
