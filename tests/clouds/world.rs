//! Two clouds, and coordinators that may use both.

use crate::cloud_init::worker;
use crate::machines::Ec2Machines;
use crate::{PATIENCE, text};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;
use trainctl_test_servers::{Boot, FakeGce, Fault, How, Misbehaviour, Moto, Network};
use trainctl_tests::{Cluster, Options, eventually};

const REGION: &str = "us-east-1";
pub(crate) const ZONES: [&str; 3] = ["us-east-1a", "us-east-1b", "us-east-1c"];
/// Nothing fetches it here.
const BUNDLE: &str = "uri = [\"s3://bundles/trainctl.tar.zst\", \"gs://bundles/trainctl.tar.zst\"]\n\
                      digest = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"";

pub(crate) struct World {
    pub(crate) ec2: Arc<Moto>,
    pub(crate) gce: FakeGce,
    network: Network,
    /// None: instances of EC2 run, and nothing on them.
    _machines: Option<Ec2Machines>,
    _logs: TempDir,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::start_with(true)
    }

    /// In which no machine of EC2 boots: there may be more than this one could carry.
    pub(crate) fn start_unmanned() -> Self {
        Self::start_with(false)
    }

    fn start_with(boots: bool) -> Self {
        let ec2 = Arc::new(Moto::start());
        let network = ec2.network(REGION, &ZONES);
        ec2.price("m5.large", 0.03);
        let logs = TempDir::new().expect("make a folder");
        let _machines = boots.then(|| Ec2Machines::start(Arc::clone(&ec2), logs.path().to_owned()));
        let gce = FakeGce::start_with(boot(logs.path()));
        Self { ec2, gce, network, _machines, _logs: logs }
    }

    /// A coordinator with a pool in each cloud, when it knows all their places. It speaks TLS, as with all machines
    /// that are not its own.
    pub(crate) fn cluster(&self) -> Cluster {
        self.cluster_of(8)
    }

    /// The same with at most so many instances of EC2.
    pub(crate) fn cluster_of(&self, max: usize) -> Cluster {
        let pools = format!(
            "[bundle]\n{BUNDLE}\n[pools.aws]\nkind = \"aws\"\nmax = {max}\non_demand = true\nlaunch_template = \"{}\"\n\
             instance_types = [{{ name = \"m5.large\", on_demand_usd_per_hour = 0.096 }}]\n\
             [pools.aws.regions.{REGION}]\nsubnets = {:?}\n\
             [pools.gcp]\nkind = \"gcp\"\nproject = \"p\"\nzones = [\"us-central1-a\", \"us-central1-b\"]\n\
             machine_type = \"n2-standard-2\"\ninstance_template = \"workers\"\nmax = 8\n\
             usd_per_hour = 0.04\non_demand_usd_per_hour = 0.12\nendpoint = \"{}\"\n\
             [coordinator]\nurl = \"https://ADDRESS\"\n",
            self.network.launch_template,
            self.network.subnets,
            self.gce.endpoint(),
        );
        let listen = format!("127.0.0.1:{}", trainctl_test_servers::free_port());
        let variables = self.ec2.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let options = Options { pools: pools.replace("ADDRESS", &listen), environment: variables };
        let mut cluster = Cluster::prepare(options);
        cluster.listen_at(&listen);
        cluster.encrypt();
        cluster.start();
        eventually("all places are known", PATIENCE, || {
            let pools = cluster.json(&["pool", "ls"]);
            (pools.as_array().map(Vec::len) == Some(8)).then_some(())
        });
        cluster
    }

    /// There is nothing on demand in either cloud, and spot but in these zones of EC2.
    pub(crate) fn only_spot_and_not_in(&self, zones: &[&str]) {
        let mut faults: Vec<Value> = zones.iter().map(|zone| lacks("spot", zone)).collect();
        faults.push(lacks("on-demand", "*"));
        self.ec2.faults(&faults.into());
        self.gce_lacks("on-demand");
    }

    /// There is no spot in either cloud.
    pub(crate) fn only_on_demand(&self) {
        self.ec2.faults(&json!([lacks("spot", "*")]));
        self.gce_lacks("spot");
    }

    fn gce_lacks(&self, lifecycle: &str) {
        self.gce.mend();
        self.gce.fail(Fault {
            zone: None,
            spot: Some(lifecycle == "spot"),
            how: How::Operation,
            code: "ZONE_RESOURCE_POOL_EXHAUSTED".to_owned(),
            message: "The zone does not have enough resources available to fulfill the request.".to_owned(),
            times: None,
        });
    }

    pub(crate) fn outage(&self, down: bool) {
        self.ec2.outage(down);
        self.gce.misbehave(down.then_some(Misbehaviour::Hangs));
    }

    /// Machines of both clouds that run.
    pub(crate) fn running(&self) -> usize {
        let runs = |vm: &&Value| matches!(text(&vm["status"]), "PROVISIONING" | "STAGING" | "RUNNING");
        self.ec2.running().len() + self.gce.vms().iter().filter(runs).count()
    }

    /// Once all jobs have ended, no machine is paid for.
    pub(crate) fn nothing_is_left(&self, cluster: &Cluster) {
        eventually(format!("all machines are given back\n{}", cluster.coordinator_log()), PATIENCE, || {
            (self.running() == 0).then_some(())
        });
    }

    /// What was paid is each machine's time at its price, to the millisecond.
    pub(crate) fn adds_up(&self, cluster: &Cluster, job: &str) {
        let cost = eventually("all instances have ended", PATIENCE, || {
            let cost = cluster.json(&["cost", job]);
            let ended = cost["instances"].as_array().is_some_and(|all| all.iter().all(|one| !one["end"].is_null()));
            ended.then_some(cost)
        });
        let instances = cost["instances"].as_array().expect("instances");
        let sum = |key: &str| instances.iter().filter_map(|one| one[key].as_f64()).sum::<f64>();
        let paid = cost["total"]["instances_usd"].as_f64().expect("a sum");
        assert!((sum("paid_usd") - paid).abs() < 1e-9, "{cost:#}");
        assert!(instances.len() >= 4, "{cost:#}");
        for one in instances {
            let (ms, usd) = (one["ms"].as_f64().expect("a time"), one["paid_usd"].as_f64().expect("a sum"));
            let price = match (text(&one["pool"]).starts_with("aws"), one["market"] == "spot") {
                (true, true) => 0.03,
                (true, false) => 0.096,
                (false, true) => 0.04,
                (false, false) => 0.12,
            };
            assert!((usd - ms * price / 3.6e6).abs() < 1e-9, "{one:#}");
        }
    }
}

/// A zone of EC2, or all (`*`), has no capacity of this lifecycle.
fn lacks(lifecycle: &str, zone: &str) -> Value {
    json!({ "zone": zone, "lifecycle": lifecycle, "code": "InsufficientInstanceCapacity" })
}

fn boot(logs: &Path) -> Boot {
    let (logs, addresses) = (logs.to_owned(), AtomicU8::new(0));
    Box::new(move |booted| {
        let number = addresses.fetch_add(1, Ordering::Relaxed) + 1;
        let log = File::create(logs.join(format!("{}.log", booted.name))).expect("write a log");
        let mut command = worker(&booted.metadata["user-data"], &format!("127.0.2.{number}"));
        command.stdout(Stdio::null()).stderr(log);
        Some(command)
    })
}
