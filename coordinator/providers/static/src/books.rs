//! The books: which machines are there, what each is at the moment, and what was told of them. One lock guards them, so
//! what is told comes in the order in which it happened.

use crate::pools::PoolConfig;
use crate::provider::{NAME, StaticConfig};
use crate::seat::{Hello, Order};
use coordinator_core::{DownCause, Event, InstanceId, Machine as Paid, PoolName, PoolSpec, ProviderName, Timestamp};
use coordinator_provider::{PoolView, UnknownPool};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) struct Inner {
    pub(crate) config: StaticConfig,
    state: Mutex<State>,
    /// How many instances there are.
    pub(crate) count: watch::Sender<usize>,
}

pub(crate) struct State {
    pub(crate) pools: BTreeMap<PoolName, Pool>,
    pub(crate) machines: BTreeMap<String, Machine>,
    /// Who is which.
    pub(crate) instances: BTreeMap<InstanceId, String>,
    told: BTreeMap<PoolName, PoolSpec>,
    events: mpsc::UnboundedSender<Event>,
    connections: u64,
    end_within: Duration,
    /// Machines have had the time to come back after a start; who is here was told.
    listed: bool,
    pub(crate) stopping: bool,
}

pub(crate) struct Pool {
    pub(crate) config: PoolConfig,
    pub(crate) limit: u32,
    pub(crate) evictions: u32,
}

pub(crate) struct Machine {
    pub(crate) pool: PoolName,
    host: String,
    pid: u32,
    connection: Option<Connection>,
    pub(crate) holds: Option<Held>,
    leaving: bool,
    /// It says that it is an instance which another machine is, and was told to end that.
    doubled: bool,
}

struct Connection {
    number: u64,
    orders: mpsc::Sender<Order>,
}

/// What a machine is at the moment.
pub(crate) struct Held {
    pub(crate) instance: InstanceId,
    /// It said so.
    pub(crate) started: bool,
    /// Set by the first who ended it; what its end is put down to.
    pub(crate) ending: Option<DownCause>,
    /// When a machine that was told to end it and did not is given up.
    end_by: Option<Instant>,
    age: u64,
}

impl Machine {
    /// Could be an instance, or is one.
    fn usable(&self) -> bool {
        self.holds.is_some() || self.waits()
    }

    fn waits(&self) -> bool {
        self.holds.is_none() && self.connection.is_some() && !self.leaving && !self.doubled
    }

    /// `false`: it is not there, or does not read what it is told.
    pub(crate) fn order(&self, order: Order) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.orders.try_send(order).is_ok())
    }
}

