//! Machines as tasks: each joins the provider that there is at the moment, is what it is told to be, and joins again when
//! that is over or the provider is another.

use coordinator_core::{Event, InstanceId, PoolName};
use coordinator_static::{Hello, Order, PoolConfig, StaticConfig, StaticProvider};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long machines may be away.
pub(crate) const RETURN_WITHIN: Duration = Duration::from_millis(300);

/// Machines of one pool, `lab`.
pub(crate) struct Machines {
    provider: watch::Sender<Option<Arc<StaticProvider>>>,
    /// What each is.
    being: Arc<Mutex<BTreeMap<String, InstanceId>>>,
    tasks: BTreeMap<String, JoinHandle<()>>,
}

pub(crate) fn pool() -> PoolName {
    PoolName::from("lab")
}

impl Machines {
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut machines = Self { provider: watch::Sender::new(None), being: Arc::default(), tasks: BTreeMap::new() };
        for name in names {
            machines.add(name);
        }
        machines
    }

    pub(crate) fn add(&mut self, name: &str) {
        let machine = live(name.to_owned(), self.provider.subscribe(), Arc::clone(&self.being));
        self.tasks.insert(name.to_owned(), tokio::spawn(machine));
    }

    /// Its trainer is killed: it says nothing more.
    pub(crate) async fn kill(&mut self, name: &str) {
        let Some(task) = self.tasks.remove(name) else { return };
        task.abort();
        let _ = task.await;
        self.being.lock().expect("lock").remove(name);
    }

    pub(crate) async fn kill_all(&mut self) {
        for name in self.tasks.keys().cloned().collect::<Vec<_>>() {
            self.kill(&name).await;
        }
    }

    /// A new provider; machines find it.
    pub(crate) fn start(&mut self, events: UnboundedSender<Event>) -> Arc<StaticProvider> {
        let provider = StaticProvider::start(StaticConfig {
            token: Arc::new(|instance| format!("token of {instance}")),
            pools: vec![PoolConfig {
                name: pool(),
                region: None,
                zone: None,
                usd_per_hour: 0.0,
                max: 4,
                notice: Duration::from_millis(50),
            }],
            return_within: RETURN_WITHIN,
            awaited: true,
            end_within: Duration::from_secs(2),
            events,
        });
        self.provider.send_replace(Some(Arc::clone(&provider)));
        provider
    }

    /// What each machine is.
    pub(crate) fn being(&self) -> BTreeMap<String, InstanceId> {
        self.being.lock().expect("lock").clone()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

async fn live(
    name: String,
    mut provider: watch::Receiver<Option<Arc<StaticProvider>>>,
    being: Arc<Mutex<BTreeMap<String, InstanceId>>>,
) {
    let mut ended = None;
    loop {
        let Some(current) = provider.borrow_and_update().clone() else {
            if provider.changed().await.is_err() {
                return;
            }
            continue;
        };
        let instance = being.lock().expect("lock").get(&name).cloned();
        let hello = Hello { machine: name.clone(), host: name.clone(), pid: 7, instance, ended: ended.take() };
        let (orders, mut ordered) = mpsc::channel(16);
        let seat = current.join(&pool(), hello, orders).expect("the pool is there");
        drop(current);
        loop {
            let order = tokio::select! {
                order = ordered.recv() => order,
                changed = provider.changed() => if changed.is_ok() { break } else { return },
            };
            match order {
                None => break,
                Some(Order::Start { instance, token, .. }) => {
                    assert_eq!(token, format!("token of {instance}"));
                    being.lock().expect("lock").insert(name.clone(), instance.clone());
                    seat.started(&instance);
                }
                Some(Order::End { instance, grace }) => {
                    if being.lock().expect("lock").get(&name) != Some(&instance) {
                        continue;
                    }
                    // A later order may shorten it.
                    let mut left = grace;
                    while let Ok(Some(Order::End { grace, .. })) = tokio::time::timeout(left, ordered.recv()).await {
                        left = left.min(grace);
                    }
                    being.lock().expect("lock").remove(&name);
                    ended = Some((instance, 0));
                    break;
                }
            }
        }
    }
}
