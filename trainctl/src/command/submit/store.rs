//! A job's checkpoint store, tried before the job is handed over: one that ignores or refuses conditional writes can't
//! hold checkpoints, and workers would find that out after their first steps.

use super::preflight::Checked;
use crate::failure::{Class, Failure};
use std::time::Duration;
use trainctl_objects::{Bucket, Conditions, check_conditions, open_with};

/// A store that takes longer is left to the workers.
const TRIAL_MAX: Duration = Duration::from_secs(10);

/// Tries the bucket of a job that saves to one.
///
/// # Errors
/// When the store lacks conditional writes. One that can't be reached or written to from here is no error: the workers
/// may have what this machine lacks.
pub(super) async fn check(checked: &Checked) -> Result<(), Failure> {
    let Some(root) = &checked.spec.checkpoint.root else { return Ok(()) };
    if Bucket::parse(root).is_none() {
        return Ok(());
    }
    let Ok((store, path)) = open_with(root, TRIAL_MAX) else { return Ok(()) };
    let found = match tokio::time::timeout(TRIAL_MAX, check_conditions(&*store, &path)).await {
        Ok(Ok(Conditions::NotImplemented(message))) => format!("one that refuses it: {message}"),
        Ok(Ok(Conditions::Ignored)) => "one that replaces the object".to_owned(),
        Ok(Ok(Conditions::Kept) | Err(_)) | Err(_) => return Ok(()),
    };
    let message = format!(
        "{}: checkpoint.root: expected a store that can create an object only if it is absent, found {found} ({root})",
        checked.source.display()
    );
    Err(Failure::new(Class::Usage, message)
        .hint("save to another store; S3, MinIO, Ceph, SeaweedFS and Cloudflare R2 have If-None-Match"))
}
