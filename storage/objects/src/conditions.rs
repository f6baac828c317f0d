//! Whether a store keeps the condition of a put: checkpoints are committed by "put where there is none", so a store that
//! lacks or ignores it can't hold them.

use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, Result};

/// What a store makes of "put where there is none".
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conditions {
    /// The second of two such puts is refused.
    Kept,
    /// The store refuses all of them; the message that it gives.
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
        Err(error) if is_not_implemented(&error) => return Ok(Conditions::NotImplemented(message(&error))),
        Err(error) => return Err(error),
    }
    let second = create().await;
    let removed = store.delete(&path).await;
    let conditions = match second {
        Ok(_) => Conditions::Ignored,
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Conditions::Kept,
        Err(error) if is_not_implemented(&error) => Conditions::NotImplemented(message(&error)),
        Err(error) => return Err(error),
    };
    removed.map(|()| conditions)
}

/// Whether the store says that it lacks what it was asked for.
pub(crate) fn is_not_implemented(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. }) || error.to_string().contains("NotImplemented")
}

/// What the store itself says, without the request and its times.
fn message(error: &Error) -> String {
    let text = error.to_string();
    let within = text.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    within.map_or_else(|| text.clone(), |(message, _)| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_quoted_without_the_request() {
        let error = |text: &str| Error::Generic { store: "S3", source: text.to_owned().into() };
        let xml = "PUT http://x in 3 ms: <Error><Code>NotImplemented</Code><Message>no such header</Message></Error>";
        assert_eq!(message(&error(xml)), "no such header");
        assert_eq!(message(&error("NotImplemented")), "Generic S3 error: NotImplemented");
    }
}
