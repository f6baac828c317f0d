//! What the provider needs of the Compute API, and nothing more: the seam between its decisions and the SDK. No call
//! retries by itself: that is decided by who calls, in one place.

use crate::labels;
use coordinator_core::{Market, Timestamp};
use google_cloud_auth::credentials::{Builder as ApplicationDefault, anonymous};
use google_cloud_compute_v1::client::{Instances, ZoneOperations};
use google_cloud_compute_v1::model::instance::Status;
use google_cloud_compute_v1::model::metadata::Items;
use google_cloud_compute_v1::model::operation::Status as OperationStatus;
use google_cloud_compute_v1::model::scheduling::{InstanceTerminationAction, OnHostMaintenance, ProvisioningModel};
use google_cloud_compute_v1::model::{Instance, Metadata, Operation, Scheduling};
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::StatusDetails;
use google_cloud_gax::paginator::ItemPaginator;
use google_cloud_gax::retry_policy::NeverRetry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

/// Calls under way at once, to one project.
const CALLS: usize = 16;
/// The type of the operation by which a preemption is known afterwards.
const PREEMPTED: &str = "compute.instances.preempted";

/// A call that did not work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{cause}: {message}")]
pub struct ApiError {
    /// What went wrong.
    pub cause: Cause,
    /// In the API's words, or the library's, one line.
    pub message: String,
}

/// What went wrong with a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The API refused, or an operation failed.
    Answered {
        /// `quotaExceeded`, `ZONE_RESOURCE_POOL_EXHAUSTED`; may be empty.
        code: String,
        /// HTTP's; 0 when there is none.
        status: u16,
    },
    /// No answer that can be read. What was asked may have been done.
    Unanswered,
    /// There are no credentials to ask with.
    NoCredentials,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { code, status } if code.is_empty() => write!(f, "HTTP {status}"),
            Self::Answered { code, .. } => f.write_str(code),
            Self::Unanswered => f.write_str("no answer"),
            Self::NoCredentials => f.write_str("no credentials"),
        }
    }
}

impl ApiError {
    /// A refusal.
    #[must_use]
    pub fn answered(code: &str, status: u16, message: &str) -> Self {
        Self { cause: Cause::Answered { code: code.to_owned(), status }, message: message.to_owned() }
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match self.cause {
            Cause::Answered { status, .. } => Some(status),
            Cause::Unanswered | Cause::NoCredentials => None,
        }
    }
}

/// Whom to ask, and who pays.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Account {
    /// Of plain HTTP; no credentials are shown to it. `None`: the real one.
    pub(crate) endpoint: Option<String>,
    pub(crate) project: String,
}

/// A VM to make.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct NewVm {
    pub(crate) zone: String,
    pub(crate) name: String,
    /// Asking twice with one makes one.
    pub(crate) request_id: String,
    pub(crate) machine_type: String,
    pub(crate) instance_template: String,
    pub(crate) market: Market,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) user_data: String,
}

/// A VM as the API lists it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Vm {
    pub(crate) zone: String,
    pub(crate) name: String,
    pub(crate) machine_type: String,
    pub(crate) market: Market,
    pub(crate) state: VmState,
    /// Since when it is paid for.
    pub(crate) started: Option<Timestamp>,
    pub(crate) labels: HashMap<String, String>,
}

/// How a VM is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VmState {
    /// It starts, or runs.
    Alive,
    /// It shuts down.
    Stopping,
    /// It has stopped: nothing runs on it, but it is still there and its disk is paid for.
    Dead,
}

/// How far an operation is.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Progress {
    Running,
    Done,
    Failed(ApiError),
}

/// The API for one account.
pub(crate) struct Api {
    account: Account,
    patience: Duration,
    clients: OnceCell<Clients>,
    room: Semaphore,
}

struct Clients {
    instances: Instances,
    operations: ZoneOperations,
}

impl Api {
    pub(crate) fn new(account: Account, patience: Duration) -> Self {
        Self { account, patience, clients: OnceCell::new(), room: Semaphore::new(CALLS) }
    }

    /// Asks for a VM. The name of the operation that makes it.
    pub(crate) async fn insert(&self, vm: &NewVm) -> Result<String, ApiError> {
        let request = self.clients().await?.instances.insert();
        let request = request
            .set_project(&self.account.project)
            .set_zone(&vm.zone)
            .set_request_id(&vm.request_id)
            .set_source_instance_template(&vm.instance_template)
            .set_body(resource(vm));
        let operation = self.call(request.send()).await?;
        name(operation)
    }

