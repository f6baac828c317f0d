//! An API that is down, and credentials that run out: work that runs goes on, nothing is forgotten.

use crate::coordinator::{Cloud, SPOT_A};
use coordinator_core::{DownCause, Event, LaunchErrorKind, Scope};
use coordinator_provider::Provider;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_is_down_nothing_is_lost() {
    let cloud = Cloud::start();
    let mut coordinator = cloud.ready("c", 4).await;
    for instance in ["i1", "i2"] {
        coordinator.launch(instance, SPOT_A);
        coordinator.up(instance).await;
    }
    cloud.moto.outage(true);
    coordinator.terminate("i1", Duration::ZERO);
    coordinator.launch("i3", SPOT_A);
    // Longer than an instance may be invisible.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for event in coordinator.told() {
        let wrong = matches!(event, Event::InstanceDown { .. } | Event::LaunchFailed { .. });
        assert!(!wrong, "{event:?}");
    }
    assert!(coordinator.provider.pools().iter().any(|pool| pool.note.contains("no answer from EC2")));
    cloud.moto.outage(false);
    assert_eq!(coordinator.down("i1").await, DownCause::Terminated);
    coordinator.up("i3").await;
    let mut instances: Vec<_> = cloud.moto.running().iter().map(|it| it.tags["trainctl:instance"].clone()).collect();
    instances.sort();
    assert_eq!(instances, ["i2", "i3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_starts_while_the_api_is_down_waits_for_it() {
    let cloud = Cloud::start();
    cloud.moto.outage(true);
    let mut coordinator = cloud.provider("c", 4);
    coordinator.terminate("i9", Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(coordinator.told().is_empty());
    cloud.moto.outage(false);
    assert_eq!(coordinator.listed().await, [""; 0]);
    assert_eq!(coordinator.down("i9").await, DownCause::Vanished);
    coordinator.launch("i1", SPOT_A);
    coordinator.up("i1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_credentials_are_told_and_renewed_without_a_restart() {
    let cloud = Cloud::start();
    let mut coordinator = cloud.ready("c", 4).await;
    coordinator.launch("i1", SPOT_A);
    coordinator.up("i1").await;
    cloud.moto.expire(&["AKIAFIRST"]);
    coordinator.launch("i2", SPOT_A);
    let (kind, scope, message) = coordinator.failed("i2").await;
    assert_eq!((kind, scope), (LaunchErrorKind::Configuration, Scope::Provider), "{message}");
    coordinator.terminate("i1", Duration::ZERO);
    cloud.use_key("AKIASECOND");
    assert_eq!(coordinator.down("i1").await, DownCause::Terminated);
    coordinator.launch("i3", SPOT_A);
    coordinator.up("i3").await;
    assert_eq!(cloud.moto.running().len(), 1);
}
