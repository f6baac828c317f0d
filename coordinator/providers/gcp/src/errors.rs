//! What an error of the API means for a launch: what to do about it, and what else will fail alike.
//!
//! The API has two vocabularies. A request that is refused names a reason (`quotaExceeded`); an operation that fails later
//! names a code (`QUOTA_EXCEEDED`). Both are in the API's
//! [troubleshooting pages](https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation), and both
//! are read here.

use crate::api::{ApiError, Cause};
use coordinator_core::{LaunchError, LaunchErrorKind, Scope};

/// Reads one error.
#[must_use]
pub fn launch_error(error: &ApiError) -> LaunchError {
    let (kind, scope) = meaning(error);
    LaunchError { kind, scope, message: with_hint(error, kind) }
}

/// Whether the same call may work in a moment.
pub(crate) fn passes(error: &ApiError) -> bool {
    meaning(error).0 == LaunchErrorKind::Transient
}

fn meaning(error: &ApiError) -> (LaunchErrorKind, Scope) {
    match &error.cause {
        Cause::Answered { code, status } => of_code(code, *status, &error.message),
        Cause::Unanswered => (LaunchErrorKind::Transient, Scope::Provider),
        Cause::NoCredentials => (LaunchErrorKind::Configuration, Scope::Provider),
    }
}

fn of_code(code: &str, status: u16, message: &str) -> (LaunchErrorKind, Scope) {
    // One spelling for both vocabularies: of letters and digits only.
    let letters = code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase());
    match letters.collect::<String>().as_str() {
        "zoneresourcepoolexhausted"
        | "zoneresourcepoolexhaustedwithdetails"
        | "insufficientcapacity"
        | "resourcepoolexhausted"
        | "stockout"
        | "vmmincountnotreached"
        // A Spot VM that was preempted while it was created.
        | "unsupportedoperation" => (LaunchErrorKind::NoCapacity, Scope::Zone),

        "quotaexceeded" | "limitexceeded" | "resourcequotaexceeded" => (LaunchErrorKind::Quota, quota_scope(message)),

        "resourcenotready" | "resourceinusebyanotherresource" => (LaunchErrorKind::Transient, Scope::Zone),
        "concurrentoperationsquotaexceeded" | "operationcanceledbyuser" => (LaunchErrorKind::Transient, Scope::Region),
        "ratelimitexceeded"
        | "userratelimitexceeded"
        | "resourceoperationrateexceeded"
        | "backenderror"
        | "internalerror"
        | "serviceunavailable"
        | "unavailable"
        | "dailylimitexceeded" => (LaunchErrorKind::Transient, Scope::Provider),

        // A machine type that this zone doesn't have, which others may.
        "notfound" | "resourcenotfound" | "invalid" | "badrequest" if message.contains("machineTypes/") => {
            (LaunchErrorKind::Configuration, Scope::Zone)
        }
        "accessnotconfigured"
        | "autherror"
        | "billingdisabled"
        | "billingnotenabled"
        | "forbidden"
        | "iampermissiondenied"
        | "insufficientpermissions"
        | "permissiondenied"
        | "permissionserror"
        | "required"
        | "servicedisabled" => (LaunchErrorKind::Configuration, Scope::Provider),

        _ if status >= 500 || status == 429 => (LaunchErrorKind::Transient, Scope::Provider),
        _ if status == 401 || status == 403 => (LaunchErrorKind::Configuration, Scope::Provider),
        _ => (LaunchErrorKind::Configuration, Scope::Pool),
    }
}

/// Quotas are of a region, but for those of all regions together.
fn quota_scope(message: &str) -> Scope {
    if message.to_ascii_uppercase().contains("ALL_REGIONS") { Scope::Provider } else { Scope::Region }
}

