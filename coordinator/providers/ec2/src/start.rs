//! The whole provider: `coordinator-aws` on EC2 itself, with machines that fetch and run the bundle.

use crate::access::Access;
use crate::client::Client;
use coordinator_aws::{AwsConfig, AwsProvider, Ec2, Pace, PoolConfig, UserData};
use coordinator_core::Event;
use coordinator_provider::{Bundle, LaunchRequest, Provider, WorkerToken};
use std::sync::Arc;
use tokio::sync::mpsc;
use trainctl_boot::{Boot, Notices, cloud_config};

/// A machine ends itself when the coordinator hasn't answered for so long.
const ORPHAN_MINUTES: u32 = 15;

/// What the provider needs to know.
pub struct Ec2Config {
    /// Tags every machine.
    pub cluster: String,
    /// How machines reach the coordinator.
    pub coordinator_url: String,
    /// By which they know it; `None`: it answers in the clear.
    pub certificate: Option<String>,
    /// Makes the token of an instance's worker.
    pub token: WorkerToken,
    /// What a machine fetches and runs.
    pub bundle: Bundle,
    /// The pools.
    pub pools: Vec<PoolConfig>,
    /// Where all is told.
    pub events: mpsc::UnboundedSender<Event>,
}

/// Returns at once, in a tokio runtime; an API that does not answer is asked again, and told of in the log.
pub fn start(config: Ec2Config) -> Arc<dyn Provider> {
    let Ec2Config { cluster, coordinator_url, certificate, token, bundle, pools, events } = config;
    let user_data: UserData = {
        let cluster = cluster.clone();
        Arc::new(move |_: &str, request: &LaunchRequest| {
            cloud_config(&Boot {
                cluster: cluster.clone(),
                instance: request.instance.clone(),
                worker: request.worker.clone(),
                coordinator_url: coordinator_url.clone(),
                certificate: certificate.clone(),
                join_token: token(&request.instance),
                bundle_uri: bundle.uri.clone(),
                bundle_digest: bundle.digest.clone(),
                notices: Notices::Ec2,
                orphan_minutes: ORPHAN_MINUTES,
            })
        })
    };
    let config = AwsConfig { cluster, pools, user_data: Some(user_data), pace: Pace::default(), events };
    let ec2 = |region: &str| -> Arc<dyn Ec2> { Arc::new(Client::new(region, Access::default())) };
    Arc::new(AwsProvider::start(config, ec2))
}
