//! Errors of checkpoints and their stores in this command line's words: which place, what was expected there, what was
//! found, and what to do.

use crate::failure::{Class, Failure, chain};
use object_store::Error as StoreError;
use std::path::Path;
use trainctl_checkpoint::CheckpointError;

/// A checkpoint error as a failure.
pub(crate) fn failure(error: &CheckpointError) -> Failure {
    if let CheckpointError::Io { action, object, source } = error {
        if let Some(source) = source.downcast_ref::<std::io::Error>() {
            return Failure::file(action, Path::new(object), source);
        }
        if let Some(source) = source.downcast_ref::<StoreError>() {
            return of_store(action, object, source);
        }
    }
    let class = match error {
        CheckpointError::Open(_) | CheckpointError::JobName { .. } => Class::Usage,
        CheckpointError::NotCommitted { .. } | CheckpointError::NoneWhole { .. } => Class::Refused,
        CheckpointError::Damaged(_)
        | CheckpointError::FormatVersion { .. }
        | CheckpointError::Tensor { .. }
        | CheckpointError::StateDiffers { .. }
        | CheckpointError::PinDiffers { .. } => Class::Damaged,
        CheckpointError::Layout(_)
        | CheckpointError::Part { .. }
        | CheckpointError::Full { .. }
        | CheckpointError::Io { .. } => Class::Local,
    };
    let failure = Failure::new(class, chain(error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What a store said about `object`: a path, or `s3://bucket/key`.
fn of_store(action: &str, object: &str, error: &StoreError) -> Failure {
    let Some((scheme, rest)) = object.split_once("://") else {
        return match io_error(error) {
            Some(source) => Failure::file(action, Path::new(object), source),
            None => Failure::new(Class::Local, format!("{action} {object}: {}", chain(error))),
        };
    };
    let bucket = format!("{scheme}://{}", rest.split('/').next().unwrap_or_default());
    let said = chain(error);
    match Trouble::of(error, &said) {
        Trouble::NoBucket => {
            let message =
                format!("{action} {object}: expected the bucket {bucket}, found no such bucket{}", at(scheme));
            Failure::new(Class::Refused, message).hint(format!(
                "look at the bucket's name{}",
                if scheme == "s3" { ", at AWS_ENDPOINT_URL_S3 and AWS_PROFILE" } else { "" }
            ))
        }
        Trouble::Refused(reason) => {
            let message = format!(
                "{action} {object}: expected credentials that may, found that they are refused: {reason}{}",
                at(scheme)
            );
            Failure::new(Class::Refused, message).hint(match scheme {
                "s3" => "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine",
                _ => "look at GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
            })
        }
        Trouble::Unreachable(reason) => {
            let message = format!("{action} {object}: expected a store that answers, found {reason}{}", at(scheme));
            Failure::new(Class::Unreachable, message).hint(match scheme {
                "s3" => "look at the network, and at AWS_ENDPOINT_URL_S3, AWS_REGION and AWS_PROFILE",
                _ => "look at the network, and at STORAGE_EMULATOR_HOST if it is set",
            })
        }
        Trouble::Endpoint(reason) => Failure::new(Class::Usage, format!("{action} {object}: {reason}"))
            .hint("set AWS_ENDPOINT_URL_S3 to the store's address, or unset it for AWS's own"),
        Trouble::Code(code) => {
            let message =
                format!("{action} {object}: expected the store to do it, found its error {code}{}", at(scheme));
            Failure::new(Class::Local, message)
        }
        Trouble::Other => Failure::new(Class::Local, format!("{action} {object}: {said}")),
    }
}

/// ` at ENDPOINT`, where the environment names one.
fn at(scheme: &str) -> String {
    let variables: &[&str] =
        if scheme == "s3" { &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] } else { &["STORAGE_EMULATOR_HOST"] };
    let named = variables.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty());
    named.map_or_else(String::new, |endpoint| format!(" (endpoint {endpoint})"))
}

/// What S3 and its likes call it when they don't take somebody's word.
const REFUSALS: [&str; 7] = [
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// What is wrong with a store, by what the user does about it.
enum Trouble {
    NoBucket,
    /// The keys are unknown, wrong, or may not. Holds what the store calls it.
    Refused(String),
    /// Holds why.
    Unreachable(String),
    /// The environment names an endpoint that is none. Holds what is wrong with it.
    Endpoint(String),
    /// Whatever else the store calls it.
    Code(String),
    Other,
}

impl Trouble {
    fn of(error: &StoreError, said: &str) -> Self {
        let between = |tag: &str| {
            let (_, rest) = said.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once(&format!("</{tag}>"))?.0)
        };
        let code = between("Code");
        let in_full = code.map(|code| match between("Message") {
            Some(message) => format!("{code} ({})", message.trim_end_matches('.')),
            None => code.to_owned(),
        });
        match (error, code) {
            (_, Some("NoSuchBucket")) | (StoreError::NotFound { .. }, _) => Self::NoBucket,
            (_, Some(code)) if REFUSALS.contains(&code) => Self::Refused(in_full.unwrap_or_default()),
            (StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }, _) => {
                Self::Refused(in_full.unwrap_or_else(|| root_cause(error)))
            }
            (_, Some(_)) => Self::Code(in_full.unwrap_or_default()),
            (StoreError::Generic { .. }, None) => match root_cause(error) {
                cause if cause.contains("endpoint: expected") => Self::Endpoint(cause),
                cause => Self::Unreachable(cause),
            },
            _ => Self::Other,
        }
    }
}

/// The innermost reason, which is the one that says something.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(error) => crate::failure::Plain(error).to_string(),
        None => cause.to_string(),
    }
}

fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}
