//! What `s3://bucket/prefix` and `gs://bucket/prefix` name.

use crate::uri::OpenError;
use object_store::path::Path;
use std::fmt;

/// The cloud of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cloud {
    /// Amazon S3, or what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
}

impl Cloud {
    /// As URIs begin.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
        }
    }
}

/// A bucket and a place in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Its cloud.
    pub cloud: Cloud,
    /// Its name.
    pub name: String,
    /// Empty: all of it.
    pub prefix: Path,
}

impl Bucket {
    /// The bucket that `uri` names; `None` when it is no bucket's URI.
    ///
    /// The rest of the URI is taken literally: object names may hold any character, `%`, `?` and `#` too.
    ///
    /// # Errors
    /// [`OpenError`] when it is one, and names no bucket or no possible object.
    pub fn parse(uri: &str) -> Option<Result<Self, OpenError>> {
        let (scheme, rest) = uri.split_once("://")?;
        let cloud = match scheme {
            "s3" => Cloud::S3,
            "gs" => Cloud::Gcs,
            _ => return None,
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some(found) = wrong_name(name) {
            return Some(Err(OpenError::BucketName { uri: uri.to_owned(), scheme: scheme.to_owned(), found }));
        }
        let prefix = Path::parse(prefix.trim_end_matches('/'))
            .map_err(|source| OpenError::Path { uri: uri.to_owned(), source: Box::new(source) });
        Some(prefix.map(|prefix| Self { cloud, name: name.to_owned(), prefix }))
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.cloud.scheme(), self.name, self.prefix)
    }
}

/// The rules that both clouds share: 3 to 63 lower-case letters, digits, `-`, `.` and `_`, a letter or digit at both
/// ends (GCS also has longer ones, of several words with dots between).
fn wrong_name(name: &str) -> Option<String> {
    let of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_');
    let at_an_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.is_empty() {
        return Some("none".to_owned());
    }
    if let Some(c) = name.chars().find(|c| !of_a_name(*c)) {
        return Some(format!("{name:?} with {c:?}"));
    }
    if !(3..=222).contains(&name.len()) {
        return Some(format!("{name:?} of {} characters", name.len()));
    }
    if !at_an_end(name.chars().next()) || !at_an_end(name.chars().last()) {
        return Some(format!("{name:?} with no letter or digit at an end"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uri_names_bucket_and_prefix() {
        let bucket = Bucket::parse("s3://my-runs/team/a b%/").unwrap().unwrap();
        assert_eq!((bucket.cloud, bucket.name.as_str(), bucket.prefix.as_ref()), (Cloud::S3, "my-runs", "team/a b%"));
        let bucket = Bucket::parse("gs://my-runs").unwrap().unwrap();
        assert_eq!((bucket.cloud, bucket.prefix.as_ref()), (Cloud::Gcs, ""));
        assert!(Bucket::parse("file:///x").is_none());
        assert!(Bucket::parse("/x").is_none());
    }

    #[test]
    fn wrong_ones_say_what_was_found() {
        for (uri, found) in [
            ("s3://", "none"),
            ("s3:///prefix", "none"),
            ("s3://My-Runs/x", "with 'M'"),
            ("gs://ab", "of 2 characters"),
            ("s3://-runs-/x", "no letter or digit at an end"),
            ("s3://runs:9000/x", "with ':'"),
        ] {
            let error = Bucket::parse(uri).unwrap().unwrap_err();
            assert!(error.to_string().contains(found), "{uri}: {error}");
        }
        for uri in ["s3://runs/a//b", "s3://runs/a/../b"] {
            assert!(matches!(Bucket::parse(uri).unwrap(), Err(OpenError::Path { .. })), "{uri}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_bucket_or_a_clear_error(text in "(s3|gs)://.{0,40}") {
            if let Ok(bucket) = Bucket::parse(&text).unwrap() {
                let again = Bucket::parse(&bucket.to_string()).unwrap().unwrap();
                prop_assert_eq!(again, bucket);
            }
        }
    }
}
