//! What an error of EC2 means for a launch: what to do about it, and what else will fail alike.
//!
//! Codes are those of the "Error codes for the Amazon EC2 API" and of `CreateFleet`'s `Errors`.

use crate::api::{ApiError, Cause};
use coordinator_core::{LaunchError, LaunchErrorKind, Scope};

/// Reads one error.
pub(crate) fn launch_error(error: &ApiError) -> LaunchError {
    let (kind, scope) = match &error.cause {
        Cause::Answered { code, status } => of_code(code, *status),
        Cause::Unanswered => (LaunchErrorKind::Transient, Scope::Region),
        Cause::CredentialsUnanswered => (LaunchErrorKind::Transient, Scope::Provider),
        Cause::NoCredentials => (LaunchErrorKind::Configuration, Scope::Provider),
    };
    LaunchError { kind, scope, message: with_hint(error) }
}

/// Reads the errors of one fleet, one for each type and subnet that gave nothing. What gets better soonest decides: with
/// it the same request could work. `None`: there are none.
pub(crate) fn launch_error_of_all(errors: &[ApiError]) -> Option<LaunchError> {
    errors.iter().map(launch_error).min_by_key(|error| (patience(error.kind), error.scope))
}

fn patience(kind: LaunchErrorKind) -> u8 {
    match kind {
        LaunchErrorKind::Transient => 0,
        LaunchErrorKind::NoCapacity => 1,
        LaunchErrorKind::Price => 2,
        LaunchErrorKind::Quota => 3,
        LaunchErrorKind::Configuration => 4,
    }
}

/// Whether the same call may work in a moment.
pub(crate) fn passes(error: &ApiError) -> bool {
    match &error.cause {
        Cause::Answered { code, status } => of_code(code, *status).0 == LaunchErrorKind::Transient,
        Cause::Unanswered | Cause::CredentialsUnanswered => true,
        Cause::NoCredentials => false,
    }
}

/// Whether the API says that there is no such instance.
pub(crate) fn is_unknown_instance(error: &ApiError) -> bool {
    matches!(error.code(), "InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed")
}

/// Whether an earlier call with the same token asked for something else.
pub(crate) fn is_asked_before(error: &ApiError) -> bool {
    error.code() == "IdempotentParameterMismatch"
}

/// Whether a call may work with other credentials than those that it was made with: theirs have run out, or were
/// revoked. Others may be there by now.
#[must_use]
pub fn is_renewable(code: &str) -> bool {
    is_expired(code) || matches!(code, "AuthFailure" | "InvalidClientTokenId" | "UnrecognizedClientException")
}

fn is_expired(code: &str) -> bool {
    matches!(code, "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired")
}

fn of_code(code: &str, status: u16) -> (LaunchErrorKind, Scope) {
    match code {
        "InsufficientInstanceCapacity"
        | "InsufficientCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientFreeAddressesInSubnet"
        | "UnfulfillableCapacity"
        | "ReservationCapacityExceeded"
        | "Unsupported"
        | "Server.InsufficientInstanceCapacity" => (LaunchErrorKind::NoCapacity, Scope::Zone),

        "SpotMaxPriceTooLow" => (LaunchErrorKind::Price, Scope::Zone),

        "MaxSpotInstanceCountExceeded"
        | "SpotInstanceCountExceeded"
        | "MaxSpotFleetRequestCountExceeded"
        | "VcpuLimitExceeded"
        | "InstanceLimitExceeded"
        | "VolumeLimitExceeded"
        | "MaxIOPSLimitExceeded"
        | "NetworkInterfaceLimitExceeded"
        | "AddressLimitExceeded"
        | "ResourceCountExceeded" => (LaunchErrorKind::Quota, Scope::Region),

        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "EC2ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestTimeout"
        | "BandwidthLimitExceeded"
        | "ConcurrentTagAccess"
        | "InternalError"
        | "InternalFailure"
        | "ServerInternal"
        | "ServiceUnavailable"
        | "Unavailable" => (LaunchErrorKind::Transient, Scope::Region),

        "AuthFailure"
        | "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
        | "Blocked"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "PendingVerification"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "TokenRefreshRequired"
        | "UnauthorizedOperation"
        | "UnrecognizedClientException"
        | "ValidationError" => (LaunchErrorKind::Configuration, Scope::Provider),

        "InvalidSubnetID.NotFound" | "InvalidSubnet" | "InvalidSubnetID.Malformed" => {
            (LaunchErrorKind::Configuration, Scope::Zone)
        }

        // What is named there is of one region.
        "InvalidAMIID.NotFound"
        | "InvalidAMIID.Unavailable"
        | "InvalidGroup.NotFound"
        | "InvalidKeyPair.NotFound"
        | "InvalidSnapshot.NotFound"
        | "OptInRequired" => (LaunchErrorKind::Configuration, Scope::Region),
        _ if code.starts_with("InvalidLaunchTemplate") => (LaunchErrorKind::Configuration, Scope::Region),

        _ if status >= 500 || status == 429 => (LaunchErrorKind::Transient, Scope::Region),
        _ => (LaunchErrorKind::Configuration, Scope::Pool),
    }
}

