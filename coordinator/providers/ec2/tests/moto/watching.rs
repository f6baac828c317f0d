//! What goes on with instances that were bought, and with those of others.

use crate::coordinator::{Cloud, Coordinator, REGION, SPOT_A, until};
use coordinator_core::{DownCause, Event, InstanceId, Machine, PoolName};
use coordinator_provider::Provider;
use std::time::Duration;

async fn one(cloud: &Cloud) -> (Coordinator, Machine) {
    let mut coordinator = cloud.ready("c", 4).await;
    coordinator.launch("i1", SPOT_A);
    let machine = coordinator.up("i1").await;
    (coordinator, machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_taken_is_told_as_evicted() {
    let cloud = Cloud::start();
    let (mut coordinator, machine) = one(&cloud).await;
    cloud.moto.take(&machine.id);
    assert_eq!(coordinator.down("i1").await, DownCause::Evicted);
    let pools = coordinator.provider.pools();
    let evictions: Vec<_> =
        pools.iter().filter(|pool| pool.evictions > 0).map(|pool| pool.spec.name.0.as_str()).collect();
    assert_eq!(evictions, [SPOT_A]);

    coordinator.launch("i2", SPOT_A);
    let machine = coordinator.up("i2").await;
    cloud.moto.interrupt(&machine.id, Duration::from_secs(1));
    assert_eq!(coordinator.down("i2").await, DownCause::Evicted);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_ends_are_told_as_what_they_are() {
    let cloud = Cloud::start();
    let (mut coordinator, machine) = one(&cloud).await;
    cloud.moto.power_off(&machine.id);
    assert_eq!(coordinator.down("i1").await, DownCause::Exited(0));

    coordinator.launch("i2", SPOT_A);
    let machine = coordinator.up("i2").await;
    cloud.moto.vanish(&machine.id);
    assert_eq!(coordinator.down("i2").await, DownCause::Vanished);

    coordinator.launch("i3", SPOT_A);
    let machine = coordinator.up("i3").await;
    cloud.moto.stop(&machine.id);
    assert_eq!(coordinator.down("i3").await, DownCause::Vanished);
    until("the stopped one is ended", || {
        cloud.moto.instances().iter().any(|it| it.id == machine.id && it.state == "terminated")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_may_be_invisible_at_first_and_end_even_so() {
    let cloud = Cloud::start();
    cloud.moto.lag(Duration::from_secs(1));
    let (mut coordinator, _) = one(&cloud).await;
    coordinator.terminate("i1", Duration::ZERO);
    assert_eq!(coordinator.down("i1").await, DownCause::Terminated);
    assert_eq!(cloud.moto.running().len(), 0);
    coordinator.terminate("i1", Duration::ZERO);
    assert_eq!(coordinator.down("i1").await, DownCause::Vanished);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_is_kept() {
    let cloud = Cloud::start();
    let (mut coordinator, machine) = one(&cloud).await;
    coordinator.terminate("i1", Duration::from_secs(3600));
    assert_eq!(coordinator.listed().await, ["i1"]);
    // It ends by itself within its time.
    cloud.moto.power_off(&machine.id);
    assert_eq!(coordinator.down("i1").await, DownCause::Terminated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_takes_an_instance_with_a_notice() {
    let cloud = Cloud::start();
    let (mut coordinator, _) = one(&cloud).await;
    coordinator.provider.evict(&InstanceId::from("i1"), Duration::from_millis(500));
    let notice = |event: &Event| matches!(event, Event::EvictionNotice { .. }).then_some(());
    coordinator.next("a notice", notice).await;
    assert_eq!(coordinator.down("i1").await, DownCause::Evicted);
    assert_eq!(cloud.moto.running().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_youngest_goes_when_an_offer_shrinks() {
    let cloud = Cloud::start();
    let (mut coordinator, _) = one(&cloud).await;
    coordinator.launch("i2", SPOT_A);
    coordinator.up("i2").await;
    coordinator.provider.set_capacity(&PoolName::from(SPOT_A), 1).expect("the offer is there");
    let noticed = |event: &Event| match event {
        Event::EvictionNotice { instance, .. } => Some(instance.0.clone()),
        _ => None,
    };
    assert_eq!(coordinator.next("a notice", noticed).await, "i2");
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_are_followed() {
    let cloud = Cloud::start();
    let (mut coordinator, _) = one(&cloud).await;
    cloud.moto.price("m5.large/us-east-1a", 0.07);
    cloud.moto.price("m5.xlarge/us-east-1a", 0.19);
    let moved = |event: &Event| match event {
        Event::PriceMoved { instance, price } => Some((instance.0.clone(), price.usd_per_hour)),
        _ => None,
    };
    assert_eq!(coordinator.next("a price", moved).await, ("i1".to_owned(), 0.07));
    let told = |event: &Event| match event {
        Event::PoolChanged { pool } if pool.name.0 == SPOT_A => pool.price.map(|price| price.usd_per_hour),
        _ => None,
    };
    assert_eq!(coordinator.next("an offer's price", told).await, 0.07);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_others_is_touched_and_nothing_of_ours_is_left() {
    let cloud = Cloud::start();
    let untagged = cloud.moto.run(REGION, "us-east-1a", &[]);
    let foreign = cloud.moto.run(REGION, "us-east-1a", &[("trainctl:cluster", "d"), ("trainctl:instance", "i1")]);
    let (mut coordinator, machine) = one(&cloud).await;
    // Two of ours that no coordinator knows of: one was bought by somebody else, one bears a name that is taken.
    let stray = cloud.moto.run(REGION, "us-east-1b", &[("trainctl:cluster", "c")]);
    let double = cloud.moto.run(REGION, "us-east-1b", &[("trainctl:cluster", "c"), ("trainctl:instance", "i1")]);
    let with_both = |event: &Event| match event {
        Event::InstancesListed { instances, .. } if instances.len() == 3 => {
            Some(instances.iter().map(|(id, _)| id.0.clone()).collect::<Vec<_>>())
        }
        _ => None,
    };
    let listed = coordinator.next("a list with both", with_both).await;
    assert!(listed.contains(&stray) && listed.contains(&double) && listed.contains(&"i1".to_owned()), "{listed:?}");
    // What the scheduler answers for those that it does not know.
    for unknown in [&stray, &double] {
        coordinator.terminate(unknown, Duration::ZERO);
        assert_eq!(coordinator.down(unknown).await, DownCause::Terminated);
    }
    let ids = || cloud.moto.running().into_iter().map(|it| it.id).collect::<Vec<_>>();
    assert_eq!(ids().len(), 3);
    assert!(ids().contains(&machine.id));

    let late = cloud.moto.run(REGION, "us-east-1b", &[("trainctl:cluster", "c"), ("trainctl:instance", "i7")]);
    coordinator.provider.stop(Duration::ZERO).await;
    assert!(!ids().contains(&late));
    let mut left = ids();
    left.sort();
    let mut others = vec![untagged, foreign];
    others.sort();
    assert_eq!(left, others);
}
