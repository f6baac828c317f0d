//! What a pool holds and what it takes away: pure accounting, no processes and no clock.
//!
//! A pool has room for its limit, or for the nodes that its trace has at the moment if those are fewer. A drill takes
//! the capacity of its instance for a while. When room shrinks below what is in use, the youngest instances go first:
//! the oldest hold the most progress, and a trace names the node itself.

use crate::pools::PoolConfig;
use crate::provider::NAME;
use crate::trace::NodeChange;
use coordinator_core::{InstanceId, Place, PoolSpec, ProviderName};
use std::collections::{BTreeMap, BTreeSet};

/// One pool's accounts.
#[derive(Debug)]
pub(crate) struct Pool {
    config: PoolConfig,
    limit: u32,
    /// In the order in which they came; only a trace has nodes.
    nodes: Option<Vec<String>>,
    /// Taken by drills and not given back yet.
    withheld: u32,
    /// Counts the times that somebody set the limit: what drills took before is no matter any more.
    settings: u64,
    evictions: u32,
    occupants: BTreeMap<InstanceId, Occupant>,
    next_age: u64,
}

#[derive(Debug)]
struct Occupant {
    age: u64,
    node: Option<String>,
    leaving: Option<Leaving>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaving {
    /// Its room is gone for good: the pool shrank.
    WithItsRoom,
    /// Its room comes back some time after it has gone.
    Drilled,
}

/// Room that a drill took and that comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Withheld {
    setting: u64,
}

impl Pool {
    pub(crate) fn new(config: PoolConfig) -> Self {
        Self {
            limit: config.capacity,
            nodes: config.trace.as_ref().map(|_| Vec::new()),
            withheld: 0,
            settings: 0,
            evictions: 0,
            occupants: BTreeMap::new(),
            next_age: 0,
            config,
        }
    }

    pub(crate) fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Instances that are not leaving.
    pub(crate) fn in_use(&self) -> u32 {
        count(self.occupants.values().filter(|occupant| occupant.leaving.is_none()).count())
    }

    pub(crate) fn evictions(&self) -> u32 {
        self.evictions
    }

    fn room(&self) -> u32 {
        self.nodes.as_ref().map_or(self.limit, |nodes| self.limit.min(count(nodes.len())))
    }

