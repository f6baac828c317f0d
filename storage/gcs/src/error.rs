//! What the service's answers mean to a caller of the trait.

use crate::STORE;
use object_store::path::Path;
use object_store::{Error, PutMode};

/// What was tried: the same answer means different things.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doing<'a> {
    Put(&'a PutMode),
    Other,
}

impl Doing<'_> {
    /// From Google's client.
    pub(crate) fn error(self, path: &Path, source: google_cloud_storage::Error) -> Error {
        let status = source.http_status_code();
        self.of_status(path, status, source.into())
    }

    /// From the status of an answer.
    pub(crate) fn of_status(
        self,
        path: &Path,
        status: Option<u16>,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> Error {
        let path = path.to_string();
        match (status, self) {
            (Some(404), Self::Put(PutMode::Update(_))) => Error::Precondition { path, source },
            (Some(404), _) => Error::NotFound { path, source },
            (Some(409 | 412), Self::Put(PutMode::Create)) => Error::AlreadyExists { path, source },
            (Some(412), _) => Error::Precondition { path, source },
            (Some(304), _) => Error::NotModified { path, source },
            (Some(401), _) => Error::Unauthenticated { path, source },
            (Some(403), _) => Error::PermissionDenied { path, source },
            _ => Error::Generic { store: STORE, source },
        }
    }
}
