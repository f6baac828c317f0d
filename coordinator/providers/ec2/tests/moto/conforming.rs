//! What every provider must do.

use crate::coordinator::{Cloud, REGION, SPOT_A};
use coordinator_core::{Event, InstanceId, LaunchError, LaunchErrorKind, PoolName, Scope};
use coordinator_provider::Provider;
use coordinator_provider::conformance::{Foreign, World};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

struct Ec2World(Cloud);

impl World for Ec2World {
    fn start(&mut self, events: UnboundedSender<Event>) -> Arc<dyn Provider> {
        Arc::new(self.0.start_provider("c", 4, events))
    }

    fn pool(&self) -> PoolName {
        PoolName::from(SPOT_A)
    }

    async fn instances(&mut self) -> BTreeSet<InstanceId> {
        let running = self.0.moto.running().into_iter();
        let ours = running.filter(|it| it.tags.get("trainctl:cluster").is_some_and(|cluster| cluster == "c"));
        ours.map(|it| InstanceId(it.tags["trainctl:instance"].clone())).collect()
    }

    async fn foreign(&mut self) -> Option<Foreign> {
        let tags = [("trainctl:cluster", "another"), ("trainctl:instance", "i9")];
        Some(Foreign(self.0.moto.run(REGION, "us-east-1a", &tags)))
    }

    async fn lives(&mut self, foreign: &Foreign) -> bool {
        self.0.moto.running().iter().any(|it| it.id == foreign.0)
    }

    async fn refuse(&mut self) -> LaunchError {
        self.0.moto.faults(&json!([{ "code": "InsufficientInstanceCapacity" }]));
        LaunchError { kind: LaunchErrorKind::NoCapacity, scope: Scope::Zone, message: String::new() }
    }
}

coordinator_provider::conforms!(async || Ec2World(Cloud::start()));
