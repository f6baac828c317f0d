//! Instances, each with its worker: both are known by the number of their launch, so that finding one among many
//! thousands compares numbers, not texts.

use super::{Instance, Worker};
use crate::ids::{InstanceId, WorkerId};
use std::collections::BTreeMap;

/// By number, which is the order of their launch.
#[derive(Debug, Default)]
pub(crate) struct Pairs(BTreeMap<u64, Pair>);

#[derive(Debug)]
struct Pair {
    instance: Instance,
    worker: Worker,
}

fn instance_number(id: &InstanceId) -> Option<u64> {
    id.0.strip_prefix('i')?.parse().ok()
}

pub(super) fn worker_number(id: &WorkerId) -> Option<u64> {
    id.0.strip_prefix('w')?.parse().ok()
}

/// What the instance and the worker of this number are called.
pub(super) fn names(number: u64) -> (InstanceId, WorkerId) {
    (InstanceId(format!("i{number}")), WorkerId(format!("w{number}")))
}

impl Pairs {
    pub(super) fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.0.values().map(|pair| &pair.instance)
    }

    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.0.values().map(|pair| &pair.worker)
    }

    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.0.values_mut().map(|pair| &mut pair.worker)
    }

    pub(super) fn numbered(&self, number: u64) -> Option<&Worker> {
        Some(&self.0.get(&number)?.worker)
    }

    pub(super) fn numbered_mut(&mut self, number: u64) -> Option<&mut Worker> {
        Some(&mut self.0.get_mut(&number)?.worker)
    }

    pub(super) fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.0.get(&instance_number(id)?).map(|pair| &pair.instance).filter(|instance| instance.id == *id)
    }

    pub(super) fn instance_mut(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        let pair = self.0.get_mut(&instance_number(id)?)?;
        Some(&mut pair.instance).filter(|instance| instance.id == *id)
    }

    pub(super) fn worker(&self, id: &WorkerId) -> Option<&Worker> {
        self.0.get(&worker_number(id)?).map(|pair| &pair.worker).filter(|worker| worker.id == *id)
    }

    pub(super) fn worker_mut(&mut self, id: &WorkerId) -> Option<&mut Worker> {
        let pair = self.0.get_mut(&worker_number(id)?)?;
        Some(&mut pair.worker).filter(|worker| worker.id == *id)
    }

    pub(super) fn insert(&mut self, instance: Instance, worker: Worker) {
        self.0.insert(worker.number, Pair { instance, worker });
    }

    pub(super) fn remove(&mut self, id: &InstanceId) -> Option<(Instance, Worker)> {
        let number = instance_number(&self.instance(id)?.id)?;
        let Pair { instance, worker } = self.0.remove(&number)?;
        Some((instance, worker))
    }
}