fn with_hint(error: &ApiError, kind: LaunchErrorKind) -> String {
    let hint = match (&error.cause, kind) {
        (Cause::NoCredentials, _) => {
            "give the coordinator's VM a service account, or run `gcloud auth application-default login` where it runs"
        }
        (_, LaunchErrorKind::Quota) => "ask for a higher quota, or lower `max` of the pool",
        (Cause::Answered { status: 401, .. }, _) => "renew the credentials and start the coordinator again",
        (Cause::Answered { status: 403, .. }, LaunchErrorKind::Configuration) => {
            "the coordinator's service account lacks a permission; infra/terraform/gcp has the list"
        }
        _ => return error.to_string(),
    };
    format!("{error}\nhint: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use LaunchErrorKind::{Configuration, NoCapacity, Quota, Transient};
    use Scope::{Pool, Provider, Region, Zone};

    #[test]
    fn each_code_has_its_kind_and_scope() {
        let table = [
            ("ZONE_RESOURCE_POOL_EXHAUSTED", 503, "", NoCapacity, Zone),
            ("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", 503, "", NoCapacity, Zone),
            ("insufficientCapacity", 503, "", NoCapacity, Zone),
            ("UNSUPPORTED_OPERATION", 400, "Instance was preempted during creation.", NoCapacity, Zone),
            ("RESOURCE_NOT_READY", 400, "", Transient, Zone),
            ("resourceNotReady", 400, "", Transient, Zone),
            ("QUOTA_EXCEEDED", 403, "Quota 'PREEMPTIBLE_NVIDIA_L4_GPUS' exceeded. Limit: 0.0", Quota, Region),
            ("quotaExceeded", 403, "Quota 'CPUS' exceeded. Limit: 24.0 in region us-central1.", Quota, Region),
            ("QUOTA_EXCEEDED", 403, "Quota 'GPUS_ALL_REGIONS' exceeded. Limit: 0.0 globally.", Quota, Provider),
            ("rateLimitExceeded", 403, "", Transient, Provider),
            ("RATE_LIMIT_EXCEEDED", 429, "", Transient, Provider),
            ("backendError", 503, "", Transient, Provider),
            ("internalError", 500, "", Transient, Provider),
            ("INTERNAL_ERROR", 0, "", Transient, Provider),
            ("authError", 401, "Invalid Credentials", Configuration, Provider),
            ("forbidden", 403, "Required 'compute.instances.create' permission", Configuration, Provider),
            ("accessNotConfigured", 403, "", Configuration, Provider),
            ("PERMISSIONS_ERROR", 403, "", Configuration, Provider),
            (
                "invalid",
                400,
                "Invalid value for field 'resource.machineType': '.../machineTypes/x'",
                Configuration,
                Zone,
            ),
            ("notFound", 404, "The resource 'projects/p/zones/z/machineTypes/x' was not found", Configuration, Zone),
            (
                "notFound",
                404,
                "The resource 'projects/p/global/instanceTemplates/t' was not found",
                Configuration,
                Pool,
            ),
            ("invalid", 400, "", Configuration, Pool),
            ("conditionNotMet", 412, "Constraint constraints/compute.vmExternalIpAccess violated", Configuration, Pool),
            // Of no list: the status tells whose fault it is.
            ("", 502, "", Transient, Provider),
            ("SOMETHING_NEW", 429, "", Transient, Provider),
            ("", 401, "", Configuration, Provider),
            ("SOMETHING_NEW", 400, "", Configuration, Pool),
        ];
        for (code, status, message, kind, scope) in table {
            let error = launch_error(&ApiError::answered(code, status, message));
            assert_eq!((error.kind, error.scope), (kind, scope), "{code} {status} {message}");
            assert!(error.message.contains(message), "{}", error.message);
        }
    }

    #[test]
    fn silence_is_told_from_missing_credentials() {
        let of = |cause| launch_error(&ApiError { cause, message: "words".to_owned() });
        assert_eq!((of(Cause::Unanswered).kind, of(Cause::Unanswered).scope), (Transient, Provider));
        let none = of(Cause::NoCredentials);
        assert_eq!((none.kind, none.scope), (Configuration, Provider));
        assert!(none.message.contains("hint:"), "{}", none.message);
    }
}
