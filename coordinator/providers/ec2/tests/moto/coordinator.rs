//! What stands around the provider: a cloud, and whoever hears what it tells.

use coordinator_aws::{AwsConfig, AwsProvider, Ec2, Pace, PoolConfig, RegionConfig, Template, TypeConfig, UserData};
use coordinator_core::{
    DownCause, Event, Generation, InstanceId, JobId, LaunchErrorKind, Machine, PoolName, Scope, WorkerId,
};
use coordinator_ec2::{Access, Client};
use coordinator_provider::{LaunchRequest, Provider};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc;
use trainctl_test_servers::{Moto, Network};

pub(crate) const REGION: &str = "us-east-1";
pub(crate) const SPOT_A: &str = "aws/us-east-1a";
pub(crate) const SPOT_B: &str = "aws/us-east-1b";
pub(crate) const ON_DEMAND_A: &str = "aws/us-east-1a/on-demand";
const PATIENCE: Duration = Duration::from_secs(90);

/// EC2 with a network, and credentials to use it.
pub(crate) struct Cloud {
    pub(crate) moto: Moto,
    network: Network,
    folder: TempDir,
}

impl Cloud {
    pub(crate) fn start() -> Self {
        let moto = Moto::start();
        let network = moto.network(REGION, &["us-east-1a", "us-east-1b"]);
        let cloud = Self { moto, network, folder: TempDir::new().expect("make a folder") };
        cloud.use_key("AKIAFIRST");
        cloud
    }

    /// From now on these credentials are in the file.
    pub(crate) fn use_key(&self, key: &str) {
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = only-for-tests\n");
        std::fs::write(self.folder.path().join("credentials"), text).expect("write credentials");
    }

    /// A coordinator's provider of this cluster.
    pub(crate) fn provider(&self, cluster: &str, max: u32) -> Coordinator {
        let (events, receiver) = mpsc::unbounded_channel();
        Coordinator { provider: self.start_provider(cluster, max, events), events: receiver }
    }

    pub(crate) fn start_provider(&self, cluster: &str, max: u32, events: mpsc::UnboundedSender<Event>) -> AwsProvider {
        let user_data: UserData = Arc::new(|region, request| format!("{region} {}", request.instance));
        let config = AwsConfig {
            cluster: cluster.to_owned(),
            pools: vec![self.pool(max)],
            user_data: Some(user_data),
            pace: pace(),
            events,
        };
        let access =
            Access { endpoint: Some(self.moto.endpoint()), credentials: Some(self.folder.path().join("credentials")) };
        AwsProvider::start(config, |region| -> Arc<dyn Ec2> { Arc::new(Client::new(region, access.clone())) })
    }

    /// One whose first list and offers have been told.
    pub(crate) async fn ready(&self, cluster: &str, max: u32) -> Coordinator {
        let mut coordinator = self.provider(cluster, max);
        assert_eq!(coordinator.listed().await, [""; 0]);
        coordinator
    }

    fn pool(&self, max: u32) -> PoolConfig {
        let kind = |name: &str, speed, usd| TypeConfig { name: name.to_owned(), speed, on_demand_usd_per_hour: usd };
        let template = Template { name: self.network.launch_template.clone(), version: "$Default".to_owned() };
        let region = RegionConfig { subnets: self.network.subnets.clone(), template };
        PoolConfig {
            name: PoolName::from("aws"),
            max,
            spot: true,
            on_demand: true,
            types: vec![kind("m5.large", 1.0, 0.096), kind("m5.xlarge", 2.0, 0.192)],
            regions: BTreeMap::from([(REGION.to_owned(), region)]),
        }
    }
}

fn pace() -> Pace {
    Pace {
        look: Duration::from_millis(100),
        list: Duration::from_secs(1),
        price: Duration::from_millis(300),
        visible: Duration::from_secs(2),
        pause: Duration::from_millis(20),
        patience: Duration::from_secs(60),
        launches: 8,
    }
}

/// Hears what the provider tells.
pub(crate) struct Coordinator {
    pub(crate) provider: AwsProvider,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Coordinator {
    pub(crate) fn launch(&self, instance: &str, pool: &str) {
        self.launch_in(Generation(1), instance, pool);
    }

    pub(crate) fn launch_in(&self, generation: Generation, instance: &str, pool: &str) {
        self.provider.launch(&LaunchRequest {
            instance: InstanceId::from(instance),
            worker: WorkerId(instance.replace('i', "w")),
            pool: PoolName::from(pool),
            job: JobId::from("digits"),
            generation,
        });
    }

    pub(crate) fn terminate(&self, instance: &str, grace: Duration) {
        self.provider.terminate(&InstanceId::from(instance), grace);
    }

    /// The first event that this takes; those before it are passed over.
    pub(crate) async fn next<T>(&mut self, what: &str, mut take: impl FnMut(&Event) -> Option<T>) -> T {
        let mut passed = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.expect("the provider lives");
                match take(&event) {
                    Some(taken) => return taken,
                    None => passed.push(event),
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("{what} was not told, but {passed:#?}"))
    }

    /// All events up to now.
    pub(crate) fn told(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    pub(crate) async fn listed(&mut self) -> Vec<String> {
        let take = |event: &Event| match event {
            Event::InstancesListed { instances, .. } => Some(instances.iter().map(|(id, _)| id.0.clone()).collect()),
            _ => None,
        };
        self.next("a list", take).await
    }

    pub(crate) async fn up(&mut self, wanted: &str) -> Machine {
        let take = |event: &Event| match event {
            Event::InstanceUp { instance, machine, .. } if instance.0 == wanted => machine.clone(),
            Event::LaunchFailed { instance, error } if instance.0 == wanted => panic!("{error:?}"),
            _ => None,
        };
        self.next(&format!("{wanted} up"), take).await
    }

    pub(crate) async fn down(&mut self, wanted: &str) -> DownCause {
        let take = |event: &Event| match event {
            Event::InstanceDown { instance, cause } if instance.0 == wanted => Some(cause.clone()),
            _ => None,
        };
        self.next(&format!("{wanted} down"), take).await
    }

    pub(crate) async fn failed(&mut self, wanted: &str) -> (LaunchErrorKind, Scope, String) {
        let take = |event: &Event| match event {
            Event::LaunchFailed { instance, error } if instance.0 == wanted => {
                Some((error.kind, error.scope, error.message.clone()))
            }
            _ => None,
        };
        self.next(&format!("{wanted} failed"), take).await
    }
}

/// Looks again and again, until it holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
