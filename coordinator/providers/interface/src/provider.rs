//! The trait, and what goes in and out of it.

use async_trait::async_trait;
use coordinator_core::{Generation, InstanceId, JobId, PoolName, PoolSpec, ProviderName, WorkerId};
use std::sync::Arc;
use std::time::Duration;

/// Makes the token by which the worker on an instance proves who it is; it holds for that instance alone.
pub type WorkerToken = Arc<dyn Fn(&InstanceId) -> String + Send + Sync>;

/// What a machine fetches and runs: the trainer with its libraries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle {
    /// `s3://...`, `gs://...`, `https://...`.
    pub uri: String,
    /// Of its bytes, as the machine checks them.
    pub digest: String,
}

/// One instance to start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchRequest {
    /// Tags the machine; starting it twice starts one.
    pub instance: InstanceId,
    /// The worker on it.
    pub worker: WorkerId,
    /// From where: the name of a [`PoolSpec`] that this provider announced.
    pub pool: PoolName,
    /// Tags the machine; its logs go there.
    pub job: JobId,
    /// The job's newest when this was asked for; tags the machine.
    pub generation: Generation,
}

/// A pool, or one place of it, as it is now.
#[derive(Clone, PartialEq, Debug)]
pub struct PoolView {
    /// As the scheduler sees it.
    pub spec: PoolSpec,
    /// Instances that are not leaving.
    pub in_use: u32,
    /// Instances that it took since the coordinator started.
    pub evictions: u32,
    /// What makes its capacity move, in words; may be empty.
    pub note: String,
}

/// There is no pool of this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("pool: expected one of {known}, found {found:?}")]
pub struct UnknownPool {
    /// What was asked for.
    pub found: String,
    /// All names.
    pub known: String,
}

impl UnknownPool {
    /// This one is none of those.
    #[must_use]
    pub fn new<'n>(found: &PoolName, known: impl IntoIterator<Item = &'n PoolName>) -> Self {
        let known: Vec<&str> = known.into_iter().map(|name| name.0.as_str()).collect();
        Self { found: found.to_string(), known: known.join(", ") }
    }
}

/// Starts, ends and watches instances.
///
/// When one is made it looks for what already runs under the cluster's tag, and tells `InstancesListed` with all of it
/// and a `PoolChanged` for each of its pools: at once if it can, else as soon as its API answers. It lists again on a
/// timer. Instances of others are never touched; one under the tag that the scheduler does not know is ended, since the
/// scheduler answers the list with `Terminate`.
///
/// No call but [`Provider::stop`] waits: a driver that calls in here while its own queue is full can't be blocked by it.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// `local`, `static`, `aws` or `gcp`.
    fn name(&self) -> ProviderName;

    /// Starts an instance, unless it runs already: also across a restart of the coordinator, so that nothing is bought
    /// twice. Told: `InstanceUp` or `LaunchFailed`.
    fn launch(&self, request: &LaunchRequest);

    /// Lets the instance end by itself for so long, then ends it; 0 ends it at once. Told: `InstanceDown`, also for one
    /// that is not there.
    fn terminate(&self, instance: &InstanceId, grace: Duration);

    /// A drill: takes the instance with this notice, as an eviction would.
    fn evict(&self, instance: &InstanceId, notice: Duration);

    /// All of its pools and their places, by name.
    fn pools(&self) -> Vec<PoolView>;

    /// Bounds how many instances are taken from a pool, until the coordinator starts anew.
    ///
    /// # Errors
    /// There is no such pool here.
    fn set_capacity(&self, pool: &PoolName, capacity: u32) -> Result<PoolView, UnknownPool>;

    /// Instances that have not ended, as far as it knows.
    fn running(&self) -> usize;

    /// From now on nothing is taken but by request.
    fn pause(&self);

    /// Ends every instance under the cluster's tag and returns when none is left. Nothing can be launched any more.
    async fn stop(&self, grace: Duration);
}
