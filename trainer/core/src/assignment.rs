//! Who is in a generation, and which logical shards each member computes. Checked once when it arrives, so that the
//! rest of the worker can rely on it.

use crate::tree::Shards;
use thiserror::Error;

/// One member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who; stable, unlike its rank.
    pub worker: String,
    /// Where its peers dial it, `host:port`.
    pub address: String,
    /// What it computes.
    pub shards: Shards,
}

/// A generation's members in rank order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// Grows with every change of membership.
    pub generation: u64,
    /// The step in progress cannot finish: drop it. Otherwise the running generation's members switch together.
    pub immediate: bool,
    /// By rank. Empty: all save and leave.
    pub members: Vec<Member>,
    /// Why, in words.
    pub reason: String,
}

/// An assignment that can't be followed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AssignmentError {
    /// The members' shards leave a gap, overlap, or are out of order.
    #[error(
        "generation {generation}: {worker} is assigned shards {found:?}, expected a range from {expected_start} on \
         within 0..{logical_shards}"
    )]
    Shards {
        /// Of the assignment.
        generation: u64,
        /// Whose range is wrong.
        worker: String,
        /// The range.
        found: Shards,
        /// Where it must start.
        expected_start: u32,
        /// The job's.
        logical_shards: u32,
    },
    /// The last shards have no owner.
    #[error("generation {generation}: shards {from}..{logical_shards} are assigned to nobody")]
    Missing {
        /// Of the assignment.
        generation: u64,
        /// First shard without an owner.
        from: u32,
        /// The job's.
        logical_shards: u32,
    },
}

impl Assignment {
    /// # Errors
    /// When the shards of the members are not a partition of `0..logical_shards` into ranges in rank order, none
    /// empty.
    pub fn check(self, logical_shards: u32) -> Result<Self, AssignmentError> {
        if self.members.is_empty() {
            return Ok(self);
        }
        let mut start = 0;
        for member in &self.members {
            let Shards { start: from, end } = member.shards;
            if from != start || end <= from || end > logical_shards {
                return Err(AssignmentError::Shards {
                    generation: self.generation,
                    worker: member.worker.clone(),
                    found: member.shards.clone(),
                    expected_start: start,
                    logical_shards,
                });
            }
            start = end;
        }
        if start < logical_shards {
            return Err(AssignmentError::Missing { generation: self.generation, from: start, logical_shards });
        }
        Ok(self)
    }

    /// This worker's rank in it.
    #[must_use]
    pub fn rank_of(&self, worker: &str) -> Option<usize> {
        self.members.iter().position(|m| m.worker == worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(ranges: &[Shards]) -> Assignment {
        let member = |(i, shards): (usize, &Shards)| Member {
            worker: format!("w{i}"),
            address: String::new(),
            shards: shards.clone(),
        };
        let members = ranges.iter().enumerate().map(member).collect();
        Assignment { generation: 1, immediate: true, members, reason: String::new() }
    }

    #[test]
    fn shards_must_partition() {
        assert!(assignment(&[]).check(8).is_ok());
        assert!(assignment(&[0..3, 3..8]).check(8).is_ok());
        let gap = assignment(&[0..3, 4..8]).check(8).unwrap_err();
        assert_eq!(gap.to_string(), "generation 1: w1 is assigned shards 4..8, expected a range from 3 on within 0..8");
        assert!(matches!(assignment(&[0..3, 3..7]).check(8), Err(AssignmentError::Missing { from: 7, .. })));
        assert!(assignment(&[0..3, 3..3, 3..8]).check(8).is_err());
        assert!(assignment(&[0..4, 4..9]).check(8).is_err());
    }
}
