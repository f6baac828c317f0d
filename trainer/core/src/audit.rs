//! The audit: now and then one logical shard of a step is computed a second time, by another member where there is one and
//! by another instance of the model in any case. Both show a checksum of the vector that they got in the round's headers,
//! before the sum is applied. Where these differ nobody applies it; all members compute the shard again, with both of their
//! instances, and come alike to a verdict: the program, or certain members.
//!
//! It finds what comparing models ([`crate::replicas`]) can't: a wrong gradient reaches everybody's sum before anyone looks.
//! And it finds a model whose passes depend on more than the state, such as a counter in an attribute: the audit's instance
//! remembers other passes than the one that trains.

use crate::membership::Header;

/// With [`Every::Auto`], at most one in so many of a member's computations of a shard is an audit.
const SHARDS_PER_AUDIT: u32 = 200;

/// How often a step is audited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Every {
    /// Never.
    Off,
    /// As often as costs half a percent of the time at most.
    Auto,
    /// One in so many steps.
    Steps(u64),
}

/// Which steps are audited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// How often.
    pub every: Every,
    /// Of the job.
    pub logical_shards: u32,
}

impl Schedule {
    /// Steps from one audit to the next in a group of so many members; `None` for no audits. A step takes at least as long as
    /// the member with the most shards takes for them, and an audit as long as one shard.
    #[must_use]
    pub fn interval(&self, world_size: usize) -> Option<u64> {
        match self.every {
            Every::Off => None,
            Every::Steps(steps) => Some(steps.max(1)),
            Every::Auto => {
                let members = u32::try_from(world_size).unwrap_or(u32::MAX).max(1);
                let most = self.logical_shards.div_ceil(members).max(1);
                Some(u64::from(SHARDS_PER_AUDIT.div_ceil(most)))
            }
        }
    }

    /// Whether the update `step`, counted from 0, is audited: the last of each interval.
    #[must_use]
    pub fn is_due(&self, step: u64, world_size: usize) -> bool {
        self.interval(world_size).is_some_and(|interval| (step + 1).is_multiple_of(interval))
    }
}

/// One audit of a generation's round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audit {
    /// The logical shard that is computed twice.
    pub shard: u32,
    /// Rank of who computes it for the sum.
    pub owner: usize,
    /// Rank of who computes it again: the next member, or the owner where it is alone.
    pub auditor: usize,
}

impl Audit {
    /// Who takes part in the audit of a shard that this rank computes for the sum.
    #[must_use]
    pub fn of(shard: u32, owner: usize, world_size: usize) -> Self {
        Self { shard, owner, auditor: (owner + 1) % world_size.max(1) }
    }

    /// What the two show in a round's headers, by rank: the owner's checksum and the auditor's. Equal on all members.
    #[must_use]
    pub fn shown(&self, headers: &[Header]) -> [u64; 2] {
        [headers[self.owner].vector, headers[self.auditor].vector_again]
    }
}

/// What a member got when it computed the shard again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recomputed {
    /// Checksum of the vector, by the instance that trains.
    pub training: u64,
    /// The same by the instance that audits.
    pub audit: u64,
    /// What the model has beside its state is as it was at first.
    pub constants_kept: bool,
}

impl Recomputed {
    /// Length of [`Recomputed::to_bytes`].
    pub const BYTES: usize = 17;

    /// Little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.training.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.audit.to_le_bytes());
        bytes[16] = u8::from(self.constants_kept);
        bytes
    }

    /// From [`Recomputed::to_bytes`]; `None` when these are not such bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (training, rest) = bytes.split_first_chunk::<8>()?;
        let (audit, [kept @ 0..=1]) = rest.split_first_chunk::<8>()? else { return None };
        Some(Self {
            training: u64::from_le_bytes(*training),
            audit: u64::from_le_bytes(*audit),
            constants_kept: *kept == 1,
        })
    }
}

/// Who gave other bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The program: its passes depend on more than the state. Or two members differ each time, and nobody can say who is
    /// wrong.
    Program,
    /// Some members: by rank, the checksum that each showed, a wrong one where it showed any; and the right one.
    Members {
        /// By rank.
        shown: Vec<u64>,
        /// What the computation gives.
        right: u64,
    },
}

