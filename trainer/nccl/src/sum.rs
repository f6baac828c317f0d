//! The sum over a group, for any memory and any transport: partial sums go to the owner of each chunk, which adds them
//! in the tree's order on the device where they are, and gives the result to all.

use crate::plan::Plan;
use std::ops::Range;
use thiserror::Error;
use trainer_collective::{Memory, MemoryError, Numerics, Transport};
use trainer_core::Round;
use trainer_core::tree::Fold;

/// Why a sum was not made.
#[derive(Debug, Error)]
pub enum SumError<E: std::error::Error + 'static> {
    /// The transport ended.
    #[error(transparent)]
    Transport(E),
    /// The device refused an addition.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// The vectors of one kind of round in one member's memory, reused from round to round of a generation.
#[derive(Debug)]
pub struct GroupSum<M> {
    plan: Plan,
    memory: M,
    fold: Option<Fold>,
    held: usize,
    sum_of: Option<Round>,
}

impl<M: Memory> GroupSum<M> {
    /// In a memory of at least [`Plan::memory_len`] floats. What is in it doesn't matter.
    ///
    /// # Panics
    /// When the memory is too small.
    #[must_use]
    pub fn new(plan: Plan, memory: M) -> Self {
        let (need, have) = (plan.memory_len(), memory.len());
        assert!(need <= have, "the plan needs {need} floats of memory, found {have}");
        Self { plan, memory, fold: None, held: 0, sum_of: None }
    }

    /// Begins a round: this member's shards follow, from left to right.
    pub fn begin(&mut self) {
        self.fold = Some(self.plan.fold());
        self.held = 0;
    }

    /// Where in the memory the next shard's vector goes; then call [`GroupSum::push`].
    #[must_use]
    pub fn next_vector(&self) -> Range<usize> {
        self.plan.slot(self.held)
    }

    /// The memory that the ranges are of.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The memory, for writing a vector.
    pub fn memory_mut(&mut self) -> &mut M {
        &mut self.memory
    }

    /// The memory, for the next generation.
    #[must_use]
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// Adds the vector of this shard to those before it.
    ///
    /// # Errors
    /// When the device refuses.
    ///
    /// # Panics
    /// When no round was begun.
    pub fn push(&mut self, shard: u32) -> Result<(), MemoryError> {
        let Some(fold) = self.fold.as_mut() else { panic!("a shard outside of a round") };
        self.held += 1;
        let times = match self.plan.numerics() {
            Numerics::Exact => fold.push(shard).times,
            Numerics::Fast => self.held - 1,
        };
        for _ in 0..times {
            self.held -= 1;
            self.memory.add(self.plan.slot(self.held - 1), self.plan.slot(self.held))?;
        }
        Ok(())
    }

    /// Sums what all members pushed. The result lies at [`GroupSum::sum`].
    ///
    /// # Errors
    /// See [`SumError`]. The sum is the one before it then, or none: [`GroupSum::sum_of`].
    ///
    /// # Panics
    /// When the transport is another group's than the plan.
    pub fn exchange<T: Transport<M>>(&mut self, transport: &mut T, round: Round) -> Result<(), SumError<T::Error>> {
        let plan = &self.plan;
        assert_eq!((transport.rank(), transport.world_size()), (plan.rank(), plan.world_size()), "the plan's group");
        if plan.world_size() == 1 {
            self.sum_of = None;
            self.memory.copy(plan.sum(), plan.slot(0))?;
        } else {
            match plan.numerics() {
                Numerics::Exact => {
                    let (sends, receives) = (plan.sends(), plan.receives());
                    transport.swap(&mut self.memory, &sends, &receives).map_err(SumError::Transport)?;
                    let operands = plan.operands();
                    for add in plan.additions() {
                        self.memory.add(operands[add.into].clone(), operands[add.from].clone())?;
                    }
                    self.sum_of = None;
                    self.memory.copy(plan.own_sum(), operands[0].clone())?;
                    transport.all_gather(&mut self.memory, plan.padded_sum()).map_err(SumError::Transport)?;
                }
                Numerics::Fast => {
                    self.sum_of = None;
                    self.memory.copy(plan.sum(), plan.slot(0))?;
                    transport.all_reduce(&mut self.memory, plan.sum()).map_err(SumError::Transport)?;
                }
            }
        }
        self.sum_of = Some(round);
        Ok(())
    }

    /// Where the result of the last exchange lies.
    #[must_use]
    pub fn sum(&self) -> Range<usize> {
        self.plan.sum()
    }

    /// The round whose sum it is; `None` once another began to replace it.
    #[must_use]
    pub fn sum_of(&self) -> Option<Round> {
        self.sum_of
    }
}
