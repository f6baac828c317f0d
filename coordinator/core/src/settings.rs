//! Every bound and waiting time of the scheduler in one place. The server hands `heartbeat_ms` on to workers.

use crate::policy::{Margins, Prior};

/// Times are milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// How often a worker says that it is alive.
    pub heartbeat_ms: u64,
    /// An attached worker that missed so many heartbeats is treated as dead.
    pub missed_heartbeats: u64,
    /// How long the first group waits for launched workers that have not attached, from the first that has.
    pub first_group_wait_ms: u64,
    /// How long a joiner that is ready waits for others that are on their way.
    pub join_batch_ms: u64,
    /// How long a planned change waits for the one before it to take effect.
    pub settle_ms: u64,
    /// How long a launched worker may take to attach for the first time.
    pub attach_ms: u64,
    /// How long a worker whose stream broke may take to attach again while its instance is alive.
    pub reattach_ms: u64,
    /// Added to the missed heartbeats for a worker whose instance the provider does not list.
    pub unlisted_extra_ms: u64,
    /// What a worker gets to end by itself before its instance is taken.
    pub exit_grace_ms: u64,
    /// What a group gets to save and leave.
    pub stop_ms: u64,
    /// An instance that is asked to end and still runs is asked again after so long.
    pub terminate_again_ms: u64,
    /// First wait after a pool had no capacity; doubles with each time in a row.
    pub backoff_first_ms: u64,
    /// Longest such wait.
    pub backoff_max_ms: u64,
    /// The wait after a quota was hit, unless something is given back before.
    pub quota_rest_ms: u64,
    /// A job that has trained asks a pool that can't start workers again after so long: someone may have put it right.
    pub rejected_rest_ms: u64,
    /// Of what was seen of an offer's evictions, half counts after so long.
    pub hazard_half_life_ms: u64,
    /// What is assumed of a spot offer of which nothing was seen, and what that weighs.
    pub hazard_prior: Prior,
    /// What one eviction costs, in time of an instance: another starts, and the others wait for a change.
    pub eviction_cost_ms: u64,
    /// Offers whose scores are within this share of the best are equally good: which of them is taken is decided by
    /// their zones.
    pub spread_tolerance: f64,
    /// An instance on demand is replaced by spot that is better by this share at least.
    pub replace_gain: f64,
    /// From a launch until the worker trains, where it was not measured.
    pub start_ms: u64,
    /// What the end of a job takes, beside its last checkpoint, and what is lost with changes.
    pub changeover_ms: u64,
    /// Share by which the work left may take longer than measured.
    pub pace_margin: f64,
    /// A job with a deadline is measured over so long.
    pub pace_window_ms: u64,
    /// A job with a deadline that was not measured waits for spot for this share of the time that it has.
    pub unmeasured_share: f64,
    /// How often a job with workers on demand, or one that hurries, is looked at though nothing happened.
    pub review_ms: u64,
    /// Jobs that lack workers are looked at so long after a change that gives them nothing to buy by itself: others'
    /// workers changed, and with them who is to yield to whom.
    pub short_review_ms: u64,
    /// What keeps purchases for a deadline from flapping.
    pub margins: Margins,
    /// How long a group's shards stay where they are after they moved.
    pub move_rest_ms: u64,
    /// Shards move only if that saves so much before the job ends: a change costs a rendezvous.
    pub move_saves_ms_min: u64,
    /// A new group relies on what was measured of its members in earlier ones for so long.
    pub speed_known_ms: u64,
    /// A job whose instances die so often in a row, without a step beyond the last, fails.
    pub crash_limit: u32,
    /// After so many workers in a row with other numerics a job stops buying from the pool.
    pub refusal_limit: u32,
    /// So often in a row, with no checkpoint in between, are steps repeated because workers held different states;
    /// when they do so once more the job fails.
    pub rollback_limit: u32,
    /// After so many workers that held a wrong state a job stops buying from the pool that gave them.
    pub quarantine_limit: u32,
    /// How often a job's record is rewritten at most only because more of its audits have passed.
    pub audits_rest_ms: u64,
    /// Newest corruptions listed for a job.
    pub corruptions_max: usize,
    /// Decisions kept for a job.
    pub decisions_max: usize,
    /// Newest checkpoints listed for a job.
    pub checkpoints_max: usize,
    /// What the coordinator itself costs, in US dollars an hour; the jobs that have not ended share it.
    pub coordinator_usd_per_hour: f64,
    /// What keeping checkpoints costs, in US dollars for a gigabyte and month.
    pub storage_usd_per_gb_month: f64,
    /// Newest ended instances whose bills are listed for a job.
    pub bills_max: usize,
    /// Workers that are gone and still listed, over all jobs.
    pub gone_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 500,
            missed_heartbeats: 8,
            first_group_wait_ms: 5_000,
            join_batch_ms: 300,
            settle_ms: 5_000,
            attach_ms: 120_000,
            reattach_ms: 30_000,
            unlisted_extra_ms: 2_000,
            exit_grace_ms: 5_000,
            stop_ms: 120_000,
            terminate_again_ms: 10_000,
            backoff_first_ms: 1_000,
            backoff_max_ms: 60_000,
            quota_rest_ms: 600_000,
            rejected_rest_ms: 600_000,
            hazard_half_life_ms: 3_600_000,
            hazard_prior: Prior { per_hour: 0.1, hours: 1.0 },
            eviction_cost_ms: 300_000,
            spread_tolerance: 0.1,
            replace_gain: 0.1,
            start_ms: 240_000,
            changeover_ms: 10_000,
            pace_margin: 0.05,
            pace_window_ms: 20_000,
            unmeasured_share: 0.02,
            review_ms: 15_000,
            short_review_ms: 1_000,
            margins: Margins { relax_ms: 60_000, replace_ms: 60_000, give_back_ms: 1_800_000 },
            move_rest_ms: 10_000,
            move_saves_ms_min: 500,
            speed_known_ms: 60_000,
            crash_limit: 5,
            refusal_limit: 3,
            rollback_limit: 3,
            quarantine_limit: 3,
            audits_rest_ms: 30_000,
            corruptions_max: 16,
            decisions_max: 10_000,
            checkpoints_max: 256,
            coordinator_usd_per_hour: 0.0,
            storage_usd_per_gb_month: 0.0,
            bills_max: 1_000,
            gone_max: 256,
        }
    }
}

impl Settings {
    /// Silence of an attached worker that counts as death.
    #[must_use]
    pub fn silence_ms(&self) -> u64 {
        self.heartbeat_ms.saturating_mul(self.missed_heartbeats)
    }

    /// The wait after this many failures in a row (at least 1).
    pub(crate) fn backoff_ms(&self, failures: u32) -> u64 {
        let doublings = failures.saturating_sub(1).min(20);
        self.backoff_first_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_its_bound() {
        let settings = Settings { backoff_first_ms: 1_000, backoff_max_ms: 5_000, ..Settings::default() };
        let waits: Vec<u64> = (1..=5).map(|n| settings.backoff_ms(n)).collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(settings.backoff_ms(u32::MAX), 5_000);
    }
}
