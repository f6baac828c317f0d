//! The provider against a Compute API that really answers, late and with faults.

use coordinator_core::{
    DownCause, Event, Generation, InstanceId, JobId, LaunchError, LaunchErrorKind, Market, PoolName, Scope, WorkerId,
};
use coordinator_gcp::{GcpConfig, GcpProvider, Pace, PoolConfig};
use coordinator_provider::conformance::{self, Foreign};
use coordinator_provider::{Bundle, LaunchRequest, Provider};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use trainctl_test_servers::{Booted, FakeGce, Fault, How, Misbehaviour};

/// Longest time for anything here on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const A: &str = "gcp/us-central1-a";
const B: &str = "gcp/us-central1-b";

struct Scene {
    cloud: FakeGce,
    provider: GcpProvider,
    events: UnboundedReceiver<Event>,
}

fn pace() -> Pace {
    Pace {
        list: Duration::from_millis(100),
        list_longest: Duration::from_millis(400),
        operation: Duration::from_millis(10),
        retry: Duration::from_millis(20),
        retries: 3,
        call: Duration::from_secs(2),
        ..Pace::default()
    }
}

fn provider(cloud: &FakeGce, cluster: &str, events: UnboundedSender<Event>) -> GcpProvider {
    let pool = PoolConfig {
        name: PoolName::from("gcp"),
        project: "p".to_owned(),
        zones: vec!["us-central1-a".to_owned(), "us-central1-b".to_owned()],
        machine_type: "g2-standard-8".to_owned(),
        instance_template: "projects/p/global/instanceTemplates/t".to_owned(),
        max: 120,
        spot_usd_per_hour: Some(0.3),
        on_demand: true,
        on_demand_usd_per_hour: 0.9,
        endpoint: Some(cloud.endpoint()),
    };
    GcpProvider::start(GcpConfig {
        cluster: cluster.to_owned(),
        coordinator_url: "https://10.0.0.5:7070".to_owned(),
        certificate: Some("MIIBcertificate".to_owned()),
        token: Arc::new(|instance| format!("token of {instance}")),
        bundle: Bundle { uri: "gs://bucket/bundle".to_owned(), digest: format!("sha256:{}", "0".repeat(64)) },
        pools: vec![pool],
        events,
        pace: pace(),
    })
}

fn request(instance: u32, offer: &str) -> LaunchRequest {
    LaunchRequest {
        instance: InstanceId(format!("i{instance}")),
        worker: WorkerId(format!("w{instance}")),
        pool: PoolName::from(offer),
        job: JobId::from("digits"),
        generation: Generation(3),
    }
}

fn name(instance: u32) -> String {
    format!("trainctl-c1-i{instance}")
}

fn is_of(event: &Event, instance: u32) -> bool {
    let id = format!("i{instance}");
    match event {
        Event::InstanceUp { instance, .. }
        | Event::InstanceDown { instance, .. }
        | Event::LaunchFailed { instance, .. }
        | Event::EvictionNotice { instance, .. } => instance.0 == id,
        _ => false,
    }
}

impl Scene {
    async fn new() -> Self {
        Self::of(FakeGce::start()).await
    }

    async fn of(cloud: FakeGce) -> Self {
        let mut scene = Self::start(cloud);
        scene.listed().await;
        scene
    }

    fn start(cloud: FakeGce) -> Self {
        let (tell, events) = unbounded_channel();
        let provider = provider(&cloud, "c1", tell);
        Self { cloud, provider, events }
    }

    /// The coordinator is gone; the cloud isn't.
    fn stop(self) -> FakeGce {
        self.cloud
    }