    pub(crate) async fn operation(&self, zone: &str, name: &str) -> Result<Progress, ApiError> {
        let request = self.clients().await?.operations.get();
        let request = request.set_project(&self.account.project).set_zone(zone).set_operation(name);
        Ok(progress(&self.call(request.send()).await?))
    }

    pub(crate) async fn get(&self, zone: &str, name: &str) -> Result<Option<Vm>, ApiError> {
        let request = self.clients().await?.instances.get();
        let request = request.set_project(&self.account.project).set_zone(zone).set_instance(name);
        Ok(unless_missing(self.call(request.send()).await)?.map(vm))
    }

    /// The name of the operation; `None`: there is no such VM.
    pub(crate) async fn delete(&self, zone: &str, name_: &str) -> Result<Option<String>, ApiError> {
        let request = self.clients().await?.instances.delete();
        let request = request.set_project(&self.account.project).set_zone(zone).set_instance(name_);
        unless_missing(self.call(request.send()).await)?.map(name).transpose()
    }

    /// Every VM with the cluster's label, in all zones, whatever its state.
    pub(crate) async fn list(&self, cluster: &str) -> Result<Vec<Vm>, ApiError> {
        let instances = &self.clients().await?.instances;
        let filter = format!("labels.{}={}", labels::CLUSTER, labels::value(cluster));
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let request = instances.aggregated_list().set_project(&self.account.project).set_filter(&filter);
            let page = self.call(request.set_or_clear_page_token(token).send()).await?;
            if !page.unreachables.is_empty() {
                // Who is not in this list may run all the same.
                let message = format!("no answer from {}", page.unreachables.join(", "));
                return Err(ApiError { cause: Cause::Unanswered, message });
            }
            found.extend(page.items.into_values().flat_map(|zone| zone.instances).map(vm));
            token = page.next_page_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// Names of the zone's VMs that were preempted not long ago.
    pub(crate) async fn preempted(&self, zone: &str) -> Result<BTreeSet<String>, ApiError> {
        let request = self.clients().await?.operations.list();
        let filter = format!("operationType=\"{PREEMPTED}\"");
        let request = request.set_project(&self.account.project).set_zone(zone).set_filter(filter);
        let listed = async {
            let mut operations = request.by_item();
            let mut names = BTreeSet::new();
            while let Some(operation) = operations.next().await.transpose()? {
                names.extend(operation.target_link.as_deref().map(last_part).map(str::to_owned));
            }
            Ok(names)
        };
        self.call(listed).await
    }

    async fn clients(&self) -> Result<&Clients, ApiError> {
        self.clients.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Clients, ApiError> {
        // One provider of cryptography for the whole process; the second call finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let without = |message: String| ApiError { cause: Cause::NoCredentials, message };
        let credentials = match &self.account.endpoint {
            Some(_) => anonymous::Builder::new().build(),
            None => ApplicationDefault::default().build().map_err(|error| without(chain(&error)))?,
        };
        let mut instances = Instances::builder().with_credentials(credentials.clone()).with_retry_policy(NeverRetry);
        let mut operations = ZoneOperations::builder().with_credentials(credentials).with_retry_policy(NeverRetry);
        if let Some(endpoint) = &self.account.endpoint {
            instances = instances.with_endpoint(endpoint);
            operations = operations.with_endpoint(endpoint);
        }
        let (instances, operations) = (instances.build().await, operations.build().await);
        let instances = instances.map_err(|error| without(chain(&error)))?;
        Ok(Clients { instances, operations: operations.map_err(|error| without(chain(&error)))? })
    }

    async fn call<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, ApiError> {
        let _room = self.room.acquire().await;
        match timeout(self.patience, asked).await {
            Ok(answer) => answer.map_err(|error| refusal(&error)),
            Err(_) => {
                let message = format!("nothing within {} s", self.patience.as_secs());
                Err(ApiError { cause: Cause::Unanswered, message })
            }
        }
    }
}

fn resource(vm: &NewVm) -> Instance {
    let (model, scheduling) = (Scheduling::new(), vm.market == Market::Spot);
    let scheduling = if scheduling {
        model
            .set_provisioning_model(ProvisioningModel::Spot)
            .set_instance_termination_action(InstanceTerminationAction::Delete)
    } else {
        model.set_provisioning_model(ProvisioningModel::Standard)
    };
    // A VM with a GPU can't be moved to another host, and one that the API restarts would be nobody's.
    let scheduling = scheduling.set_on_host_maintenance(OnHostMaintenance::Terminate).set_automatic_restart(false);
    let user_data = Items::new().set_key("user-data").set_value(&vm.user_data);
    Instance::new()
        .set_name(&vm.name)
        .set_machine_type(format!("zones/{}/machineTypes/{}", vm.zone, vm.machine_type))
        .set_labels(vm.labels.clone())
        .set_scheduling(scheduling)
        .set_metadata(Metadata::new().set_items([user_data]))
}

fn vm(instance: Instance) -> Vm {
    let spot = instance.scheduling.as_ref().and_then(|scheduling| scheduling.provisioning_model.clone());
    Vm {
        zone: last_part(instance.zone.as_deref().unwrap_or_default()).to_owned(),
        name: instance.name.unwrap_or_default(),
        machine_type: last_part(instance.machine_type.as_deref().unwrap_or_default()).to_owned(),
        market: if spot == Some(ProvisioningModel::Spot) { Market::Spot } else { Market::OnDemand },
        state: match instance.status {
            Some(Status::Stopping | Status::PendingStop | Status::Suspending | Status::Deprovisioning) => {
                VmState::Stopping
            }
            Some(Status::Stopped | Status::Suspended | Status::Terminated) => VmState::Dead,
            _ => VmState::Alive,
        },
        started: instance.last_start_timestamp.or(instance.creation_timestamp).as_deref().and_then(timestamp),
        labels: instance.labels,
    }
}

/// The client's own waiting takes an operation that failed for one that is done.
fn progress(operation: &Operation) -> Progress {
    if operation.status != Some(OperationStatus::Done) {
        return Progress::Running;
    }
    let status = operation.http_error_status_code.and_then(|status| u16::try_from(status).ok()).unwrap_or_default();
    let first = operation.error.as_ref().and_then(|error| error.errors.first());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    match first {
        Some(error) => {
            Progress::Failed(ApiError::answered(&text(&error.code), status, &one_line(&text(&error.message))))
        }
        None if operation.error.is_some() || status >= 400 => {
            Progress::Failed(ApiError::answered("", status, &one_line(&text(&operation.http_error_message))))
        }
        None => Progress::Done,
    }
}

fn name(operation: Operation) -> Result<String, ApiError> {
    let without = ApiError { cause: Cause::Unanswered, message: "an operation without a name".to_owned() };
    operation.name.filter(|name| !name.is_empty()).ok_or(without)
}

fn unless_missing<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Err(error) if error.status() == Some(404) => Ok(None),
        other => other.map(Some),
    }
}

