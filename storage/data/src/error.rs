//! What can go wrong with a data set, by what the caller does about it.

use trainctl_objects::OpenError;

/// A data set that can't be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The manifest does not hold. Reject the job.
    #[error("{manifest}: {place}: expected {expected}, found {found}")]
    Manifest {
        /// Which manifest, as the caller named it.
        manifest: String,
        /// `line 3, column 7`, or the key.
        place: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A pinned object is not there. Fail the job.
    #[error("{object}: expected an object, found none")]
    Missing {
        /// Its whole path.
        object: String,
    },
    /// An object is not the one that was pinned. Fail the job: other bytes would train another model.
    #[error("{object}: the data has changed: expected {what} {expected}, found {found}")]
    Changed {
        /// Its whole path.
        object: String,
        /// `size`, `digest` or `rows`.
        what: &'static str,
        /// As pinned.
        expected: String,
        /// As read.
        found: String,
    },
    /// An object's content is not in the format that it should be in. Reject the data set.
    #[error("{object}: {place}: expected {expected}, found {found}")]
    Malformed {
        /// Its whole path.
        object: String,
        /// `line 12`, `row 3`, `header`.
        place: String,
        /// What would be right.
        expected: String,
        /// What is there.
        found: String,
        /// What to do about it, one clause, where more is known than that it must be mended.
        hint: Option<Box<str>>,
    },
    /// The data set is larger than what this program handles. Reject it.
    #[error("{object}: expected at most {limit} {unit}, found {found}")]
    TooLarge {
        /// Its whole path, or the data set's name.
        object: String,
        /// Of what.
        unit: &'static str,
        /// The bound.
        limit: u64,
        /// What it would take.
        found: u128,
    },
    /// What the user asked of `pin` does not fit the data.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// Which option.
        option: &'static str,
        /// What would be right.
        expected: String,
        /// What was given.
        found: String,
        /// What to do, one clause.
        hint: String,
    },
    /// The place can't be opened at all.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store failed. Trying again may help.
    #[error("{object}: can't be read")]
    Store {
        /// Its whole path.
        object: String,
        /// As the store said it.
        #[source]
        source: object_store::Error,
    },
    /// A manifest could not be read or written.
    #[error("{path}: can't be {done}")]
    File {
        /// Which file.
        path: String,
        /// `read` or `written`.
        done: &'static str,
        /// As the system said it.
        #[source]
        source: std::io::Error,
    },
}

impl DataError {
    /// What the user can do about it, one clause; none where only they know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Manifest { .. } => Some("write the manifest anew with `trainctl data pin`".to_owned()),
            Self::Missing { .. } => Some("restore the object, or pin the data set as it is now".to_owned()),
            Self::Changed { .. } => Some(
                "restore the object as it was pinned, or pin it again and put the new digest into the job".to_owned(),
            ),
            Self::Option { hint, .. } => Some(hint.clone()),
            Self::Malformed { hint, .. } => {
                Some(hint.as_deref().unwrap_or("mend what is there, or leave it out of the data set").to_owned())
            }
            Self::Open(error) => Some(error.hint()),
            Self::TooLarge { .. } => Some("make it smaller, or cut it into several".to_owned()),
            Self::Store { .. } | Self::File { .. } => None,
        }
    }
}