    async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("something is told").expect("the provider lives")
    }

    /// The next list that is told.
    async fn listed(&mut self) -> Vec<String> {
        loop {
            if let Event::InstancesListed { instances, .. } = self.next().await {
                return instances.into_iter().map(|(instance, _)| instance.0).collect();
            }
        }
    }

    /// The next that is told of this instance.
    async fn told(&mut self, instance: u32) -> Event {
        loop {
            let event = self.next().await;
            if is_of(&event, instance) {
                return event;
            }
        }
    }

    async fn up(&mut self, instance: u32, offer: &str) {
        self.provider.launch(&request(instance, offer));
        let event = self.told(instance).await;
        assert!(matches!(event, Event::InstanceUp { .. }), "{event:?}");
    }

    async fn down(&mut self, instance: u32) -> DownCause {
        match self.told(instance).await {
            Event::InstanceDown { cause, .. } => cause,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&mut self, instance: u32, offer: &str) -> (LaunchErrorKind, Scope) {
        self.provider.launch(&request(instance, offer));
        match self.told(instance).await {
            Event::LaunchFailed { error, .. } => (error.kind, error.scope),
            other => panic!("{other:?}"),
        }
    }

    fn names(&self) -> Vec<String> {
        self.cloud.vms().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "never: {what}: {:?}", self.names());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

struct World(FakeGce);

impl conformance::World for World {
    fn start(&mut self, events: UnboundedSender<Event>) -> Arc<dyn Provider> {
        Arc::new(provider(&self.0, "c1", events))
    }

    fn pool(&self) -> PoolName {
        PoolName::from(A)
    }

    async fn instances(&mut self) -> BTreeSet<InstanceId> {
        let ours = |vm: &Value| vm["labels"]["trainctl-cluster"] == "c1" && vm["status"] != "STOPPING";
        let vms = self.0.vms().into_iter().filter(ours);
        vms.map(|vm| InstanceId::from(vm["labels"]["trainctl-instance"].as_str().unwrap())).collect()
    }

    async fn foreign(&mut self) -> Option<Foreign> {
        let labels = json!({ "trainctl-cluster": "c2", "trainctl-instance": "i77" });
        self.0.make("p", "us-central1-a", json!({ "name": "trainctl-c2-i77", "labels": labels }));
        Some(Foreign("i77".to_owned()))
    }

    async fn lives(&mut self, _: &Foreign) -> bool {
        self.0.vms().iter().any(|vm| vm["name"] == "trainctl-c2-i77")
    }

    async fn refuse(&mut self) -> LaunchError {
        self.0.fail(fault("ZONE_RESOURCE_POOL_EXHAUSTED", How::Operation));
        LaunchError { kind: LaunchErrorKind::NoCapacity, scope: Scope::Zone, message: String::new() }
    }
}

coordinator_provider::conforms!(async || World(FakeGce::start()));

fn fault(code: &str, how: How) -> Fault {
    Fault {
        zone: Some("us-central1-a".to_owned()),
        spot: None,
        how,
        code: code.to_owned(),
        message: code.to_owned(),
        times: None,
    }
}

#[tokio::test]
async fn a_vm_is_what_was_asked_for() {
    let mut scene = Scene::new().await;
    scene.provider.launch(&request(1, A));
    let Event::InstanceUp { machine: Some(machine), pid: None, .. } = scene.told(1).await else { panic!("up") };
    assert_eq!(machine.id, format!("us-central1-a/{}", name(1)));
    assert_eq!((machine.instance_type.as_str(), machine.price.usd_per_hour), ("g2-standard-8", 0.3));
    let vm = scene.cloud.vms().remove(0);
    assert_eq!(vm["name"], name(1));
    assert!(vm["machineType"].as_str().unwrap().ends_with("/zones/us-central1-a/machineTypes/g2-standard-8"), "{vm}");
    let scheduling = json!({
        "provisioningModel": "SPOT", "instanceTerminationAction": "DELETE",
        "onHostMaintenance": "TERMINATE", "automaticRestart": false,
    });
    assert_eq!(vm["scheduling"], scheduling);
    let labels = json!({
        "trainctl-cluster": "c1", "trainctl-instance": "i1", "trainctl-worker": "w1", "trainctl-job": "digits",
        "trainctl-generation": "3", "trainctl-pool": "gcp",
    });
    assert_eq!(vm["labels"], labels);
    let item = &vm["metadata"]["items"][0];
    assert_eq!(item["key"], "user-data");
    assert!(item["value"].as_str().unwrap().starts_with("#cloud-config\n"), "{item}");
    scene.up(2, "gcp/us-central1-b/on-demand").await;
    assert_eq!(scene.cloud.vms()[1]["scheduling"]["provisioningModel"], "STANDARD");
}

#[tokio::test]
async fn offers_say_where_for_how_much_and_how_many() {
    let mut scene = Scene::new().await;
    let pools = scene.provider.pools();
    let told: Vec<_> =
        pools.iter().map(|pool| (pool.spec.name.0.as_str(), pool.spec.market, pool.spec.capacity)).collect();
    let expected = [
        (A, Market::Spot, 120),
        ("gcp/us-central1-a/on-demand", Market::OnDemand, 120),
        (B, Market::Spot, 120),
        ("gcp/us-central1-b/on-demand", Market::OnDemand, 120),
    ];
    assert_eq!(told, expected);
    scene.up(1, A).await;
    let pools = scene.provider.pools();
    assert_eq!((pools[0].in_use, pools[0].spec.capacity, pools[2].spec.capacity), (1, 120, 119));
    let bounded = scene.provider.set_capacity(&PoolName::from(A), 1).unwrap();
    assert_eq!(bounded.spec.capacity, 1);
    assert_eq!(scene.refused(2, A).await, (LaunchErrorKind::NoCapacity, Scope::Zone));
    let unknown = scene.provider.set_capacity(&PoolName::from("gcp"), 1).unwrap_err();
    assert!(unknown.to_string().contains(A), "{unknown}");
    scene.provider.set_capacity(&PoolName::from(A), 0).unwrap();
    assert!(matches!(scene.told(1).await, Event::EvictionNotice { .. }));
    assert_eq!(scene.provider.pools()[0].evictions, 1);
}

#[tokio::test]
async fn an_operation_that_fails_later_is_a_failed_launch() {
    let mut scene = Scene::new().await;
    scene.cloud.fail(fault("ZONE_RESOURCE_POOL_EXHAUSTED", How::Operation));
    assert_eq!(scene.refused(1, A).await, (LaunchErrorKind::NoCapacity, Scope::Zone));
    scene.up(2, B).await;
    scene.cloud.mend();
    scene.cloud.fail(fault("QUOTA_EXCEEDED", How::Operation));
    assert_eq!(scene.refused(3, A).await, (LaunchErrorKind::Quota, Scope::Region));
    scene.cloud.mend();
    scene.cloud.fail(fault("quotaExceeded", How::Request(403)));
    assert_eq!(scene.refused(4, A).await, (LaunchErrorKind::Quota, Scope::Region));
    scene.cloud.mend();
    scene.cloud.fail(fault("forbidden", How::Request(403)));
    assert_eq!(scene.refused(5, A).await, (LaunchErrorKind::Configuration, Scope::Provider));
    assert_eq!(scene.names(), [name(2)], "nothing else was made");
}

#[tokio::test]
async fn a_throttled_api_is_asked_again() {
    let mut scene = Scene::new().await;
    let throttled = Fault { times: Some(2), ..fault("rateLimitExceeded", How::Request(403)) };
    scene.cloud.fail(throttled);
    scene.up(1, A).await;
    assert_eq!(scene.cloud.insertions(), 3);
    assert_eq!(scene.names(), [name(1)]);
}

#[tokio::test]
async fn an_answer_that_is_lost_buys_nothing_twice() {
    let mut scene = Scene::new().await;
    scene.cloud.lose_answers(2);
    scene.up(1, A).await;
    scene.provider.launch(&request(1, A));
    assert!(matches!(scene.told(1).await, Event::InstanceUp { .. }));
    assert_eq!((scene.cloud.made(), scene.cloud.insertions()), (1, 3));
}

#[tokio::test]
async fn a_launch_that_was_under_way_when_the_coordinator_died_goes_on_after_it() {
    let cloud = FakeGce::start();
    cloud.operations_take(Duration::from_secs(3600));
    let mut first = Scene::of(cloud).await;
    first.provider.launch(&request(1, A));
    first.until("the VM is made", |scene| scene.cloud.made() == 1).await;
    let mut scene = Scene::of(first.stop()).await;
    // It is listed as it starts, so it is there: the same launch again makes no other.
    scene.up(1, A).await;
    assert_eq!(scene.cloud.made(), 1);
}

#[tokio::test]
async fn what_runs_is_found_again_and_others_are_left_alone() {
    let mut scene = Scene::new().await;
    scene.cloud.page(2);
    for instance in 1..=3 {
        scene.up(instance, A).await;
    }
    scene.cloud.make("p", "us-central1-a", json!({ "name": "web-1", "labels": { "team": "web" } }));
    scene.cloud.make("p", "us-central1-a", json!({ "name": "db-1" }));
    let other = json!({ "trainctl-cluster": "c2", "trainctl-instance": "i1" });
    scene.cloud.make("p", "us-central1-b", json!({ "name": "trainctl-c2-i1", "labels": other }));
    scene.cloud.make("q", "us-central1-a", json!({ "name": "elsewhere" }));
    let mut scene = Scene::start(scene.stop());
    assert_eq!(scene.listed().await, ["i1", "i2", "i3"]);
    let Event::InstanceUp { machine: Some(machine), .. } = scene.told(2).await else { panic!("what it costs") };
    assert_eq!(machine.price.usd_per_hour, 0.3);
    assert_eq!(scene.provider.running(), 3);
    timeout(PATIENCE, scene.provider.stop(Duration::ZERO)).await.expect("it stops");
    let mut left = scene.names();
    left.sort();
    assert_eq!(left, ["db-1", "elsewhere", "trainctl-c2-i1", "web-1"]);
}

#[tokio::test]
async fn an_eviction_is_told_with_its_cause() {
    let mut scene = Scene::new().await;
    for instance in 1..=3 {
        scene.up(instance, A).await;
    }
    scene.cloud.preempt(&name(1), Duration::from_secs(1));
    let event = scene.told(1).await;
    assert!(matches!(event, Event::EvictionNotice { .. }), "{event:?}");
    assert_eq!(scene.down(1).await, DownCause::Evicted);
    scene.cloud.preempt(&name(2), Duration::ZERO);
    loop {
        match scene.told(2).await {
            Event::InstanceDown { cause, .. } => break assert_eq!(cause, DownCause::Evicted),
            Event::EvictionNotice { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    scene.cloud.vanish(&name(3));
    assert_eq!(scene.down(3).await, DownCause::Vanished);
    assert_eq!(scene.provider.pools()[0].evictions, 2);
    assert_eq!(scene.provider.running(), 0);
}

#[tokio::test]
async fn a_vm_that_stopped_by_itself_is_told_of_and_deleted() {
    let mut scene = Scene::new().await;
    scene.up(1, "gcp/us-central1-a/on-demand").await;
    scene.cloud.power_off(&name(1));
    assert_eq!(scene.down(1).await, DownCause::Vanished);
    scene.until("its disk is given back", |scene| scene.cloud.vms().is_empty()).await;
}

#[tokio::test]
async fn a_vm_whose_worker_has_ended_powers_itself_off_and_costs_no_more() {
    let boots = |booted: &Booted| {
        assert!(booted.metadata["user-data"].contains("TRAINCTL_INSTANCE"));
        let mut worker = Command::new("sh");
        worker.args(["-c", "test -n \"$GCE_METADATA_HOST\" && exec sleep 0.3"]);
        (booted.labels["trainctl-instance"] == "i1").then_some(worker)
    };
    let mut scene = Scene::of(FakeGce::start_with(Box::new(boots))).await;
    scene.up(1, A).await;
    scene.up(2, A).await;
    assert_eq!(scene.down(1).await, DownCause::Vanished);
    scene.until("its disk is given back", |scene| scene.names() == [name(2)]).await;
}

#[tokio::test]
async fn what_is_ended_is_gone_when_that_is_told() {
    let mut scene = Scene::new().await;
    scene.up(1, A).await;
    scene.provider.terminate(&InstanceId::from("i1"), Duration::from_millis(50));
    assert_eq!(scene.down(1).await, DownCause::Terminated);
    assert_eq!(scene.names(), Vec::<String>::new());
    scene.provider.terminate(&InstanceId::from("i9"), Duration::ZERO);
    assert_eq!(scene.down(9).await, DownCause::Vanished);
    // The list that was on its way when it ended doesn't bring it back.
    for _ in 0..3 {
        assert_eq!(scene.listed().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn one_that_is_ended_while_it_is_bought_is_not_left_behind() {
    let mut scene = Scene::new().await;
    scene.cloud.operations_take(Duration::from_millis(200));
    scene.provider.launch(&request(1, A));
    scene.provider.terminate(&InstanceId::from("i1"), Duration::ZERO);
    assert!(matches!(scene.told(1).await, Event::InstanceUp { .. }));
    assert_eq!(scene.down(1).await, DownCause::Terminated);
    assert_eq!(scene.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_drill_takes_the_vm_after_its_notice() {
    let mut scene = Scene::new().await;
    scene.up(1, A).await;
    scene.provider.evict(&InstanceId::from("i1"), Duration::from_millis(300));
    assert!(matches!(scene.told(1).await, Event::EvictionNotice { .. }));
    assert_eq!(scene.names(), [name(1)]);
    assert_eq!(scene.down(1).await, DownCause::Evicted);
    assert_eq!(scene.names(), Vec::<String>::new());
}

#[tokio::test]
async fn an_api_that_is_down_loses_nothing() {
    let mut scene = Scene::new().await;
    for instance in 1..=3 {
        scene.up(instance, A).await;
    }
    for fault in
        [Misbehaviour::Status(503), Misbehaviour::Cuts, Misbehaviour::Says("<html>".to_owned()), Misbehaviour::Hangs]
    {
        scene.cloud.misbehave(Some(fault.clone()));
        scene.until("the trouble is noticed", |scene| !scene.provider.pools()[0].note.is_empty()).await;
        scene.cloud.misbehave(None);
        scene.until("the trouble is over", |scene| scene.provider.pools()[0].note.is_empty()).await;
        assert_eq!(scene.provider.running(), 3, "after {fault:?}");
    }
    scene.cloud.misbehave(Some(Misbehaviour::Status(503)));
    scene.provider.terminate(&InstanceId::from("i2"), Duration::ZERO);
    assert_eq!(scene.refused(4, A).await, (LaunchErrorKind::Transient, Scope::Provider));
    scene.cloud.misbehave(Some(Misbehaviour::Status(401)));
    assert_eq!(scene.refused(5, A).await, (LaunchErrorKind::Configuration, Scope::Provider));
    scene.cloud.misbehave(None);
    assert_eq!(scene.down(2).await, DownCause::Terminated);
    assert_eq!(scene.names(), [name(1), name(3)]);
}

#[tokio::test]
async fn an_api_that_is_down_at_the_start_is_waited_for() {
    let cloud = FakeGce::start();
    cloud.misbehave(Some(Misbehaviour::Status(503)));
    let mut scene = Scene::start(cloud);
    scene.until("the trouble is noticed", |scene| !scene.provider.pools()[0].note.is_empty()).await;
    assert!(scene.events.is_empty(), "nothing is told before the API has answered");
    scene.cloud.misbehave(None);
    assert_eq!(scene.listed().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_vm_of_the_same_name_that_is_not_ours_is_not_used() {
    let mut scene = Scene::new().await;
    scene.cloud.make("p", "us-central1-a", json!({ "name": name(1) }));
    assert_eq!(scene.refused(1, A).await, (LaunchErrorKind::Configuration, Scope::Pool));
    assert_eq!(scene.names(), [name(1)]);
}

#[tokio::test]
async fn a_vm_that_no_list_has_yet_is_not_taken_for_gone() {
    let mut scene = Scene::new().await;
    scene.cloud.list_late(Duration::from_secs(3600));
    scene.up(1, A).await;
    // The second of these was asked for when the VM was there already.
    for _ in 0..3 {
        assert_eq!(scene.listed().await, ["i1"]);
    }
    assert_eq!(scene.provider.running(), 1);
    scene.cloud.vanish(&name(1));
    assert_eq!(scene.down(1).await, DownCause::Vanished);
}

#[tokio::test]
async fn a_hundred_at_once_while_the_api_throttles() {
    let mut scene = Scene::new().await;
    scene.cloud.fail(Fault { zone: None, times: Some(40), ..fault("rateLimitExceeded", How::Request(403)) });
    for instance in 1..=100 {
        scene.provider.launch(&request(instance, if instance % 2 == 0 { A } else { B }));
    }
    let (mut up, mut failed) = (0, 0);
    while up + failed < 100 {
        match scene.next().await {
            Event::InstanceUp { .. } => up += 1,
            Event::LaunchFailed { error, .. } => {
                assert_eq!(error.kind, LaunchErrorKind::Transient);
                failed += 1;
            }
            _ => {}
        }
    }
    assert_eq!(scene.cloud.vms().len(), up, "{failed} failed");
    timeout(PATIENCE, scene.provider.stop(Duration::ZERO)).await.expect("it stops");
    assert_eq!(scene.cloud.vms(), Vec::<Value>::new());
}
