//! Machines that come, go, come back, and are two of one.
#![allow(dead_code, reason = "each test program uses its own part of the machines")]

mod machines;

use coordinator_core::{DownCause, Event, Generation, InstanceId, JobId, PoolName, WorkerId};
use coordinator_provider::{LaunchRequest, Provider};
use coordinator_static::{Hello, Order, StaticProvider};
use machines::{Machines, RETURN_WITHIN};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver};

const SOON: Duration = Duration::from_secs(20);

struct Bench {
    machines: Machines,
    provider: Arc<StaticProvider>,
    events: UnboundedReceiver<Event>,
}

impl Bench {
    async fn new(names: &[&str]) -> Self {
        let mut machines = Machines::new(names);
        let (sender, events) = mpsc::unbounded_channel();
        let provider = machines.start(sender);
        let mut bench = Self { machines, provider, events };
        bench.capacity(u32::try_from(names.len()).expect("a few")).await;
        bench
    }

    async fn next<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let seek = async {
            loop {
                let event = self.events.recv().await.expect("the provider lives");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(SOON, seek).await.expect("the event in time")
    }

    async fn capacity(&mut self, expected: u32) {
        if self.provider.pools()[0].spec.capacity == expected {
            return;
        }
        self.next(|event| match event {
            Event::PoolChanged { pool } if pool.capacity == expected => Some(()),
            _ => None,
        })
        .await;
    }

    async fn listed(&mut self) -> Vec<InstanceId> {
        self.next(|event| match event {
            Event::InstancesListed { instances, .. } => Some(instances.iter().map(|(id, _)| id.clone()).collect()),
            _ => None,
        })
        .await
    }

    fn launch(&self, number: u32) -> InstanceId {
        let instance = InstanceId(format!("i{number}"));
        self.provider.launch(&LaunchRequest {
            instance: instance.clone(),
            worker: WorkerId(format!("w{number}")),
            pool: machines::pool(),
            job: JobId::from("job"),
            generation: Generation(0),
        });
        instance
    }

    async fn up(&mut self, number: u32) -> InstanceId {
        let instance = self.launch(number);
        self.next(|event| match event {
            Event::InstanceUp { instance: up, .. } if *up == instance => Some(()),
            Event::LaunchFailed { error, .. } => panic!("launch failed: {error:?}"),
            _ => None,
        })
        .await;
        instance
    }

    async fn down(&mut self) -> (InstanceId, DownCause) {
        self.next(|event| match event {
            Event::InstanceDown { instance, cause } => Some((instance.clone(), cause.clone())),
            _ => None,
        })
        .await
    }

    fn holder(&self, instance: &InstanceId) -> String {
        let being = self.machines.being();
        being.into_iter().find(|(_, being)| being == instance).expect("somebody is it").0
    }
}

#[tokio::test]
async fn a_machine_whose_trainer_is_killed_is_gone_after_a_while_and_another_takes_over() {
    let mut bench = Bench::new(&["a", "b"]).await;
    bench.listed().await;
    let instance = bench.up(1).await;
    let holder = bench.holder(&instance);
    bench.machines.kill(&holder).await;
    assert_eq!(bench.down().await, (instance, DownCause::Vanished));
    assert_eq!((bench.provider.pools()[0].spec.capacity, bench.provider.running()), (1, 0));
    bench.up(2).await;
    bench.machines.add("c");
    bench.capacity(2).await;
}

#[tokio::test]
async fn a_machine_that_is_given_up_is_told_to_end_when_it_comes_back() {
    let mut bench = Bench::new(&[]).await;
    let (orders, mut ordered) = mpsc::channel(16);
    let hello = |instance: Option<&str>| Hello {
        machine: "a".to_owned(),
        instance: instance.map(InstanceId::from),
        ..Hello::default()
    };
    let seat = bench.provider.join(&machines::pool(), hello(None), orders).expect("the pool is there");
    bench.listed().await;
    let instance = bench.launch(1);
    assert!(matches!(ordered.recv().await, Some(Order::Start { .. })));
    seat.started(&instance);
    drop(seat);
    bench.provider.terminate(&instance, Duration::from_secs(9));
    assert_eq!(bench.down().await, (instance.clone(), DownCause::Vanished));

    let (orders, mut ordered) = mpsc::channel(16);
    let _seat = bench.provider.join(&machines::pool(), hello(Some("i1")), orders).expect("the pool is there");
    let up = bench
        .next(|event| match event {
            Event::InstanceUp { instance, .. } => Some(instance.clone()),
            _ => None,
        })
        .await;
    assert_eq!(up, instance, "so that the scheduler can say that it does not want it");
    bench.provider.terminate(&instance, Duration::ZERO);
    assert_eq!(ordered.recv().await, Some(Order::End { instance, grace: Duration::ZERO }));
}

#[tokio::test]
async fn the_second_of_two_machines_that_are_one_instance_ends() {
    let mut bench = Bench::new(&["a"]).await;
    bench.listed().await;
    let instance = bench.up(1).await;
    let (orders, mut ordered) = mpsc::channel(16);
    let hello = Hello { machine: "b".to_owned(), instance: Some(instance.clone()), ..Hello::default() };
    let _seat = bench.provider.join(&machines::pool(), hello, orders).expect("the pool is there");
    assert_eq!(ordered.recv().await, Some(Order::End { instance, grace: Duration::ZERO }));
    bench.launch(2);
    let failed = bench
        .next(|event| match event {
            Event::LaunchFailed { instance, .. } => Some(instance.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failed, InstanceId::from("i2"), "it is not free before it has ended");
}

#[tokio::test]
async fn a_machine_that_does_not_end_what_it_is_told_to_is_given_up() {
    let mut bench = Bench::new(&[]).await;
    let (orders, mut ordered) = mpsc::channel(16);
    let hello = Hello { machine: "a".to_owned(), ..Hello::default() };
    let _seat = bench.provider.join(&machines::pool(), hello, orders).expect("the pool is there");
    bench.listed().await;
    bench.launch(1);
    assert!(matches!(ordered.recv().await, Some(Order::Start { .. })));
    // It reads its orders and does nothing about them.
    bench.provider.stop(Duration::ZERO).await;
    assert_eq!(bench.down().await, (InstanceId::from("i1"), DownCause::Vanished));
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_death() {
    let mut bench = Bench::new(&["a"]).await;
    bench.listed().await;
    let instance = bench.up(1).await;
    let (sender, events) = mpsc::unbounded_channel();
    bench.provider = bench.machines.start(sender);
    bench.events = events;
    let began = std::time::Instant::now();
    assert_eq!(bench.listed().await, [instance]);
    assert!(began.elapsed() >= RETURN_WITHIN, "machines are given the time to come back");
}

#[tokio::test]
async fn a_drill_gives_notice_and_the_machine_waits_again() {
    let mut bench = Bench::new(&["a"]).await;
    bench.listed().await;
    let instance = bench.up(1).await;
    bench.provider.evict(&instance, Duration::from_millis(50));
    bench
        .next(|event| match event {
            Event::EvictionNotice { .. } => Some(()),
            _ => None,
        })
        .await;
    assert_eq!(bench.down().await, (instance, DownCause::Evicted));
    bench.capacity(1).await;
    bench.up(2).await;
    assert_eq!(bench.provider.pools()[0].evictions, 1);
}

#[tokio::test]
async fn a_machine_that_leaves_begins_nothing_new() {
    let mut bench = Bench::new(&[]).await;
    let (orders, _ordered) = mpsc::channel(16);
    let hello = Hello { machine: "a".to_owned(), ..Hello::default() };
    let seat = bench.provider.join(&machines::pool(), hello.clone(), orders.clone()).expect("the pool is there");
    bench.capacity(1).await;
    seat.leaving();
    bench.capacity(0).await;
    let unknown = bench.provider.join(&PoolName::from("lib"), hello, orders).err().expect("no such pool");
    assert_eq!(unknown.to_string(), "pool: expected one of lab, found \"lib\"");
}