    /// As the scheduler sees it: what the pool would hold now, instances in use included.
    pub(crate) fn spec(&self) -> PoolSpec {
        let PoolConfig { name, market, price, region, zone, notice, .. } = &self.config;
        PoolSpec {
            name: name.clone(),
            of: name.clone(),
            place: Place { provider: ProviderName::from(NAME), region: region.clone(), zone: zone.clone() },
            market: *market,
            price: *price,
            capacity: self.room().saturating_sub(self.withheld).max(self.in_use()),
            capacity_told: true,
            notice_ms: u64::try_from(notice.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Takes a new instance in. `false`: there is no room.
    #[must_use]
    pub(crate) fn place(&mut self, instance: &InstanceId) -> bool {
        if self.room() <= self.withheld.saturating_add(self.in_use()) {
            return false;
        }
        self.adopt(instance);
        true
    }

    /// Counts an instance that runs already, room or not; [`Self::victims`] says who is too many.
    pub(crate) fn adopt(&mut self, instance: &InstanceId) {
        let taken: BTreeSet<&String> = self.occupants.values().filter_map(|occupant| occupant.node.as_ref()).collect();
        let node = self.nodes.as_ref().and_then(|nodes| nodes.iter().find(|node| !taken.contains(node)).cloned());
        self.occupants.insert(instance.clone(), Occupant { age: self.next_age, node, leaving: None });
        self.next_age += 1;
    }

    /// A drill takes this instance and its room. `false`: it is not here, or leaves already.
    #[must_use]
    pub(crate) fn drill(&mut self, instance: &InstanceId) -> bool {
        let left = self.leave(instance, Leaving::Drilled);
        self.withheld += u32::from(left);
        left
    }

    fn leave(&mut self, instance: &InstanceId, how: Leaving) -> bool {
        match self.occupants.get_mut(instance) {
            Some(occupant) if occupant.leaving.is_none() => {
                occupant.leaving = Some(how);
                self.evictions += 1;
                true
            }
            _ => false,
        }
    }

    /// The instance has gone. `Some`: its room is to be given back later, by [`Self::give_back`].
    #[must_use]
    pub(crate) fn remove(&mut self, instance: &InstanceId) -> Option<Withheld> {
        let occupant = self.occupants.remove(instance)?;
        (occupant.leaving == Some(Leaving::Drilled)).then_some(Withheld { setting: self.settings })
    }

    /// The room of one drill comes back, unless the limit was set since.
    pub(crate) fn give_back(&mut self, room: Withheld) {
        if room.setting == self.settings {
            self.withheld = self.withheld.saturating_sub(1);
        }
    }

    /// Sets the limit and marks those who must go as leaving. What earlier drills took counts no more: whoever sets a
    /// limit means the pool to hold so many.
    #[must_use]
    pub(crate) fn resize(&mut self, limit: u32) -> Vec<InstanceId> {
        self.limit = limit;
        self.withheld = 0;
        self.settings += 1;
        for occupant in self.occupants.values_mut().filter(|occupant| occupant.leaving == Some(Leaving::Drilled)) {
            occupant.leaving = Some(Leaving::WithItsRoom);
        }
        self.victims()
    }

    /// Applies a row of the trace and marks those who must go as leaving.
    #[must_use]
    pub(crate) fn apply(&mut self, change: &NodeChange) -> Vec<InstanceId> {
        let nodes = self.nodes.get_or_insert_default();
        match change {
            NodeChange::Add(node) => {
                nodes.push(node.clone());
                Vec::new()
            }
            NodeChange::Remove(node) => {
                nodes.retain(|present| present != node);
                let on_it = self.occupants.iter().find(|(_, occupant)| occupant.node.as_ref() == Some(node));
                let mut gone: Vec<InstanceId> = on_it.map(|(instance, _)| instance.clone()).into_iter().collect();
                gone.retain(|instance| self.leave(instance, Leaving::WithItsRoom));
                gone.extend(self.victims());
                gone
            }
        }
    }

    /// Marks whoever there is no room for as leaving: the youngest first.
    #[must_use]
    pub(crate) fn victims(&mut self) -> Vec<InstanceId> {
        let excess = self.in_use().saturating_sub(self.room());
        let mut staying: Vec<(u64, InstanceId)> = self
            .occupants
            .iter()
            .filter(|(_, occupant)| occupant.leaving.is_none())
            .map(|(instance, occupant)| (occupant.age, instance.clone()))
            .collect();
        staying.sort();
        let mut gone = Vec::new();
        for (_, instance) in staying.into_iter().rev().take(excess as usize) {
            if self.leave(&instance, Leaving::WithItsRoom) {
                gone.push(instance);
            }
        }
        gone
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pools::{TraceConfig, default_pools};
    use crate::trace::Trace;
    use proptest::prelude::*;
    use std::path::PathBuf;

    fn pool(capacity: u32, traced: bool) -> Pool {
        let mut config = default_pools().remove(0);
        config.capacity = capacity;
        config.trace =
            traced.then(|| TraceConfig { trace: Trace { path: PathBuf::from("t"), steps: Vec::new() }, speed: 1.0 });
        Pool::new(config)
    }

    fn id(n: u8) -> InstanceId {
        InstanceId(format!("i{n}"))
    }

    #[test]
    fn a_drill_takes_room_until_it_is_given_back() {
        let mut pool = pool(2, false);
        assert!(pool.place(&id(1)) && pool.place(&id(2)) && !pool.place(&id(3)));
        assert!(pool.drill(&id(1)));
        assert!(!pool.drill(&id(1)), "it leaves already");
        assert_eq!((pool.spec().capacity, pool.in_use(), pool.evictions()), (1, 1, 1));
        let room = pool.remove(&id(1)).expect("its room comes back later");
        assert!(!pool.place(&id(3)));
        pool.give_back(room);
        assert!(pool.place(&id(3)));
    }

    #[test]
    fn a_new_limit_forgets_what_drills_took() {
        let mut pool = pool(2, false);
        assert!(pool.place(&id(1)) && pool.place(&id(2)));
        assert!(pool.drill(&id(1)) && pool.drill(&id(2)));
        let room = pool.remove(&id(1)).expect("its room comes back later");
        assert_eq!(pool.resize(2), Vec::new());
        assert_eq!(pool.spec().capacity, 2);
        assert_eq!(pool.remove(&id(2)), None, "there is nothing to come back");
        assert!(pool.place(&id(3)) && pool.drill(&id(3)));
        pool.give_back(room);
        assert_eq!(pool.spec().capacity, 1, "the newer drill's room is still withheld");
    }

    #[test]
    fn who_ends_by_itself_frees_its_room_at_once() {
        let mut pool = pool(1, false);
        assert!(pool.place(&id(1)));
        assert_eq!(pool.remove(&id(1)), None);
        assert!(pool.place(&id(2)));
    }

    #[test]
    fn shrinking_takes_the_youngest_first() {
        let mut pool = pool(4, false);
        for n in [3, 1, 4, 2] {
            assert!(pool.place(&id(n)));
        }
        assert_eq!(pool.resize(2), vec![id(2), id(4)]);
        assert_eq!(pool.resize(2), Vec::new());
        assert_eq!(pool.spec().capacity, 2);
    }

    #[test]
    fn a_trace_takes_the_instance_of_its_node() {
        let mut pool = pool(2, true);
        assert!(!pool.place(&id(1)), "no node yet");
        for node in ["a", "b", "c"] {
            assert_eq!(pool.apply(&NodeChange::Add(node.to_owned())), Vec::new());
        }
        assert_eq!(pool.spec().capacity, 2, "at most the pool's own capacity");
        assert!(pool.place(&id(1)) && pool.place(&id(2)) && !pool.place(&id(3)));
        assert_eq!(pool.apply(&NodeChange::Remove("a".to_owned())), vec![id(1)]);
        assert_eq!(pool.spec().capacity, 2);
        assert!(pool.place(&id(3)), "node c is free");
        assert_eq!(pool.apply(&NodeChange::Remove("c".to_owned())), vec![id(3)]);
        assert_eq!(pool.spec().capacity, 1);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Place(u8),
        Drill(u8),
        Remove(u8),
        GiveBack,
        Resize(u32),
        Node(bool, u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..12u8).prop_map(Step::Place),
            (0..12u8).prop_map(Step::Drill),
            (0..12u8).prop_map(Step::Remove),
            Just(Step::GiveBack),
            (0..6u32).prop_map(Step::Resize),
            (any::<bool>(), 0..6u8).prop_map(|(add, node)| Step::Node(add, node)),
        ]
    }

    proptest! {
        #[test]
        fn never_more_in_use_than_room(traced: bool, steps in prop::collection::vec(step(), 0..200)) {
            let mut pool = pool(4, traced);
            let mut returning: Vec<Withheld> = Vec::new();
            let mut present = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Place(n) if !pool.occupants.contains_key(&id(n)) => {
                        let free = pool.room() > pool.withheld + pool.in_use();
                        prop_assert_eq!(pool.place(&id(n)), free);
                    }
                    Step::Drill(n) => { let _ = pool.drill(&id(n)); }
                    Step::Remove(n) => returning.extend(pool.remove(&id(n))),
                    Step::GiveBack if !returning.is_empty() => pool.give_back(returning.remove(0)),
                    Step::Resize(limit) => { let _ = pool.resize(limit); }
                    Step::Node(true, n) if traced && present.insert(n) => {
                        let _ = pool.apply(&NodeChange::Add(n.to_string()));
                    }
                    Step::Node(false, n) if traced && present.remove(&n) => {
                        let _ = pool.apply(&NodeChange::Remove(n.to_string()));
                    }
                    Step::Place(_) | Step::GiveBack | Step::Node(..) => {}
                }
                prop_assert!(pool.in_use() <= pool.room());
                prop_assert!(pool.spec().capacity >= pool.in_use());
                let drilled = pool.occupants.values().filter(|o| o.leaving == Some(Leaving::Drilled)).count();
                let owed = returning.iter().filter(|room| room.setting == pool.settings).count();
                prop_assert_eq!(pool.withheld, count(drilled + owed));
                let mut nodes: Vec<_> = pool.occupants.values().filter_map(|o| o.node.clone()).collect();
                nodes.sort();
                let held = nodes.len();
                nodes.dedup();
                prop_assert_eq!(nodes.len(), held, "two instances on one node");
            }
        }
    }
}
