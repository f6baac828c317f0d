//! Whose is which: the provider of each pool that was announced, and of each instance that was asked for or found.

use coordinator_core::{Core, Event, InstanceId, PoolName, ProviderName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Where what the scheduler wants goes.
#[derive(Default)]
pub(super) struct Routes {
    pools: BTreeMap<PoolName, ProviderName>,
    instances: BTreeMap<InstanceId, ProviderName>,
    /// Listed, and known to nobody; since when.
    unowned: BTreeMap<InstanceId, Instant>,
}

impl Routes {
    /// As the records of an earlier start tell.
    pub(super) fn new(core: &Core) -> Self {
        let mut routes = Self::default();
        for pool in core.pools() {
            routes.pools.insert(pool.spec.name, pool.spec.place.provider);
        }
        for instance in core.instances() {
            if let Some(provider) = routes.pools.get(&instance.pool) {
                routes.instances.insert(instance.instance, provider.clone());
            }
        }
        routes
    }

    pub(super) fn of_pool(&self, pool: &PoolName) -> Option<&ProviderName> {
        self.pools.get(pool)
    }

    pub(super) fn of_instance(&self, instance: &InstanceId) -> Option<&ProviderName> {
        self.instances.get(instance)
    }

    pub(super) fn launched(&mut self, instance: &InstanceId, provider: &ProviderName) {
        self.instances.insert(instance.clone(), provider.clone());
    }

    /// What a provider says, before the scheduler hears it. Gives the instances that the scheduler does not know.
    pub(super) fn heard(&mut self, event: &Event, core: &Core, now: Instant) -> Vec<InstanceId> {
        match event {
            Event::PoolChanged { pool } => {
                self.pools.insert(pool.name.clone(), pool.place.provider.clone());
            }
            Event::InstanceDown { instance, .. } | Event::LaunchFailed { instance, .. } => {
                self.instances.remove(instance);
                self.unowned.remove(instance);
            }
            Event::InstancesListed { provider, instances } => {
                let known: BTreeSet<InstanceId> = core.instances().into_iter().map(|view| view.instance).collect();
                let listed = instances.iter().map(|(instance, _)| instance);
                let unknown: Vec<InstanceId> = listed.filter(|instance| !known.contains(*instance)).cloned().collect();
                for (instance, _) in instances {
                    self.instances.insert(instance.clone(), provider.clone());
                }
                for instance in &unknown {
                    self.unowned.entry(instance.clone()).or_insert(now);
                }
                return unknown;
            }
            _ => {}
        }
        Vec::new()
    }

    /// What is left of the time that an instance which nobody asked for is given to end by itself. `None`: it is none.
    pub(super) fn left(&self, instance: &InstanceId, given: Duration, now: Instant) -> Option<Duration> {
        let since = self.unowned.get(instance)?;
        Some(given.saturating_sub(now.saturating_duration_since(*since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_core::{DownCause, PoolSpec, Settings};

    #[test]
    fn what_nobody_asked_for_is_given_some_time_once() {
        let core = Core::new(Settings::default());
        let (mut routes, now) = (Routes::default(), Instant::now());
        let (stray, aws) = (InstanceId::from("i9"), ProviderName::from("aws"));
        let listed = Event::InstancesListed { provider: aws.clone(), instances: vec![(stray.clone(), None)] };
        assert_eq!(routes.heard(&listed, &core, now), std::slice::from_ref(&stray));
        let given = Duration::from_secs(10);
        assert_eq!(routes.left(&stray, given, now), Some(given));
        let later = now + Duration::from_secs(8);
        assert_eq!(routes.heard(&listed, &core, later), std::slice::from_ref(&stray));
        assert_eq!(routes.left(&stray, given, later), Some(Duration::from_secs(2)));
        assert_eq!(routes.of_instance(&stray), Some(&aws));
        routes.heard(&Event::InstanceDown { instance: stray.clone(), cause: DownCause::Terminated }, &core, later);
        assert_eq!((routes.of_instance(&stray), routes.left(&stray, given, later)), (None, None));
    }

    #[test]
    fn a_pool_is_its_announcers() {
        let core = Core::new(Settings::default());
        let mut routes = Routes::default();
        let pool = PoolSpec::local("a", true, 1, 0);
        routes.heard(&Event::PoolChanged { pool }, &core, Instant::now());
        assert_eq!(routes.of_pool(&PoolName::from("a")), Some(&ProviderName::from("local")));
        assert_eq!(routes.of_pool(&PoolName::from("b")), None);
    }
}
