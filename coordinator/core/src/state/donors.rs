//! From whom a joiner gets the state: the donor that it follows, and others that give a share each.

use super::State;
use crate::action::ToWorker;
use crate::ids::{JobId, WorkerId};

/// More donors than this make a transfer no faster than the joiner's own connection.
const OTHERS_MAX: usize = 7;

impl State {
    /// What a joiner with this donor is told: the others are the members that stay, from the donor's next in rank on,
    /// so that joiners with different donors ask different members when there are many. `None`: the donor is no
    /// member.
    pub(crate) fn joining(&self, job: &JobId, donor: &WorkerId) -> Option<ToWorker> {
        let (entry, _) = self.job_of(job);
        let members = &entry.group()?.members;
        let rank = members.iter().position(|member| member.worker == *donor)?;
        let stays = |worker: &WorkerId| self.worker(worker).is_some_and(|worker| worker.departure.is_none());
        let next = members[rank + 1..].iter().chain(&members[..rank]);
        let others = next.filter(|member| stays(&member.worker)).take(OTHERS_MAX).cloned().collect();
        let rollbacks = entry.counters.rollbacks;
        Some(ToWorker::Join { donor: members[rank].clone(), others, rollbacks })
    }
}
