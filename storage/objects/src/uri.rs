//! Reading and writing the URIs of local places.

use std::path::{Path, PathBuf};
use url::Url;

/// A URI that can't be opened. Each is the user's to mend: nothing gets better by trying again.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A store that this build has no code for.
    #[error(
        "{uri}: expected file:///path, an absolute path, s3://bucket/path or gs://bucket/path, found the scheme {scheme:?}"
    )]
    Scheme {
        /// As the user wrote it.
        uri: String,
        /// `s3`, `gs`, ...
        scheme: String,
    },
    /// A bucket where only a local folder will do.
    #[error("{uri}: expected a local folder, found a bucket")]
    NotLocal {
        /// As the user wrote it.
        uri: String,
    },
    /// `s3://` and no bucket that could exist.
    #[error(
        "{uri}: expected {scheme}://BUCKET/PATH with a bucket of 3 to 63 lower-case letters, digits, - and ., found {found}"
    )]
    BucketName {
        /// As the user wrote it.
        uri: String,
        /// `s3` or `gs`.
        scheme: String,
        /// In the place of the bucket's name.
        found: String,
    },
    /// A cloud whose SDK this build was made without.
    #[error("{uri}: this build has no code for such buckets")]
    NotBuiltIn {
        /// As the user wrote it.
        uri: String,
        /// The feature that has.
        feature: &'static str,
    },
    /// A relative path: its meaning would depend on who opens it.
    #[error("{uri:?}: expected file:///path or an absolute path, found a relative one")]
    Relative {
        /// As the user wrote it.
        uri: String,
    },
    /// `file://host/path` and the like.
    #[error("{uri}: expected file:///path with no host, found {found}")]
    FileUri {
        /// As the user wrote it.
        uri: String,
        /// What is in the way.
        found: String,
    },
    /// A path with characters that no object name may have.
    #[error("{uri}: not a path that objects can have")]
    Path {
        /// As the user wrote it.
        uri: String,
        /// Which character or segment.
        #[source]
        source: Box<object_store::path::Error>,
    },
}

impl OpenError {
    /// What the user can do about it, one clause.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Scheme { scheme, uri } if matches!(scheme.as_str(), "gcs" | "s3a" | "s3n") => {
                let (_, rest) = uri.split_once("://").unwrap_or_default();
                format!("write {}://{rest}", if scheme == "gcs" { "gs" } else { "s3" })
            }
            Self::Scheme { .. } => "write file:///path/to/folder or s3://bucket/path".to_owned(),
            Self::NotLocal { .. } => "write file:///path/to/folder".to_owned(),
            Self::BucketName { scheme, .. } => {
                format!(
                    "write {scheme}://your-bucket/path; another endpoint goes into the environment (AWS_ENDPOINT_URL_S3)"
                )
            }
            Self::NotBuiltIn { feature, .. } => format!("build with `--features {feature}`"),
            Self::Relative { uri } => format!("write the whole path, such as /data/{}", uri.trim_start_matches("./")),
            Self::FileUri { .. } => "write three slashes: file:///path/to/folder".to_owned(),
            Self::Path { .. } => "use a path without `.`, `..` or control characters".to_owned(),
        }
    }
}

/// The local path that `uri` names: the inverse of [`file_uri`]. An absolute path names itself.
///
/// # Errors
/// [`OpenError`] when `uri` is neither `file:///path` nor an absolute path.
pub fn local_path(uri: &str) -> Result<PathBuf, OpenError> {
    if Path::new(uri).is_absolute() {
        return Ok(PathBuf::from(uri));
    }
    let Some((scheme, _)) = uri.split_once("://") else {
        return Err(OpenError::Relative { uri: uri.to_owned() });
    };
    if matches!(scheme, "s3" | "gs") {
        return Err(OpenError::NotLocal { uri: uri.to_owned() });
    }
    if scheme != "file" {
        return Err(OpenError::Scheme { uri: uri.to_owned(), scheme: scheme.to_owned() });
    }
    let file_error = |found: String| OpenError::FileUri { uri: uri.to_owned(), found };
    let url = Url::parse(uri).map_err(|error| file_error(error.to_string()))?;
    if let Some(host) = url.host_str() {
        return Err(file_error(format!("the host {host:?}")));
    }
    for (part, mark) in [(url.query(), '?'), (url.fragment(), '#')] {
        if let Some(part) = part {
            return Err(file_error(format!("\"{mark}{part}\" (a literal {mark} is written %{:02X})", u32::from(mark))));
        }
    }
    url.to_file_path().map_err(|()| file_error("no path".to_owned()))
}

/// `file:///path` of an absolute path, with what needs it percent-encoded.
///
/// # Panics
/// When `path` is relative.
#[must_use]
pub fn file_uri(path: &Path) -> String {
    Url::from_file_path(path).unwrap_or_else(|()| panic!("{} is not absolute", path.display())).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_wrong_uri_says_what_was_found_and_what_to_write() {
        for (uri, message, hint) in [
            ("s3://bucket/prefix", "expected a local folder, found a bucket", "file:///"),
            ("gcs://bucket/prefix", "found the scheme \"gcs\"", "write gs://bucket/prefix"),
            ("ftp://host/x", "found the scheme \"ftp\"", "file:///"),
            ("data/digits", "found a relative one", "/data/data/digits"),
            ("", "found a relative one", "whole path"),
            ("file://host/x", "the host \"host\"", "three slashes"),
            ("file:///x#1", "\"#1\" (a literal # is written %23)", "three slashes"),
        ] {
            let error = local_path(uri).unwrap_err();
            assert!(error.to_string().contains(message), "{uri}: {error}");
            assert!(error.hint().contains(hint), "{uri}: {}", error.hint());
        }
    }

    proptest! {
        #[test]
        fn any_path_survives_the_way_through_its_uri(path in "(/[^/\0]{1,12}){1,4}") {
            prop_assume!(!path.split('/').any(|part| part == "." || part == ".."));
            prop_assert_eq!(local_path(&file_uri(Path::new(&path))).unwrap(), PathBuf::from(&path));
        }
    }
}
