//! What every provider must do, for each one's own tests:
//!
//! ```ignore
//! coordinator_provider::conforms!(async || MyWorld::new().await);
//! ```
//!
//! makes one test of each function here. Each begins in a new [`World`]: the provider's API or machines, real or a stand-in
//! that behaves as they do, which outlive the provider itself, as they outlive a coordinator.

use crate::{LaunchRequest, Provider};
use coordinator_core::{
    DownCause, Event, Generation, InstanceId, JobId, LaunchError, PoolName, PoolSpec, ProviderName, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep, timeout_at};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing must happen for it to count as nothing.
const QUIET: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

/// Where a provider's instances are, with room for at least two in [`World::pool`].
pub trait World: Send {
    /// Starts the provider over it; the one before is gone by then. It tells what happens on the channel.
    fn start(&mut self, events: UnboundedSender<Event>) -> Arc<dyn Provider>;

    /// A pool, or one place of it, as the provider announces it.
    fn pool(&self) -> PoolName;

    /// Instances under the cluster's tag that are there and do not end, however that is found out without the provider.
    fn instances(&mut self) -> impl Future<Output = BTreeSet<InstanceId>> + Send;

    /// Starts something that is not the cluster's: of another cluster, or of nobody's. `None`: no such thing is possible
    /// here. Else whether it is there, asked at the end.
    fn foreign(&mut self) -> impl Future<Output = Option<Foreign>> + Send;

    /// Whether what [`World::foreign`] started is still there.
    fn lives(&mut self, foreign: &Foreign) -> impl Future<Output = bool> + Send;

    /// From now on nothing can be started. Gives what [`Event::LaunchFailed`] must say of it; the words don't count.
    fn refuse(&mut self) -> impl Future<Output = LaunchError> + Send;
}

/// Something that is not the cluster's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Foreign(pub String);

/// A provider and what it has told.
struct Bench<W> {
    world: W,
    provider: Option<Arc<dyn Provider>>,
    events: UnboundedReceiver<Event>,
    up: BTreeSet<InstanceId>,
    pools: BTreeMap<PoolName, PoolSpec>,
}