/// What an audit that failed says, once all members have computed the shard again; `shown` is what its two computations
/// gave, and differs.
///
/// # Panics
/// When a member that takes part in the audit is not among the recomputations, which are by rank.
#[must_use]
pub fn verdict(audit: &Audit, shown: [u64; 2], recomputed: &[Recomputed]) -> Verdict {
    let [first, again] = shown;
    let before = |rank: usize| {
        let as_owner = (rank == audit.owner).then_some(first);
        let as_auditor = (rank == audit.auditor).then_some(again);
        as_owner.into_iter().chain(as_auditor)
    };
    // A member's first result other than this one.
    let wrong = |rank: usize, right: u64| {
        let Recomputed { training, audit, .. } = recomputed[rank];
        before(rank).chain([training, audit]).find(|value| *value != right)
    };
    let is_steady = |rank: usize, right: u64| {
        let Recomputed { training, audit, constants_kept } = recomputed[rank];
        training == right && audit == right && constants_kept
    };
    let ranks = 0..recomputed.len();
    let blame = |right: u64| Verdict::Members {
        shown: ranks.clone().map(|rank| wrong(rank, right).unwrap_or(right)).collect(),
        right,
    };

    // All repetitions agree: who showed something else was wrong once, unless both were.
    let right = recomputed[audit.owner].training;
    if ranks.clone().all(|rank| is_steady(rank, right)) && shown.contains(&right) {
        return blame(right);
    }
    // Most members always got the same. An instance that trains and differs from a sound instance beside it remembers
    // something; other differences are the machine's.
    let most = ranks.clone().map(|rank| recomputed[rank].training).find(|right| {
        let always = |rank: &usize| is_steady(*rank, *right) && wrong(*rank, *right).is_none();
        2 * ranks.clone().filter(always).count() > recomputed.len()
    });
    let remembers = |rank: usize, right: u64| {
        let Recomputed { training, audit, constants_kept } = recomputed[rank];
        training != right && audit == right && constants_kept
    };
    match most {
        Some(right) if !ranks.clone().any(|rank| remembers(rank, right)) => blame(right),
        _ => Verdict::Program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RIGHT: u64 = 7;

    fn same(value: u64) -> Recomputed {
        Recomputed { training: value, audit: value, constants_kept: true }
    }

    fn members(shown: &[u64]) -> Verdict {
        Verdict::Members { shown: shown.to_vec(), right: RIGHT }
    }

    #[test]
    fn an_automatic_audit_costs_one_in_two_hundred_computations() {
        let schedule = |every, logical_shards| Schedule { every, logical_shards };
        for (shards, members, interval) in
            [(1, 1, 200), (16, 1, 13), (16, 4, 50), (16, 16, 200), (1000, 1, 1), (12, 5, 67)]
        {
            assert_eq!(schedule(Every::Auto, shards).interval(members), Some(interval), "{shards} on {members}");
        }
        let due = |every| (0..10).filter(|&step| schedule(every, 4).is_due(step, 2)).collect::<Vec<_>>();
        assert_eq!(due(Every::Steps(4)), [3, 7]);
        assert_eq!(due(Every::Off), []);
    }

    #[test]
    fn another_member_audits_where_there_is_one() {
        assert_eq!(Audit::of(5, 2, 3), Audit { shard: 5, owner: 2, auditor: 0 });
        assert_eq!(Audit::of(5, 0, 1), Audit { shard: 5, owner: 0, auditor: 0 });
        let shows = |vector, vector_again| Header { vector, vector_again, ..Header::default() };
        assert_eq!(Audit::of(5, 1, 3).shown(&[shows(0, 0), shows(4, 0), shows(0, 9)]), [4, 9]);
    }

    #[test]
    fn who_was_wrong_once_is_blamed_among_any_number() {
        // Alone, in the vector for the sum or in the other.
        let alone = Audit::of(0, 0, 1);
        assert_eq!(verdict(&alone, [3, RIGHT], &[same(RIGHT)]), members(&[3]));
        assert_eq!(verdict(&alone, [RIGHT, 3], &[same(RIGHT)]), members(&[3]));
        let of_two = Audit::of(0, 1, 2);
        assert_eq!(verdict(&of_two, [3, RIGHT], &[same(RIGHT); 2]), members(&[RIGHT, 3]));
        assert_eq!(verdict(&of_two, [RIGHT, 3], &[same(RIGHT); 2]), members(&[3, RIGHT]));
        assert_eq!(verdict(&Audit::of(0, 1, 3), [RIGHT, 3], &[same(RIGHT); 3]), members(&[RIGHT, RIGHT, 3]));
    }

    #[test]
    fn who_is_always_wrong_is_blamed_by_a_majority_alone() {
        assert_eq!(
            verdict(&Audit::of(0, 0, 3), [3, RIGHT], &[same(3), same(RIGHT), same(RIGHT)]),
            members(&[3, RIGHT, RIGHT])
        );
        // Its constants changed in memory: the instance beside it has the same ones.
        let damaged = Recomputed { constants_kept: false, ..same(3) };
        assert_eq!(
            verdict(&Audit::of(0, 0, 3), [3, RIGHT], &[damaged, same(RIGHT), same(RIGHT)]),
            members(&[3, RIGHT, RIGHT])
        );
        assert_eq!(verdict(&Audit::of(0, 0, 2), [3, RIGHT], &[same(3), same(RIGHT)]), Verdict::Program);
    }

    #[test]
    fn an_instance_that_remembers_other_passes_is_the_programs_fault() {
        let (old, new) = (RIGHT, 9);
        let aged = Recomputed { training: new, audit: old, constants_kept: true };
        assert_eq!(verdict(&Audit::of(0, 0, 1), [new, old], &[aged]), Verdict::Program);
        assert_eq!(verdict(&Audit::of(0, 0, 2), [new, old], &[aged; 2]), Verdict::Program);
        // One that joined lately has not got there yet: the majority is no proof.
        assert_eq!(verdict(&Audit::of(0, 0, 3), [new, old], &[aged, same(old), same(old)]), Verdict::Program);
        // Other bits each time.
        let random = |n| Recomputed { training: n, audit: n + 1, constants_kept: true };
        assert_eq!(verdict(&Audit::of(0, 0, 3), [1, 2], &[random(3), random(5), random(7)]), Verdict::Program);
    }

    #[test]
    fn recomputations_survive_the_wire() {
        let one = Recomputed { training: u64::MAX, audit: 3, constants_kept: true };
        assert_eq!(Recomputed::from_bytes(&one.to_bytes()), Some(one));
        assert_eq!(Recomputed::from_bytes(&[2; Recomputed::BYTES]), None);
    }

    proptest! {
        #[test]
        fn a_sound_member_is_never_blamed(
            world in 1_usize..6,
            owner in any::<prop::sample::Index>(),
            faulty in any::<prop::sample::Index>(),
            bits in prop::collection::vec(any::<bool>(), 4),
            again in any::<bool>(),
        ) {
            let (owner, faulty) = (owner.index(world), faulty.index(world));
            let audit = Audit::of(0, owner, world);
            // One member computes wrongly in some of its passes.
            let value = |rank: usize, pass: usize| if rank == faulty && bits[pass] { 100 + pass as u64 } else { RIGHT };
            let shown = [value(audit.owner, 0), value(audit.auditor, 1)];
            prop_assume!(shown[0] != shown[1]);
            let recomputed: Vec<Recomputed> = (0..world)
                .map(|rank| Recomputed { training: value(rank, 2), audit: value(rank, 3), constants_kept: !(again && rank == faulty) })
                .collect();
            if let Verdict::Members { shown, right } = verdict(&audit, shown, &recomputed) {
                prop_assert_eq!(right, RIGHT);
                for (rank, value) in shown.iter().enumerate() {
                    prop_assert_eq!(*value != RIGHT, rank == faulty, "{:?}", shown);
                }
            }
        }
    }
}
