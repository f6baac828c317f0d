//! How VMs are given back: each is left to end by itself for its grace, then deleted until it is gone.

use crate::books::{Held, Place, Stage};
use crate::provider::Inner;
use coordinator_core::{DownCause, Event, InstanceId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl Inner {
    /// Ends an instance after the grace, or after one that was given before and is over sooner.
    pub(crate) fn end(self: &Arc<Self>, instance: &InstanceId, cause: DownCause, grace: Duration) {
        let mut books = self.lock();
        match books.get_mut(instance) {
            Some(held) => {
                held.ending.get_or_insert(cause);
                self.delete_after(instance, held, grace);
                books.changed();
            }
            None => books.tell(Event::InstanceDown { instance: instance.clone(), cause: DownCause::Vanished }),
        }
    }

    /// A drill, or a pool that has shrunk: takes the instance with this notice.
    pub(crate) fn take(self: &Arc<Self>, instance: &InstanceId, notice: Duration) {
        let mut books = self.lock();
        if books.held().get(instance).is_none_or(|held| held.ending.is_some()) {
            return;
        }
        books.notice(instance, notice);
        if let Some(held) = books.get_mut(instance) {
            self.delete_after(instance, held, notice);
        }
    }

    /// One task for each VM that ends, however often somebody asks.
    fn delete_after(self: &Arc<Self>, instance: &InstanceId, held: &mut Held, grace: Duration) {
        let at = Instant::now() + grace;
        match held.delete_at {
            Some(known) => {
                held.delete_at = Some(known.min(at));
                self.hurry.notify_waiters();
            }
            None => {
                held.delete_at = Some(at);
                tokio::spawn(Arc::clone(self).delete_in_time(instance.clone()));
            }
        }
    }

    /// Deletes the instance's VM until it is gone. A deletion shuts the VM down, which its worker hears as SIGTERM.
    async fn delete_in_time(self: Arc<Self>, instance: InstanceId) {
        let Some(at) = self.when_due(&instance).await else { return };
        let mut wait = self.config.pace.retry;
        while self.lock().held().contains_key(&instance) {
            match self.delete(&at).await {
                Ok(()) => self.lock().down(&instance, DownCause::Terminated),
                Err(error) => {
                    tracing::warn!(%instance, vm = at.name, "can't delete, tries again: {error}");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(self.config.pace.list_longest);
                }
            }
        }
    }

    /// Where the VM is, once its time is over. One whose purchase is under way can't be deleted reliably: the API may not
    /// know it yet. `None`: it is gone.
    async fn when_due(&self, instance: &InstanceId) -> Option<Place> {
        loop {
            let (bought, hurry) = (self.bought.notified(), self.hurry.notified());
            tokio::pin!(bought, hurry);
            // From here on nothing that rings is missed.
            bought.as_mut().enable();
            hurry.as_mut().enable();
            let due = {
                let books = self.lock();
                let held = books.held().get(instance)?;
                let due = held.delete_at.filter(|_| held.stage == Stage::Up);
                if due.is_some_and(|due| due <= Instant::now()) {
                    return Some(held.at.clone());
                }
                due
            };
            tokio::select! {
                () = at(due) => {}
                () = bought => {}
                () = hurry => {}
            }
        }
    }

    /// Deletes a VM and waits until that is done. One that is not there is gone already.
    pub(crate) async fn delete(&self, at: &Place) -> Result<(), crate::api::ApiError> {
        let api = self.api(&at.account);
        match self.patiently(|| api.delete(&at.zone, &at.name)).await? {
            Some(operation) => self.done(&at.account, &at.zone, &operation).await,
            None => Ok(()),
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