fn refusal(error: &Error) -> ApiError {
    if error.is_authentication() {
        return ApiError { cause: Cause::NoCredentials, message: chain(error) };
    }
    let status = error.http_status_code();
    match (error.status(), status) {
        (Some(said), status) => {
            let reason = said.details.iter().find_map(|detail| match detail {
                StatusDetails::ErrorInfo(info) => Some(info.reason.as_str()),
                _ => None,
            });
            ApiError::answered(reason.unwrap_or_default(), status.unwrap_or_default(), &one_line(&said.message))
        }
        (None, Some(status)) => ApiError::answered("", status, &chain(error)),
        (None, None) => ApiError { cause: Cause::Unanswered, message: chain(error) },
    }
}

/// A time as the API writes it: with the offset of some office of Google's.
fn timestamp(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| Timestamp(time.timestamp_millis()))
}

fn last_part(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    one_line(&causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}")))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use google_cloud_compute_v1::model::operation;

    #[test]
    fn a_time_has_an_offset() {
        assert_eq!(timestamp("1970-01-01T00:00:01.250-00:00"), Some(Timestamp(1250)));
        assert_eq!(timestamp("1969-12-31T16:00:02.000-08:00"), Some(Timestamp(2000)));
        assert_eq!(timestamp("soon"), None);
    }

    #[test]
    fn an_operation_that_failed_is_not_done() {
        let done = Operation::new().set_status(OperationStatus::Done);
        assert_eq!(progress(&Operation::new().set_status(OperationStatus::Running)), Progress::Running);
        assert_eq!(progress(&done), Progress::Done);
        let error = operation::error::Errors::new().set_code("QUOTA_EXCEEDED").set_message("too\nmany");
        let failed =
            done.clone().set_error(operation::Error::new().set_errors([error])).set_http_error_status_code(403);
        assert_eq!(progress(&failed), Progress::Failed(ApiError::answered("QUOTA_EXCEEDED", 403, "too many")));
        let told = done.set_http_error_status_code(503).set_http_error_message("SERVICE UNAVAILABLE");
        assert_eq!(progress(&told), Progress::Failed(ApiError::answered("", 503, "SERVICE UNAVAILABLE")));
    }
}
