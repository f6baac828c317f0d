//! How VMs are bought: asked for with an id that makes asking twice buy one, and not believed in before the operation is
//! done, has no error, and the VM is there.

use crate::api::{ApiError, NewVm, Progress, Vm, VmState};
use crate::books::{Books, Held, Place, Stage};
use crate::errors::{launch_error, passes};
use crate::labels;
use crate::provider::Inner;
use coordinator_core::{DownCause, Event, LaunchError, LaunchErrorKind, Scope, Timestamp};
use coordinator_provider::LaunchRequest;
use std::sync::Arc;
use tokio::time::Instant;
use trainctl_boot::{Boot, Notices, cloud_config};

/// What came of a launch.
enum Bought {
    /// It runs, and is paid for since then.
    Up(Option<Timestamp>),
    /// It was made, and is gone already.
    Gone(DownCause),
}

impl Inner {
    /// Buys a VM, unless the instance has one.
    pub(crate) fn launch(self: &Arc<Self>, request: &LaunchRequest) {
        let mut books = self.lock();
        if books.stopping {
            return;
        }
        let instance = &request.instance;
        if let Some(held) = books.held().get(instance) {
            // What becomes of one that is being bought, or that ends, is told then.
            if held.stage == Stage::Up && held.ending.is_none() {
                books.up(instance);
            }
            return;
        }
        match self.planned(&books, request) {
            Ok((vm, held)) => {
                books.enter(instance.clone(), held.clone());
                drop(books);
                tokio::spawn(Arc::clone(self).buy(request.clone(), vm, held.at));
            }
            Err(error) => books.tell(Event::LaunchFailed { instance: instance.clone(), error }),
        }
    }

    fn planned(&self, books: &Books, request: &LaunchRequest) -> Result<(NewVm, Held), LaunchError> {
        let offer = books.offers().get(&request.pool);
        let found = offer.and_then(|offer| Some((offer, books.pool_of(offer)?)));
        let Some((offer, pool)) = found else {
            let message = format!("expected one of this provider's offers, found {}", request.pool);
            return Err(LaunchError { kind: LaunchErrorKind::Configuration, scope: Scope::Zone, message });
        };
        if labels::value(&request.instance.0) != request.instance.0 {
            let message = format!("expected an instance id that a label can hold, found {:?}", request.instance.0);
            return Err(LaunchError { kind: LaunchErrorKind::Configuration, scope: Scope::Pool, message });
        }
        let spec = books.spec(offer);
        if books.held().values().filter(|held| held.offer.as_ref() == Some(&offer.name)).count()
            >= spec.capacity as usize
        {
            let message = format!("{}: expected room for one more, found {} taken", offer.name, spec.capacity);
            return Err(LaunchError { kind: LaunchErrorKind::NoCapacity, scope: Scope::Zone, message });
        }
        let at = Place {
            account: pool.account(),
            zone: offer.zone.clone(),
            name: labels::vm_name(&self.config.cluster, &request.instance),
        };
        let vm = NewVm {
            zone: at.zone.clone(),
            name: at.name.clone(),
            request_id: labels::request_id(&self.config.cluster, request),
            machine_type: pool.machine_type.clone(),
            instance_template: pool.instance_template.clone(),
            market: offer.market,
            labels: labels::of(&self.config.cluster, request, &offer.pool),
            user_data: self.user_data(request),
        };
        let held = Held {
            at,
            offer: Some(offer.name.clone()),
            machine_type: pool.machine_type.clone(),
            started: None,
            stage: Stage::Buying,
            ending: None,
            delete_at: None,
            since: Instant::now(),
        };
        Ok((vm, held))
    }

    fn user_data(&self, request: &LaunchRequest) -> String {
        cloud_config(&Boot {
            cluster: self.config.cluster.clone(),
            instance: request.instance.clone(),
            worker: request.worker.clone(),
            coordinator_url: self.config.coordinator_url.clone(),
            certificate: self.config.certificate.clone(),
            join_token: (self.config.token)(&request.instance),
            bundle_uri: self.config.bundle.uri.clone(),
            bundle_digest: self.config.bundle.digest.clone(),
            notices: Notices::Gce,
            orphan_minutes: self.config.pace.orphan_minutes(),
        })
    }

    async fn buy(self: Arc<Self>, request: LaunchRequest, vm: NewVm, at: Place) {
        let bought = self.make(&vm, &at).await;
        let mut books = self.lock();
        match bought {
            Ok(Bought::Up(started)) => {
                if let Some(held) = books.get_mut(&request.instance) {
                    held.started = started;
                }
                books.up(&request.instance);
            }
            Ok(Bought::Gone(cause)) => books.down(&request.instance, cause),
            Err(error) => books.failed(&request.instance, launch_error(&error)),
        }
        drop(books);
        // Somebody may wait for it to be there, to end it.
        self.bought.notify_waiters();
    }

    async fn make(&self, vm: &NewVm, at: &Place) -> Result<Bought, ApiError> {
        let api = self.api(&at.account);
        match self.patiently(|| api.insert(vm)).await {
            Ok(operation) => self.done(&at.account, &at.zone, &operation).await?,
            // This instance's VM from before a restart; anybody else's would not be ours to use.
            Err(error) if error.status() == Some(409) => {}
            Err(error) => return Err(error),
        }
        // An id that was used before answers with the operation of that time, and the VM may be gone since.
        let found = self.patiently(|| api.get(&at.zone, &at.name)).await?;
        let instance = |vm: &Vm| labels::instance(&self.config.cluster, &vm.labels);
        match found {
            Some(vm) if instance(&vm).is_none() => {
                Err(ApiError::answered("alreadyExists", 409, &format!("VM {} is not of this cluster", at.name)))
            }
            Some(vm) if vm.state == VmState::Alive => Ok(Bought::Up(vm.started)),
            gone => {
                let cause = self.cause_of_end(at).await;
                if gone.is_some() {
                    // It has stopped, and would cost its disk.
                    let _ = api.delete(&at.zone, &at.name).await;
                }
                Ok(Bought::Gone(cause))
            }
        }
    }

    /// Waits until the operation is done.
    ///
    /// # Errors
    /// It failed, or can't be looked at for long.
    pub(crate) async fn done(
        &self,
        account: &crate::api::Account,
        zone: &str,
        operation: &str,
    ) -> Result<(), ApiError> {
        let api = self.api(account);
        let mut wait = self.config.pace.operation;
        loop {
            match self.patiently(|| api.operation(zone, operation)).await? {
                Progress::Done => return Ok(()),
                Progress::Failed(error) => return Err(error),
                Progress::Running => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(self.config.pace.operation * 8);
        }
    }

    /// Asks again, for a while, what may work in a moment.
    pub(crate) async fn patiently<T, F>(&self, ask: impl Fn() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        use backon::{ExponentialBuilder, Retryable};
        let pace = &self.config.pace;
        let again = ExponentialBuilder::default()
            .with_min_delay(pace.retry)
            .with_max_delay(pace.retry * 16)
            .with_max_times(pace.retries)
            .with_jitter();
        ask.retry(again).when(passes).await
    }
}
