//! The provider does what every provider must.
#![allow(dead_code, reason = "each test program uses its own part of the machines")]

mod machines;

use coordinator_core::{Event, InstanceId, LaunchError, LaunchErrorKind, PoolName, Scope};
use coordinator_provider::Provider;
use coordinator_provider::conformance::{Foreign, World};
use machines::Machines;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

struct Lab(Machines);

impl World for Lab {
    fn start(&mut self, events: UnboundedSender<Event>) -> Arc<dyn Provider> {
        self.0.start(events)
    }

    fn pool(&self) -> PoolName {
        machines::pool()
    }

    async fn instances(&mut self) -> BTreeSet<InstanceId> {
        self.0.being().into_values().collect()
    }

    /// Who joins has the pool's token, and so is the cluster's.
    async fn foreign(&mut self) -> Option<Foreign> {
        None
    }

    async fn lives(&mut self, _foreign: &Foreign) -> bool {
        true
    }

    async fn refuse(&mut self) -> LaunchError {
        self.0.kill_all().await;
        LaunchError { kind: LaunchErrorKind::NoCapacity, scope: Scope::Pool, message: String::new() }
    }
}

coordinator_provider::conforms!(async || Lab(Machines::new(&["a", "b"])));
