//! Compares the books with what the API lists, on a timer: VMs of the cluster that the books don't know are entered, those
//! that have ended are told of with why, and what has stopped is deleted.

use crate::api::{Account, ApiError, Vm, VmState};
use crate::books::{Held, Place, Stage};
use crate::errors::passes;
use crate::labels;
use crate::offers::NOTICE_MS;
use crate::provider::Inner;
use coordinator_core::{DownCause, InstanceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// What the API knows of the cluster, at one time.
struct Listed {
    began: Instant,
    vms: BTreeMap<InstanceId, (Account, Vm)>,
    /// Names of VMs that were preempted, of the zones where something is missing.
    preempted: BTreeSet<String>,
}

/// Lists until the provider is dropped.
pub(crate) async fn watch(inner: Weak<Inner>) {
    let mut wait = Duration::ZERO;
    loop {
        tokio::time::sleep(wait).await;
        let Some(inner) = inner.upgrade() else { return };
        let pace = inner.config.pace;
        wait = match inner.look().await {
            Ok(()) => pace.list,
            Err(error) => {
                inner.trouble(&error);
                wait.max(pace.retry).saturating_mul(2).min(pace.list_longest)
            }
        };
    }
}

impl Inner {
    /// Lists once, and brings the books up to date.
    pub(crate) async fn look(self: &Arc<Self>) -> Result<(), ApiError> {
        let began = Instant::now();
        let mut vms = BTreeMap::new();
        for account in self.accounts() {
            for vm in self.api(account).list(&self.config.cluster).await? {
                if let Some(instance) = labels::instance(&self.config.cluster, &vm.labels) {
                    vms.insert(instance, (account.clone(), vm));
                }
            }
        }
        let mut listed = Listed { began, vms, preempted: BTreeSet::new() };
        for (instance, held) in self.missing(&listed) {
            // Lists may lag behind; an answer about one VM doesn't.
            if !listed.vms.contains_key(&instance)
                && let Some(vm) = self.api(&held.at.account).get(&held.at.zone, &held.at.name).await?
            {
                listed.vms.insert(instance, (held.at.account, vm));
            }
        }
        let mut zones: Vec<(Account, String)> = Vec::new();
        for (_, held) in self.missing(&listed) {
            let zone = (held.at.account, held.at.zone);
            if !zones.contains(&zone) {
                zones.push(zone);
            }
        }
        for (account, zone) in zones {
            match self.api(&account).preempted(&zone).await {
                Ok(preempted) => listed.preempted.extend(preempted),
                // That something is gone counts more than why.
                Err(error) if !passes(&error) => tracing::warn!(zone, "can't see what was preempted: {error}"),
                Err(error) => return Err(error),
            }
        }
        self.compare(&listed);
        Ok(())
    }

    /// Those that were there when the list began, and are not listed as alive.
    fn missing(&self, listed: &Listed) -> Vec<(InstanceId, Held)> {
        let alive = |instance: &InstanceId| listed.vms.get(instance).is_some_and(|(_, vm)| vm.state == VmState::Alive);
        let books = self.lock();
        let missing = books
            .held()
            .iter()
            .filter(|(instance, held)| held.stage == Stage::Up && held.since < listed.began && !alive(instance));
        missing.map(|(instance, held)| (instance.clone(), held.clone())).collect()
    }

    fn compare(self: &Arc<Self>, listed: &Listed) {
        let missing = self.missing(listed);
        let mut books = self.lock();
        if books.trouble.take().is_some() {
            tracing::info!("the Compute API answers again");
        }
        for (instance, held) in missing {
            let preempted = listed.preempted.contains(&held.at.name);
            let seen = if preempted { DownCause::Evicted } else { DownCause::Vanished };
            match listed.vms.get(&instance).map(|(_, vm)| vm.state) {
                // It is being shut down: by a preemption, by somebody's deletion, or because its worker has ended.
                Some(VmState::Stopping) if preempted => books.notice(&instance, Duration::from_millis(NOTICE_MS)),
                Some(VmState::Stopping) => {}
                _ => books.down(&instance, seen),
            }
        }
        for (instance, (account, vm)) in &listed.vms {
            let at = Place { account: account.clone(), zone: vm.zone.clone(), name: vm.name.clone() };
            match vm.state {
                VmState::Alive
                    if !books.held().contains_key(instance) && !books.ended_since(instance, listed.began) =>
                {
                    let offer = books.offer_of(vm);
                    let machine_type = vm.machine_type.clone();
                    let held = Held {
                        at,
                        offer,
                        machine_type,
                        started: vm.started,
                        stage: Stage::Up,
                        ending: None,
                        delete_at: None,
                        since: Instant::now(),
                    };
                    books.enter(instance.clone(), held);
                }
                VmState::Dead => self.sweep(instance, at),
                VmState::Alive | VmState::Stopping => {}
            }
        }
        books.forget_ended(listed.began);
        books.tell_list();
    }

    /// Deletes a VM that has stopped, once at a time.
    fn sweep(self: &Arc<Self>, instance: &InstanceId, at: Place) {
        let mut sweeping = self.sweeping.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !sweeping.insert(at.name.clone()) {
            return;
        }
        tracing::info!(%instance, vm = at.name, "deletes a VM that has stopped");
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = inner.delete(&at).await {
                tracing::warn!(vm = at.name, "can't delete a VM that has stopped: {error}");
            }
            inner.sweeping.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&at.name);
        });
    }

    /// Why a VM that is not there any more has ended, as far as can be told.
    pub(crate) async fn cause_of_end(&self, at: &Place) -> DownCause {
        match self.api(&at.account).preempted(&at.zone).await {
            Ok(preempted) if preempted.contains(&at.name) => DownCause::Evicted,
            _ => DownCause::Vanished,
        }
    }

    fn trouble(&self, error: &ApiError) {
        let mut books = self.lock();
        let said = error.to_string();
        if books.trouble.as_ref() != Some(&said) {
            tracing::warn!("can't list VMs, tries again: {said}");
            books.trouble = Some(said);
        }
    }
}
