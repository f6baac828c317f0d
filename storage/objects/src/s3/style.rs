//! Where a request names its bucket: in the path (`https://host/bucket/key`), as most self-hosted servers want it, or
//! in the host name (`https://bucket.host/key`), as some providers insist.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>

use aws_config::profile::{self, ProfileSet};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};
use object_store::{Error, Result};
use url::Url;

/// Codes of stores that take the bucket in the host name only.
pub(crate) const REFUSALS: [&str; 2] = ["SecondLevelDomainForbidden", "VirtualHostDomainRequired"];
/// `true` asks for the host name, as other tools that speak S3 from Rust read it.
const VARIABLE: &str = "AWS_VIRTUAL_HOSTED_STYLE_REQUEST";

/// Where the bucket's name goes, for endpoints other than AWS's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// `https://host/bucket/key`
    Path,
    /// `https://bucket.host/key`
    HostName,
}

/// As the environment or the profile (`s3 = addressing_style`) says; else in the path.
pub(crate) async fn configured() -> Style {
    if let Ok(value) = std::env::var(VARIABLE) {
        return if value == "true" { Style::HostName } else { Style::Path };
    }
    // What is wrong with the files is reported where credentials are read.
    let files = EnvConfigFiles::default();
    match profile::load(&Fs::real(), &Env::real(), &files, None).await {
        Ok(profiles) => of_profile(&profiles),
        Err(_) => Style::Path,
    }
}

fn of_profile(profiles: &ProfileSet) -> Style {
    // A nested property comes as its lines.
    let nested = profiles.get("s3").unwrap_or_default();
    let style =
        nested.lines().filter_map(|line| line.split_once('=')).find(|(key, _)| key.trim() == "addressing_style");
    match style {
        Some((_, value)) if value.trim() == "virtual" => Style::HostName,
        _ => Style::Path,
    }
}

/// The endpoint with the bucket in its host name.
///
/// # Errors
/// When the endpoint is an address, which takes no name before it.
pub(crate) fn with_bucket(endpoint: &Url, bucket: &str) -> Result<String> {
    let failed = |found: String| Error::Generic { store: "S3", source: found.into() };
    let Some(url::Host::Domain(host)) = endpoint.host() else {
        return Err(failed(format!(
            "S3's endpoint: expected a host name, before which the bucket's name can go, found {endpoint}"
        )));
    };
    let mut with_bucket = endpoint.clone();
    let host = format!("{bucket}.{host}");
    with_bucket.set_host(Some(&host)).map_err(|error| failed(format!("S3's endpoint: {host}: {error}")))?;
    Ok(with_bucket.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_goes_before_the_host() {
        let with = |endpoint: &str| with_bucket(&Url::parse(endpoint).unwrap(), "my.runs");
        assert_eq!(with("https://oss.example.com").unwrap(), "https://my.runs.oss.example.com");
        assert_eq!(with("http://store:9000/").unwrap(), "http://my.runs.store:9000");
        assert!(with("http://127.0.0.1:9000").unwrap_err().to_string().contains("expected a host name"));
    }

    #[tokio::test]
    async fn a_profile_can_say_so() {
        for (text, style) in [
            ("[default]\ns3 =\n  addressing_style = virtual\n", Style::HostName),
            ("[default]\ns3 =\n  max_queue_size = 3\n  addressing_style=virtual\nregion = x\n", Style::HostName),
            ("[default]\ns3 =\n  addressing_style = path\n", Style::Path),
            ("[default]\nregion = x\n", Style::Path),
            ("[profile other]\ns3 =\n  addressing_style = virtual\n", Style::Path),
        ] {
            let files = Fs::from_map([("/config".to_owned(), text.as_bytes().to_vec())].into());
            let env = Env::from_slice(&[("AWS_CONFIG_FILE", "/config"), ("HOME", "/")]);
            let profiles = profile::load(&files, &env, &EnvConfigFiles::default(), None).await.unwrap();
            assert_eq!(of_profile(&profiles), style, "{text}");
        }
    }
}
