//! How instances go: each process is watched until it ends, killed when its time is up, and its end told and booked.

use super::books::{Inner, Instance, State};
use crate::process::Process;
use coordinator_core::{DownCause, Event, InstanceId, PoolName};
use rustix::process::Signal;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

impl Inner {
    /// Enters a process into the books and watches it until it ends.
    pub(super) fn watch(
        self: &Arc<Self>,
        state: &mut State,
        instance: InstanceId,
        process: Process,
        pool: Option<PoolName>,
    ) -> u32 {
        let process = Arc::new(process);
        let pid = process.pid();
        let (kill_at, deadline) = watch::channel(None);
        let running = Instance { process: Arc::clone(&process), pool, ending: None, kill_at };
        state.instances.insert(instance.clone(), running);
        self.count.send_replace(state.instances.len());
        tokio::spawn(Arc::clone(self).follow(instance, process, deadline));
        pid
    }

    async fn follow(
        self: Arc<Self>,
        instance: InstanceId,
        process: Arc<Process>,
        mut deadline: watch::Receiver<Option<Instant>>,
    ) {
        let end = process.ended();
        tokio::pin!(end);
        let seen = loop {
            let kill_at = *deadline.borrow_and_update();
            tokio::select! {
                seen = &mut end => break seen,
                () = at(kill_at) => {
                    process.signal(Signal::KILL);
                    break end.await;
                }
                Ok(()) = deadline.changed() => {}
            }
        };
        self.ended(&instance, seen);
    }

    fn ended(self: &Arc<Self>, instance: &InstanceId, seen: DownCause) {
        let mut state = self.lock();
        let Some(running) = state.instances.remove(instance) else { return };
        let cause = running.ending.unwrap_or(seen);
        tracing::info!(%instance, pid = running.process.pid(), ?cause, "a worker's process ended");
        state.tell(Event::InstanceDown { instance: instance.clone(), cause });
        // After that: who waits for the last process to end finds its end told.
        self.count.send_replace(state.instances.len());
        let Some(name) = running.pool else { return };
        let Some(pool) = state.pools.get_mut(&name) else { return };
        if let Some(room) = pool.remove(instance) {
            let after = pool.config().capacity_returns_after;
            let inner = Arc::downgrade(self);
            let name = name.clone();
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let Some(inner) = inner.upgrade() else { return };
                inner.change_pool(&name, |pool| {
                    pool.give_back(room);
                    Vec::new()
                });
            });
        }
        state.tell_pool(&name);
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
