//! What is bought, where, for how much, and how often.

use crate::coordinator::{Cloud, ON_DEMAND_A, SPOT_A, SPOT_B, until};
use coordinator_core::{Event, Generation, LaunchErrorKind, Price, Scope};
use coordinator_provider::Provider;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_spot_instance_comes_with_its_tags_user_data_and_price() {
    let cloud = Cloud::start();
    cloud.moto.price("m5.large/us-east-1a", 0.03);
    cloud.moto.price("m5.xlarge/us-east-1a", 0.08);
    let mut coordinator = cloud.ready("c", 4).await;
    coordinator.launch("i1", SPOT_A);
    let machine = coordinator.up("i1").await;
    assert_eq!(machine.instance_type, "m5.large");
    assert_eq!(machine.price, Price { usd_per_hour: 0.03, on_demand_usd_per_hour: 0.096 });

    let running = cloud.moto.running();
    let [found] = &running[..] else { panic!("one instance: {running:?}") };
    assert_eq!((&found.id, found.zone.as_str(), found.lifecycle.as_str()), (&machine.id, "us-east-1a", "spot"));
    for (key, value) in [
        ("trainctl:cluster", "c"),
        ("trainctl:instance", "i1"),
        ("trainctl:worker", "w1"),
        ("trainctl:job", "digits"),
        ("trainctl:generation", "1"),
        ("trainctl:pool", SPOT_A),
    ] {
        assert_eq!(found.tags.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(found.user_data, "dXMtZWFzdC0xIGkx", "us-east-1 i1 in base64");
    until("the template has only the user's version", || cloud.moto.versions() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_on_demand_instance_costs_the_full_price() {
    let cloud = Cloud::start();
    let mut coordinator = cloud.ready("c", 4).await;
    coordinator.launch("i1", ON_DEMAND_A);
    let machine = coordinator.up("i1").await;
    assert_eq!(machine.price.usd_per_hour, machine.price.on_demand_usd_per_hour);
    assert_eq!(cloud.moto.running()[0].lifecycle, "on-demand");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_without_capacity_leaves_the_others() {
    let cloud = Cloud::start();
    cloud.moto.faults(&json!([{ "zone": "us-east-1a", "lifecycle": "spot", "code": "InsufficientInstanceCapacity" }]));
    let mut coordinator = cloud.ready("c", 4).await;
    coordinator.launch("i1", SPOT_A);
    let (kind, scope, message) = coordinator.failed("i1").await;
    assert_eq!((kind, scope), (LaunchErrorKind::NoCapacity, Scope::Zone), "{message}");
    coordinator.launch("i2", SPOT_B);
    coordinator.up("i2").await;
    coordinator.launch("i3", ON_DEMAND_A);
    coordinator.up("i3").await;
    assert_eq!(cloud.moto.running().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_without_capacity_leaves_the_other_types() {
    let cloud = Cloud::start();
    cloud.moto.faults(&json!([{ "instance_type": "m5.large", "code": "InsufficientInstanceCapacity" }]));
    let mut coordinator = cloud.ready("c", 4).await;
    coordinator.launch("i1", SPOT_A);
    assert_eq!(coordinator.up("i1").await.instance_type, "m5.xlarge");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_and_permissions_are_told_apart() {
    let cloud = Cloud::start();
    let mut coordinator = cloud.ready("c", 1).await;
    cloud.moto.faults(&json!([{ "code": "MaxSpotInstanceCountExceeded", "times": 4 }]));
    coordinator.launch("i1", SPOT_A);
    let (kind, scope, _) = coordinator.failed("i1").await;
    assert_eq!((kind, scope), (LaunchErrorKind::Quota, Scope::Region));

    cloud.moto.faults(&json!([]));
    cloud.moto.fail(&json!([{ "action": "CreateFleet", "code": "UnauthorizedOperation", "status": 403, "times": 1 }]));
    coordinator.launch("i2", SPOT_A);
    let (kind, scope, message) = coordinator.failed("i2").await;
    assert_eq!((kind, scope), (LaunchErrorKind::Configuration, Scope::Provider));
    assert!(message.contains("hint:"), "{message}");

    coordinator.launch("i3", SPOT_A);
    coordinator.up("i3").await;
    coordinator.launch("i4", SPOT_B);
    let (kind, scope, _) = coordinator.failed("i4").await;
    assert_eq!((kind, scope), (LaunchErrorKind::Quota, Scope::Pool), "the pool's own max");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_buys_nothing_twice() {
    let cloud = Cloud::start();
    let mut coordinator = cloud.ready("c", 4).await;
    cloud.moto.drop_answers("CreateFleet", 2);
    coordinator.launch("i1", SPOT_A);
    let machine = coordinator.up("i1").await;
    assert!(cloud.moto.calls("CreateFleet") >= 3);
    let running = cloud.moto.running();
    assert_eq!(running.iter().map(|it| &it.id).collect::<Vec<_>>(), [&machine.id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_before_it_heard_buys_nothing_twice() {
    let cloud = Cloud::start();
    // The restarted one can't see what was bought.
    cloud.moto.lag(Duration::from_secs(3600));
    let mut killed = cloud.ready("c", 4).await;
    killed.launch("i1", SPOT_A);
    let first = killed.up("i1").await;
    killed.launch("i2", SPOT_A);
    let second = killed.up("i2").await;
    drop(killed);

    let mut restarted = cloud.ready("c", 4).await;
    restarted.launch("i1", SPOT_A);
    assert_eq!(restarted.up("i1").await.id, first.id);
    cloud.moto.lag(Duration::ZERO);
    // The job has gone on meanwhile: not quite the same is asked for.
    restarted.launch_in(Generation(2), "i2", SPOT_A);
    assert_eq!(restarted.up("i2").await.id, second.id);
    assert_eq!(cloud.moto.running().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_come_up_while_the_api_throttles() {
    let cloud = Cloud::start();
    let mut coordinator = cloud.ready("c", 100).await;
    cloud.moto.throttle(20.0, 10);
    for n in 0..100 {
        coordinator.launch(&format!("i{n}"), if n % 2 == 0 { SPOT_A } else { SPOT_B });
    }
    let mut up = 0;
    let all = |event: &Event| match event {
        Event::InstanceUp { .. } => {
            up += 1;
            (up == 100).then_some(())
        }
        Event::LaunchFailed { error, .. } => panic!("{error:?}"),
        _ => None,
    };
    coordinator.next("a hundred up", all).await;
    assert_eq!(cloud.moto.running().len(), 100);
    coordinator.provider.stop(Duration::ZERO).await;
    assert_eq!(cloud.moto.running().len(), 0);
}
