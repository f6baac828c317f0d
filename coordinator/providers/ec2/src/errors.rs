//! The SDK's errors as the provider reads them.

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use coordinator_aws::{ApiError, Cause};
use std::error::Error;

pub(crate) fn read<E>(error: &SdkError<E, HttpResponse>) -> ApiError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let SdkError::ServiceError(answer) = error
        && let Some(code) = answer.err().code()
    {
        let message = answer.err().message().unwrap_or_default();
        return ApiError::answered(code, answer.raw().status().as_u16(), message);
    }
    // Without a code it is no answer of EC2 but of something on the way to it.
    let cause = match credentials_error(error) {
        Some(CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_)) => {
            Cause::CredentialsUnanswered
        }
        Some(_) => Cause::NoCredentials,
        None => Cause::Unanswered,
    };
    ApiError { cause, message: words(error) }
}

fn credentials_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e CredentialsError> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// An error with all that it stems from, in one line.
fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !words.contains(&next) {
            words = format!("{words}: {next}");
        }
        source = error.source();
    }
    words.replace('\n', " ")
}
