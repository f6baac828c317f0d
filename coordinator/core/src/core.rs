//! The scheduler from the outside: events in, actions out, and views of what it knows.

use crate::action::Action;
use crate::decision::Decision;
use crate::event::Event;
use crate::ids::{JobId, Timestamp, WorkerId};
use crate::ledger::{self, CostReport};
use crate::records::LoadError;
use crate::rejection::Rejection;
use crate::settings::Settings;
use crate::state::State;
use crate::view::{InstanceView, JobView, PoolView, WorkerView};
use crate::{apply, observe, plan, records, view};
use trainctl_jobs::JobSpec;

/// Plans that may follow one event. Each round acts on something that the one before made possible (a loss, then the
/// group without it, then what to buy instead), so a few suffice; more would mean that two choices undo each other.
const ROUNDS_MAX: usize = 10_000;

/// The scheduler.
#[derive(Debug)]
pub struct Core {
    state: State,
    /// Time of the newest event.
    now: Timestamp,
}

impl Core {
    /// With nothing known: a store that was empty.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { state: State::new(settings), now: Timestamp::default() }
    }

    /// As the records tell. Suspended jobs go on, liveness is counted from `now`, and nothing is bought before
    /// [`Event::InstancesListed`] and a [`Event::PoolChanged`] for each pool have come in.
    ///
    /// # Errors
    /// A record that can't be read: the store was damaged or written by another version.
    pub fn load(
        settings: Settings,
        records: impl IntoIterator<Item = (String, Vec<u8>)>,
        now: Timestamp,
    ) -> Result<Self, LoadError> {
        let mut state = records::load(settings, records, now)?;
        state.settle_tally();
        plan::reckon(&mut state, now);
        Ok(Self { state, now })
    }

    /// Takes one event in. All [`Action::Persist`] come first in `out`; commit them in one batch before doing the
    /// rest in order. A clock that goes back is read as standing still.
    ///
    /// # Errors
    /// The event can't be: it changed nothing, and `out` may hold an answer to its sender. A driver may
    /// drop the error, or hand it to whoever made the request.
    pub fn handle(&mut self, now: Timestamp, event: Event, out: &mut Vec<Action>) -> Result<(), Rejection> {
        self.now = self.now.max(now);
        let now = self.now;
        let mut effects = Vec::new();
        let observed = observe::observe(&mut self.state, now, event, &mut effects);
        self.state.touch_due(now);
        for round in 0.. {
            self.state.touch_accounts();
            self.state.settle_phases(now);
            self.state.settle_tally();
            let plan = plan::plan(&self.state, now);
            if plan.choices.is_empty() {
                break;
            }
            assert!(round < ROUNDS_MAX, "planning does not come to an end: {:?}", plan.choices);
            let last = plan.is_last(&self.state);
            for choice in plan.choices {
                apply::apply(&mut self.state, now, choice, &mut effects);
            }
            if last {
                break;
            }
        }
        plan::reckon(&mut self.state, now);
        self.state.clear_marks(now);
        out.extend(records::changed(&mut self.state));
        out.extend(effects);
        observed
    }

    /// When to send the next [`Event::Tick`] if nothing else happens before. Always after the newest event's time.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        plan::next_deadline(&self.state, self.now)
    }

    /// The bounds and waiting times in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// All jobs, ended ones too, in the order of their submission.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobView> {
        self.state.queue().into_iter().map(|(job, _)| view::job(&self.state, self.now, job)).collect()
    }

    /// One job.
    #[must_use]
    pub fn job(&self, job: &JobId) -> Option<JobView> {
        Some(view::job(&self.state, self.now, self.state.job(job)?))
    }

    /// What the job has cost, instance by instance, up to the newest event.
    #[must_use]
    pub fn cost(&self, job: &JobId) -> Option<CostReport> {
        ledger::report(&self.state, self.now, job)
    }

    /// Whether this may be submitted: the name is free, or the job of that name ended because of its budget and would
    /// go on as the same job.
    #[must_use]
    pub fn may_submit(&self, job: &JobId, spec: &JobSpec) -> bool {
        self.state.may_submit(job, spec)
    }

    /// What was submitted: the spec.
    #[must_use]
    pub fn spec(&self, job: &JobId) -> Option<&JobSpec> {
        Some(&self.state.submission(job)?.spec)
    }

    /// What was submitted: the data manifest, byte for byte.
    #[must_use]
    pub fn manifest_json(&self, job: &JobId) -> Option<&str> {
        Some(&self.state.submission(job)?.manifest_json)
    }

    /// Decisions about a job, the oldest first. `number` tells how many were dropped before the first.
    pub fn decisions(&self, job: &JobId) -> impl Iterator<Item = &Decision> {
        self.state.decisions(job)
    }

    /// Workers in the order of their launch: first the newest of those that are gone, then those that are not.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerView> {
        let gone = self.state.gone().map(|gone| (gone.worker.number, &gone.worker, &gone.instance, Some(&gone.cause)));
        let alive = self
            .state
            .workers()
            .filter_map(|worker| Some((worker.number, worker, self.state.instance(&worker.instance)?, None)));
        let mut all: Vec<_> = gone.chain(alive).collect();
        all.sort_by_key(|(number, _, _, gone)| (gone.is_none(), *number));
        all.into_iter().map(|(_, worker, instance, gone)| view::worker(&self.state, worker, instance, gone)).collect()
    }

    /// One worker, also one of the newest that are gone.
    #[must_use]
    pub fn worker(&self, worker: &WorkerId) -> Option<WorkerView> {
        self.workers().into_iter().rev().find(|view| view.worker == *worker)
    }

    /// Instances that have not ended.
    #[must_use]
    pub fn instances(&self) -> Vec<InstanceView> {
        self.state.instances().map(view::instance).collect()
    }

    /// Pools, by name.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolView> {
        let view = |pool: &crate::state::Pool| PoolView {
            spec: pool.spec.clone(),
            in_use: pool.in_use,
            evictions: pool.evictions,
            evictions_per_hour: pool.evictions_per_hour(self.now, &self.state.settings),
            resting_until: self.state.resting(&pool.spec, self.now).map(|rest| rest.until),
        };
        self.state.pools().map(view).collect()
    }

    /// Walks all that is known and holds it against what must be true. For tests, and for a driver's debug builds.
    ///
    /// # Panics
    /// When something does not hold, naming it.
    pub fn check_invariants(&self) {
        crate::invariants::check(&self.state);
        // Between events nothing is left to do, for any job, whatever the last event touched.
        if self.state.marks.is_empty() {
            let mut left = plan::plan_everything(&self.state, self.now).choices;
            left.retain(|choice| !choice.may_wait());
            assert!(left.is_empty(), "planning left something to do: {left:?}");
        }
    }
}