fn with_hint(error: &ApiError) -> String {
    let hint = match error.code() {
        "AuthFailure.ServiceLinkedRoleCreationNotPermitted" => {
            "create the role once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
        }
        "UnauthorizedOperation" => "the coordinator's role lacks a permission; infra/terraform/aws has the list",
        "MaxSpotInstanceCountExceeded" | "VcpuLimitExceeded" => {
            "ask for a higher quota of vCPUs for this kind of instance, or lower `max` of the pool"
        }
        code if is_expired(code) => "renew the credentials; they are read again without a restart",
        _ if error.cause == Cause::NoCredentials => {
            "give the coordinator's machine a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID where it runs"
        }
        _ => return error.to_string(),
    };
    format!("{error}\nhint: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use LaunchErrorKind::{Configuration, NoCapacity, Price, Quota, Transient};
    use Scope::{Pool, Provider, Region, Zone};

    #[test]
    fn each_code_has_its_kind_and_scope() {
        let table = [
            ("InsufficientInstanceCapacity", 500, NoCapacity, Zone),
            ("InsufficientCapacity", 200, NoCapacity, Zone),
            ("UnfulfillableCapacity", 200, NoCapacity, Zone),
            ("Unsupported", 400, NoCapacity, Zone),
            ("InsufficientFreeAddressesInSubnet", 400, NoCapacity, Zone),
            ("SpotMaxPriceTooLow", 200, Price, Zone),
            ("MaxSpotInstanceCountExceeded", 400, Quota, Region),
            ("VcpuLimitExceeded", 400, Quota, Region),
            ("InstanceLimitExceeded", 400, Quota, Region),
            ("RequestLimitExceeded", 503, Transient, Region),
            ("Throttling", 400, Transient, Region),
            ("InternalError", 500, Transient, Region),
            ("Unavailable", 503, Transient, Region),
            ("AuthFailure", 401, Configuration, Provider),
            ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", 403, Configuration, Provider),
            ("UnauthorizedOperation", 403, Configuration, Provider),
            ("ExpiredToken", 400, Configuration, Provider),
            ("RequestExpired", 400, Configuration, Provider),
            ("InvalidLaunchTemplateName.NotFoundException", 400, Configuration, Region),
            ("InvalidLaunchTemplateId.VersionNotFound", 400, Configuration, Region),
            ("InvalidAMIID.NotFound", 400, Configuration, Region),
            ("OptInRequired", 401, Configuration, Region),
            ("InvalidSubnetID.NotFound", 400, Configuration, Zone),
            ("InvalidParameterValue", 400, Configuration, Pool),
            // Of no list: the status tells whose fault it is.
            ("SomethingNew", 500, Transient, Region),
            ("SomethingNew", 400, Configuration, Pool),
        ];
        for (code, status, kind, scope) in table {
            let error = launch_error(&ApiError::answered(code, status, "words"));
            assert_eq!((error.kind, error.scope), (kind, scope), "{code} {status}");
            assert!(error.message.starts_with(&format!("{code}: words")), "{}", error.message);
        }
    }

    #[test]
    fn silence_is_told_from_missing_credentials() {
        let of = |cause| launch_error(&ApiError { cause, message: "words".to_owned() });
        assert_eq!((of(Cause::Unanswered).kind, of(Cause::Unanswered).scope), (Transient, Region));
        let asked = of(Cause::CredentialsUnanswered);
        assert_eq!((asked.kind, asked.scope), (Transient, Provider));
        let none = of(Cause::NoCredentials);
        assert_eq!((none.kind, none.scope), (Configuration, Provider));
        assert!(none.message.contains("hint:"), "{}", none.message);
    }

    #[test]
    fn of_several_errors_the_one_that_passes_soonest_decides() {
        let errors: Vec<_> = ["InvalidParameterValue", "VcpuLimitExceeded", "InsufficientInstanceCapacity"]
            .map(|code| ApiError::answered(code, 400, "words"))
            .into();
        let kinds: Vec<_> = (1..=3).map(|n| launch_error_of_all(&errors[..n]).map(|error| error.kind)).collect();
        assert_eq!(kinds, [Some(Configuration), Some(Quota), Some(NoCapacity)]);
        assert_eq!(launch_error_of_all(&[]), None);
    }
}