impl<W: World> Bench<W> {
    /// With what must be told at the start: what runs, and every pool with its provider's name.
    async fn new(mut world: W) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let provider = world.start(sender);
        let mut bench = Self { world, provider: Some(provider), events, up: BTreeSet::new(), pools: BTreeMap::new() };
        let (name, listed) = bench.listed().await;
        assert_eq!((name, listed), (bench.provider().name(), BTreeSet::new()), "a new world is empty");
        bench.announced().await;
        bench
    }

    fn provider(&self) -> &Arc<dyn Provider> {
        self.provider.as_ref().expect("a provider")
    }

    /// The coordinator starts anew. What it finds is given.
    async fn restart(&mut self) -> BTreeSet<InstanceId> {
        self.provider = None;
        let (sender, events) = mpsc::unbounded_channel();
        self.events = events;
        self.provider = Some(self.world.start(sender));
        self.listed().await.1
    }

    fn request(&self, number: u32) -> LaunchRequest {
        LaunchRequest {
            instance: InstanceId(format!("i{number}")),
            worker: WorkerId(format!("w{number}")),
            pool: self.world.pool(),
            job: JobId::from("job"),
            generation: Generation(1),
        }
    }

    async fn next<T>(&mut self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = timeout_at(deadline, self.events.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("{what} was not told in time")).expect("the provider lives");
            match &event {
                Event::InstanceUp { instance, .. } => drop(self.up.insert(instance.clone())),
                Event::InstanceDown { instance, .. } => drop(self.up.remove(instance)),
                Event::PoolChanged { pool } => drop(self.pools.insert(pool.name.clone(), pool.clone())),
                _ => {}
            }
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    async fn listed(&mut self) -> (ProviderName, BTreeSet<InstanceId>) {
        self.next("what runs", |event| match event {
            Event::InstancesListed { provider, instances } => {
                Some((provider.clone(), instances.iter().map(|(instance, _)| instance.clone()).collect()))
            }
            _ => None,
        })
        .await
    }

    /// The pool has room for two.
    async fn announced(&mut self) {
        let (pool, provider) = (self.world.pool(), self.provider().name());
        let known = |spec: &PoolSpec| spec.name == pool && spec.capacity >= 2;
        if !self.pools.values().any(known) {
            self.next("a pool with room for two", |event| match event {
                Event::PoolChanged { pool } if known(pool) => Some(()),
                _ => None,
            })
            .await;
        }
        assert_eq!(self.pools[&pool].place.provider, provider, "a pool is announced with its provider's name");
    }

    async fn launch(&mut self, number: u32) -> InstanceId {
        let request = self.request(number);
        self.provider().launch(&request);
        self.told_up(&request.instance).await;
        request.instance
    }

    async fn told_up(&mut self, expected: &InstanceId) {
        self.next("an instance that is up", |event| match event {
            Event::InstanceUp { instance, .. } if instance == expected => Some(()),
            Event::LaunchFailed { instance, error } if instance == expected => panic!("{instance} failed: {error:?}"),
            _ => None,
        })
        .await;
    }

    async fn told_down(&mut self, expected: &InstanceId) -> DownCause {
        self.next("an instance that is down", |event| match event {
            Event::InstanceDown { instance, cause } if instance == expected => Some(cause.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until exactly these are there.
    async fn there(&mut self, expected: &[&InstanceId]) {
        let expected: BTreeSet<InstanceId> = expected.iter().map(|instance| (*instance).clone()).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.world.instances().await;
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "expected {expected:?} to be there, found {found:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A launch is told up, and the instance is really there.
pub async fn launch_is_told_up(world: impl World) {
    let mut bench = Bench::new(world).await;
    let instance = bench.launch(1).await;
    bench.there(&[&instance]).await;
    assert_eq!(bench.provider().running(), 1);
    let view = bench.provider().pools().into_iter().find(|view| view.spec.name == bench.world.pool());
    assert_eq!(view.map(|view| view.in_use), Some(1));
}

/// Launching an instance twice starts one, and is told up again.
pub async fn launching_twice_starts_one(world: impl World) {
    let mut bench = Bench::new(world).await;
    let request = bench.request(1);
    bench.provider().launch(&request);
    bench.provider().launch(&request);
    bench.told_up(&request.instance).await;
    bench.provider().launch(&request);
    bench.told_up(&request.instance).await;
    sleep(QUIET).await;
    bench.there(&[&request.instance]).await;
    assert_eq!(bench.provider().running(), 1);
}

/// A launch that an earlier coordinator asked for is not done again.
pub async fn launching_again_after_a_restart_starts_one(world: impl World) {
    let mut bench = Bench::new(world).await;
    let instance = bench.launch(1).await;
    bench.restart().await;
    bench.announced().await;
    let request = bench.request(1);
    bench.provider().launch(&request);
    bench.told_up(&instance).await;
    bench.there(&[&instance]).await;
}

/// Terminating is told down, put down to the request, and the instance is really gone.
pub async fn terminating_is_told_down(world: impl World) {
    let mut bench = Bench::new(world).await;
    let (first, second) = (bench.launch(1).await, bench.launch(2).await);
    bench.provider().terminate(&first, Duration::ZERO);
    assert_eq!(bench.told_down(&first).await, DownCause::Terminated);
    bench.there(&[&second]).await;
    // A grace that is cut short.
    bench.provider().terminate(&second, LONG);
    bench.provider().terminate(&second, Duration::from_millis(1));
    assert_eq!(bench.told_down(&second).await, DownCause::Terminated);
    bench.there(&[]).await;
    assert_eq!(bench.provider().running(), 0);
}

/// One that is not there is told down as well: whoever waits for its end must not wait for good.
pub async fn terminating_what_is_not_there_is_told_down(world: impl World) {
    let mut bench = Bench::new(world).await;
    let unknown = InstanceId::from("i99");
    bench.provider().terminate(&unknown, LONG);
    let cause = bench.told_down(&unknown).await;
    assert!(matches!(cause, DownCause::Vanished | DownCause::Terminated), "{cause:?}");
}

/// After a restart everything is listed, and can be ended.
pub async fn a_restart_adopts_what_runs(world: impl World) {
    let mut bench = Bench::new(world).await;
    let (first, second) = (bench.launch(1).await, bench.launch(2).await);
    let found = bench.restart().await;
    assert_eq!(found, [first.clone(), second.clone()].into());
    assert_eq!(bench.provider().running(), 2);
    bench.provider().terminate(&first, Duration::ZERO);
    assert_eq!(bench.told_down(&first).await, DownCause::Terminated);
    bench.there(&[&second]).await;
}

/// What is not the cluster's is not listed, not counted, and survives a stop.
pub async fn what_is_not_the_clusters_is_not_touched(world: impl World) {
    let mut bench = Bench::new(world).await;
    let Some(foreign) = bench.world.foreign().await else { return };
    let own = bench.launch(1).await;
    assert_eq!(bench.restart().await, [own.clone()].into());
    assert_eq!(bench.provider().running(), 1);
    bench.provider().terminate(&InstanceId(foreign.0.clone()), Duration::ZERO);
    bench.told_down(&InstanceId(foreign.0.clone())).await;
    bench.provider().stop(Duration::ZERO).await;
    bench.there(&[]).await;
    assert!(bench.world.lives(&foreign).await, "{foreign:?} was ended");
}

/// A bound holds: no more are started, and what is too many is taken.
pub async fn capacity_bounds_what_runs(world: impl World) {
    let mut bench = Bench::new(world).await;
    let pool = bench.world.pool();
    let first = bench.launch(1).await;
    let view = bench.provider().set_capacity(&pool, 1).expect("the pool is there");
    assert_eq!((view.spec.capacity, view.in_use), (1, 1));
    bench.provider().launch(&bench.request(2));
    bench
        .next("a launch beyond the bound", |event| match event {
            Event::LaunchFailed { instance, .. } if *instance == InstanceId::from("i2") => Some(()),
            Event::InstanceUp { instance, .. } => panic!("{instance} was started beyond the bound"),
            _ => None,
        })
        .await;
    bench.there(&[&first]).await;
    let unknown = bench.provider().set_capacity(&PoolName::from("no such pool"), 1).expect_err("no such pool");
    assert!(unknown.to_string().contains("found \"no such pool\""), "{unknown}");
}

/// A launch that can't be done is told with what to do about it, and leaves nothing.
pub async fn errors_are_told(world: impl World) {
    let mut bench = Bench::new(world).await;
    let expected = bench.world.refuse().await;
    bench.provider().launch(&bench.request(1));
    let found = bench
        .next("the failed launch", |event| match event {
            Event::LaunchFailed { error, .. } => Some(error.clone()),
            Event::InstanceUp { instance, .. } => panic!("{instance} was started"),
            _ => None,
        })
        .await;
    assert_eq!((found.kind, found.scope), (expected.kind, expected.scope), "{found:?}");
    assert!(!found.message.is_empty(), "an error has words");
    bench.there(&[]).await;
    assert_eq!(bench.provider().running(), 0);

    let mut request = bench.request(2);
    request.pool = PoolName::from("no such pool");
    bench.provider().launch(&request);
    bench
        .next("a launch from no pool", |event| match event {
            Event::LaunchFailed { instance, .. } if *instance == request.instance => Some(()),
            _ => None,
        })
        .await;
}

/// A stop ends everything, and nothing can be launched after it.
pub async fn a_stop_leaves_nothing(world: impl World) {
    let mut bench = Bench::new(world).await;
    bench.launch(1).await;
    bench.launch(2).await;
    bench.provider().stop(Duration::ZERO).await;
    assert_eq!(bench.provider().running(), 0);
    bench.there(&[]).await;
    bench.provider().launch(&bench.request(3));
    sleep(QUIET).await;
    bench.there(&[]).await;
}

/// One test for each function of [`conformance`](crate::conformance), in worlds that the expression makes: an async
/// closure without arguments.
#[macro_export]
macro_rules! conforms {
    ($world:expr) => {
        $crate::conforms!(@each $world;
            launch_is_told_up,
            launching_twice_starts_one,
            launching_again_after_a_restart_starts_one,
            terminating_is_told_down,
            terminating_what_is_not_there_is_told_down,
            a_restart_adopts_what_runs,
            what_is_not_the_clusters_is_not_touched,
            capacity_bounds_what_runs,
            errors_are_told,
            a_stop_leaves_nothing,
        );
    };
    (@each $world:expr; $($test:ident,)*) => {
        mod conforms {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let world = ($world)().await;
                    $crate::conformance::$test(world).await;
                }
            )*
        }
    };
}
