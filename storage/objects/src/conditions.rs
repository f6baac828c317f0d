//! Whether a store keeps the condition of a put: checkpoints are committed by "put where there is none", so a store that
//! lacks or ignores it can't hold them.

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, Result};

/// What a store makes of "put where there is none".
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conditions {
    /// The second of two such puts is refused.
    Kept,
    /// The store refuses all of them; its message.
    NotImplemented(String),
    /// The second of two such puts replaces the first.
    Ignored,
}

/// Puts a small object below `root` twice under the condition that there is none, and removes it.
///
/// # Errors
/// Whatever else the store reports: that it can't be reached, or that the caller may not write.
pub async fn check_conditions(store: &dyn ObjectStore, root: &Path) -> Result<Conditions> {
    let path = root.clone().join(format!("trainctl-probe-{:016x}", rand::random::<u64>()));
    let create = || store.put_opts(&path, PutPayload::from_static(b"probe"), PutOptions::from(PutMode::Create));
    match create().await {
        Ok(_) => {}
        Err(error) if is_not_implemented(&error) => return Ok(Conditions::NotImplemented(error.to_string())),
        Err(error) => return Err(error),
    }
    let second = create().await;
    let removed = store.delete(&path).await;
    let conditions = match second {
        Ok(_) => Conditions::Ignored,
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Conditions::Kept,
        Err(error) if is_not_implemented(&error) => Conditions::NotImplemented(error.to_string()),
        Err(error) => return Err(error),
    };
    removed.map(|()| conditions)
}

fn is_not_implemented(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. }) || error.to_string().contains("NotImplemented")
}