impl Inner {
    pub(crate) fn new(config: StaticConfig) -> Self {
        let pools = config.pools.iter().map(|pool| {
            let limit = pool.max;
            (pool.name.clone(), Pool { config: pool.clone(), limit, evictions: 0 })
        });
        let state = State {
            pools: pools.collect(),
            machines: BTreeMap::new(),
            instances: BTreeMap::new(),
            told: BTreeMap::new(),
            events: config.events.clone(),
            connections: 0,
            end_within: config.end_within,
            listed: false,
            stopping: false,
        };
        let inner = Self { config, state: Mutex::new(state), count: watch::Sender::new(0) };
        inner.lock().tell_pools();
        inner
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells which instances there are.
    pub(crate) fn list(&self) {
        let mut state = self.lock();
        state.listed = true;
        let instances = state
            .instances
            .iter()
            .map(|(instance, machine)| (instance.clone(), state.machines.get(machine).map(|machine| machine.pid)));
        let instances = instances.collect();
        state.tell(Event::InstancesListed { provider: ProviderName::from(NAME), instances });
    }

    /// Gives up machines that do not do what they were told.
    pub(crate) fn sweep(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let late = |machine: &Machine| machine.holds.as_ref().and_then(|held| held.end_by).is_some_and(|by| by < now);
        let late: Vec<String> =
            state.machines.iter().filter(|(_, machine)| late(machine)).map(|(id, _)| id.clone()).collect();
        if late.is_empty() {
            return;
        }
        for machine in late {
            tracing::warn!(machine, "a machine does not end what it was told to end; it is given up");
            state.forget(&machine);
        }
        self.counted(&mut state);
    }

    /// A machine is there (again). Gives the number of its connection.
    pub(crate) fn join(&self, pool: &PoolName, hello: Hello, orders: mpsc::Sender<Order>) -> Result<u64, UnknownPool> {
        let mut state = self.lock();
        if !state.pools.contains_key(pool) {
            return Err(UnknownPool::new(pool, state.pools.keys()));
        }
        let Hello { machine: id, host, pid, instance, ended } = hello;
        state.connections += 1;
        let number = state.connections;
        if let Some((was, code)) = ended {
            state.ended(&id, &was, DownCause::Exited(code));
        }
        let known = state.machines.remove(&id).and_then(|machine| machine.holds);
        let mut doubled = false;
        let holds = match (known, instance) {
            (Some(held), Some(instance)) if held.instance == instance => Some(held),
            (held, instance) => {
                if let Some(held) = held {
                    // Its trainer is not what it was to be.
                    state.down(held, DownCause::Vanished);
                }
                doubled = instance.as_ref().is_some_and(|instance| state.instances.contains_key(instance));
                if let Some(instance) = instance.as_ref().filter(|_| doubled) {
                    tracing::warn!(%instance, machine = id, host, "two machines are one instance; the later ends");
                    let _ = orders.try_send(Order::End { instance: instance.clone(), grace: Duration::ZERO });
                }
                let held = |instance| Held { instance, started: false, ending: None, end_by: None, age: number };
                instance.filter(|_| !doubled).map(held)
            }
        };
        tracing::info!(machine = id, host, pid, %pool, "a machine joined");
        let connection = Some(Connection { number, orders });
        let machine = Machine { pool: pool.clone(), host, pid, connection, holds, leaving: false, doubled };
        if let Some(held) = &machine.holds {
            state.instances.insert(held.instance.clone(), id.clone());
        }
        state.machines.insert(id.clone(), machine);
        state.confirm(&id);
        self.counted(&mut state);
        Ok(number)
    }

    pub(crate) fn started(&self, machine: &str, connection: u64, instance: &InstanceId) {
        let mut state = self.lock();
        let current = state.is_current(machine, connection);
        if current && state.instances.get(instance).is_some_and(|holder| holder == machine) {
            state.confirm(machine);
        }
    }

    pub(crate) fn leaving(&self, machine: &str, connection: u64) {
        let mut state = self.lock();
        if !state.is_current(machine, connection) {
            return;
        }
        if let Some(entry) = state.machines.get_mut(machine) {
            tracing::info!(machine, host = entry.host, "a machine leaves");
            entry.leaving = true;
        }
        state.tell_pools();
    }

    pub(crate) fn disconnected(self: &Arc<Self>, machine: &str, connection: u64) {
        let mut state = self.lock();
        if !state.is_current(machine, connection) {
            return;
        }
        let Some(entry) = state.machines.get_mut(machine) else { return };
        entry.connection = None;
        if entry.holds.is_none() || entry.leaving {
            state.forget(machine);
        } else {
            let (inner, machine) = (Arc::downgrade(self), machine.to_owned());
            let within = self.config.return_within;
            tokio::spawn(async move {
                tokio::time::sleep(within).await;
                let Some(inner) = inner.upgrade() else { return };
                let mut state = inner.lock();
                if state.machines.get(&machine).is_some_and(|entry| entry.connection.is_none()) {
                    state.forget(&machine);
                    inner.counted(&mut state);
                }
            });
        }
        self.counted(&mut state);
    }

    /// After the instances changed: whoever waits for the last to end finds its end told.
    pub(crate) fn counted(&self, state: &mut State) {
        self.count.send_replace(state.instances.len());
        state.tell_pools();
    }
}

impl State {
    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more when the coordinator is stopping.
        let _ = self.events.send(event);
    }

    /// Of those pools that changed.
    pub(crate) fn tell_pools(&mut self) {
        for name in self.pools.keys().cloned().collect::<Vec<_>>() {
            let Some(PoolView { spec, .. }) = self.view(&name) else { continue };
            if self.told.insert(name, spec.clone()).as_ref() != Some(&spec) {
                self.tell(Event::PoolChanged { pool: spec });
            }
        }
    }

    pub(crate) fn view(&self, name: &PoolName) -> Option<PoolView> {
        let pool = self.pools.get(name)?;
        let of_pool = || self.machines.values().filter(|machine| machine.pool == *name);
        let in_use = count(of_pool().filter(|machine| stays(machine)).count());
        let usable = count(of_pool().filter(|machine| machine.usable()).count());
        let note = match usable {
            0 => format!("no machine has joined; see `trainctl pool token {name}`"),
            _ => format!("{usable} joined"),
        };
        let capacity = usable.min(pool.limit).max(in_use);
        Some(PoolView { spec: pool.config.spec(capacity), in_use, evictions: pool.evictions, note })
    }

    /// Machines of the pool that wait.
    pub(crate) fn waiting(&self, pool: &PoolName) -> Vec<String> {
        let waiting = self.machines.iter().filter(|(_, machine)| machine.pool == *pool && machine.waits());
        waiting.map(|(id, _)| id.clone()).collect()
    }

    /// Instances of the pool that are to go for it to hold no more than its limit: the youngest first.
    pub(crate) fn excess(&self, pool: &PoolName) -> Vec<InstanceId> {
        let limit = self.pools.get(pool).map_or(0, |pool| pool.limit) as usize;
        let of_pool = self.machines.values().filter(|machine| machine.pool == *pool && stays(machine));
        let mut held: Vec<&Held> = of_pool.filter_map(|machine| machine.holds.as_ref()).collect();
        held.sort_by_key(|held| std::cmp::Reverse(held.age));
        let excess = held.len().saturating_sub(limit);
        held.into_iter().take(excess).map(|held| held.instance.clone()).collect()
    }

    /// Makes a waiting machine an instance. `false`: it is gone.
    pub(crate) fn assign(&mut self, machine: &str, order: Order) -> bool {
        self.connections += 1;
        let age = self.connections;
        let Some(entry) = self.machines.get_mut(machine) else { return false };
        let Order::Start { instance, .. } = &order else { return false };
        let held = Held { instance: instance.clone(), started: false, ending: None, end_by: None, age };
        let instance = instance.clone();
        if !entry.order(order) {
            return false;
        }
        entry.holds = Some(held);
        self.instances.insert(instance, machine.to_owned());
        true
    }

    /// Lets an instance end after a time. `false`: there is none that can be told.
    pub(crate) fn end(&mut self, instance: &InstanceId, cause: DownCause, grace: Duration) -> bool {
        let Some(id) = self.instances.get(instance).cloned() else { return false };
        let Some(machine) = self.machines.get_mut(&id) else { return false };
        if let Some(held) = &mut machine.holds {
            held.ending.get_or_insert(cause);
            let by = Instant::now() + grace + self.end_within;
            held.end_by = Some(held.end_by.map_or(by, |earlier| earlier.min(by)));
        }
        if machine.order(Order::End { instance: instance.clone(), grace }) {
            return true;
        }
        self.forget(&id);
        true
    }

    pub(crate) fn evict(&mut self, instance: &InstanceId, notice: Duration) {
        let Some(id) = self.instances.get(instance) else { return };
        let pool = self.machines.get(id).map(|machine| machine.pool.clone());
        if let Some(pool) = pool.and_then(|pool| self.pools.get_mut(&pool)) {
            pool.evictions += 1;
        }
        self.end(instance, DownCause::Evicted, notice);
        if !notice.is_zero() && self.instances.contains_key(instance) {
            let deadline = now().plus_ms(u64::try_from(notice.as_millis()).unwrap_or(u64::MAX));
            self.tell(Event::EvictionNotice { instance: instance.clone(), deadline });
        }
    }

    /// The machine is what it holds.
    fn confirm(&mut self, machine: &str) {
        let Some(entry) = self.machines.get_mut(machine) else { return };
        let Some(held) = &mut entry.holds else { return };
        held.started = true;
        if self.listed {
            self.tell_up(machine);
        }
    }

    /// What the machine is, if it has said so.
    pub(crate) fn tell_up(&self, machine: &str) {
        let Some(entry) = self.machines.get(machine) else { return };
        let Some(held) = entry.holds.as_ref().filter(|held| held.started) else { return };
        let price = self.pools.get(&entry.pool).and_then(|pool| pool.config.spec(0).price);
        let paid =
            price.map(|price| Paid { id: machine.to_owned(), instance_type: entry.host.clone(), price, since: None });
        self.tell(Event::InstanceUp { instance: held.instance.clone(), pid: Some(entry.pid), machine: paid });
    }

    fn ended(&mut self, machine: &str, instance: &InstanceId, seen: DownCause) {
        let Some(entry) = self.machines.get_mut(machine) else { return };
        let Some(held) = entry.holds.take_if(|held| held.instance == *instance) else { return };
        self.down(held, seen);
    }

    fn down(&mut self, held: Held, seen: DownCause) {
        self.instances.remove(&held.instance);
        let cause = held.ending.unwrap_or(seen);
        self.tell(Event::InstanceDown { instance: held.instance, cause });
    }

    /// The machine is gone, and so what it was vanished: whoever wanted it ended was told too late, or because of that.
    fn forget(&mut self, machine: &str) {
        let Some(entry) = self.machines.remove(machine) else { return };
        tracing::info!(machine, host = entry.host, "a machine is gone");
        if let Some(mut held) = entry.holds {
            held.ending.take_if(|cause| *cause == DownCause::Terminated);
            self.down(held, DownCause::Vanished);
        }
    }

    fn is_current(&self, machine: &str, connection: u64) -> bool {
        let entry = self.machines.get(machine).and_then(|entry| entry.connection.as_ref());
        entry.is_some_and(|current| current.number == connection)
    }
}

/// Is an instance that is not leaving.
fn stays(machine: &Machine) -> bool {
    machine.holds.as_ref().is_some_and(|held| held.ending.is_none())
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
