//! What a cloud says to a machine before it takes it. Each cloud has a metadata server that only the machine itself can
//! ask; this watches it, and tells what it says as a [`Warning`]. What to do about that is the worker's to decide.
//!
//! A metadata server may be slow, silent, restarting or not there at all. Nothing of that is a warning, and nothing of
//! that ends the watch: it is logged once when it begins and once when it is over.

mod ec2;
mod gce;
mod http;
mod trouble;

use ::http::Uri;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;
use tokio::sync::mpsc;

/// Where the address is looked for; the same variables as in the clouds' own tools.
const EC2_VARIABLE: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
const GCE_VARIABLE: &str = "GCE_METADATA_HOST";
/// Link-local on both clouds: no name to resolve that could resolve to something else.
const METADATA_ADDRESS: &str = "http://169.254.169.254";

/// Who runs the machine, and so whom to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cloud {
    /// Amazon EC2: the instance metadata service, version 2.
    Ec2,
    /// Google Compute Engine: the metadata server.
    Gce,
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ec2 => "ec2",
            Self::Gce => "gce",
        })
    }
}

/// Not the name of a cloud.
#[derive(Debug, thiserror::Error)]
#[error("expected ec2 or gce, found {0:?}")]
pub struct UnknownCloud(String);

impl FromStr for Cloud {
    type Err = UnknownCloud;

    fn from_str(name: &str) -> Result<Self, UnknownCloud> {
        match name {
            "ec2" => Ok(Self::Ec2),
            "gce" => Ok(Self::Gce),
            other => Err(UnknownCloud(other.to_owned())),
        }
    }
}

/// What a cloud said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Warning {
    /// It takes the machine.
    Eviction {
        /// When the machine will be gone, by this machine's clock. Best effort: it may be sooner.
        deadline: SystemTime,
        /// Who said so, in words.
        source: String,
    },
    /// It is likelier to take this machine than others like it. Nothing is certain, and no time is named.
    Rebalance {
        /// Who said so, in words.
        source: String,
    },
}

/// A metadata server to watch.
#[derive(Clone, Debug)]
pub struct Source {
    cloud: Cloud,
    /// Without a slash at its end.
    base: String,
}

/// The address of a metadata server can't be used.
#[derive(Debug, thiserror::Error)]
#[error("metadata server: expected http://HOST[:PORT][/PATH], found {found:?}")]
pub struct BadAddress {
    found: String,
}

impl Source {
    /// The metadata server at this address, such as `http://169.254.169.254`; a path in it goes before every other.
    ///
    /// # Errors
    /// It is not a URL of plain HTTP.
    pub fn new(cloud: Cloud, base: &str) -> Result<Self, BadAddress> {
        let base = base.trim_end_matches('/');
        let usable = |uri: Uri| uri.scheme_str() == Some("http") && uri.host().is_some() && uri.query().is_none();
        match base.parse().is_ok_and(usable) {
            true => Ok(Self { cloud, base: base.to_owned() }),
            false => Err(BadAddress { found: base.to_owned() }),
        }
    }

    /// The cloud's own address, unless `variable` reads another one from the environment:
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` is a URL, `GCE_METADATA_HOST` is `HOST[:PORT]`.
    ///
    /// # Errors
    /// What the environment says is no such address.
    pub fn from_environment(cloud: Cloud, variable: impl Fn(&str) -> Option<String>) -> Result<Self, BadAddress> {
        let base = match cloud {
            Cloud::Ec2 => variable(EC2_VARIABLE).filter(|url| !url.is_empty()),
            Cloud::Gce => variable(GCE_VARIABLE).filter(|host| !host.is_empty()).map(|host| format!("http://{host}")),
        };
        Self::new(cloud, base.as_deref().unwrap_or(METADATA_ADDRESS))
    }
}

/// Watches for warnings, and tells each once. Returns when nothing more can come, or nobody listens any more.
pub async fn watch(source: Source, tell: mpsc::Sender<Warning>) {
    let client = http::Client::new(source.base);
    let watched = async {
        match source.cloud {
            Cloud::Ec2 => ec2::watch(&client, &tell).await,
            Cloud::Gce => gce::watch(&client, &tell).await,
        }
    };
    tokio::select! {
        () = watched => {}
        () = tell.closed() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_another_server() {
        let of = |cloud, value: Option<&str>| Source::from_environment(cloud, |_| value.map(str::to_owned));
        assert_eq!(of(Cloud::Ec2, None).unwrap().base, METADATA_ADDRESS);
        assert_eq!(of(Cloud::Gce, Some("")).unwrap().base, METADATA_ADDRESS);
        assert_eq!(of(Cloud::Ec2, Some("http://[fd00:ec2::254]/")).unwrap().base, "http://[fd00:ec2::254]");
        assert_eq!(of(Cloud::Ec2, Some("http://127.0.0.1:7/imds/i-1")).unwrap().base, "http://127.0.0.1:7/imds/i-1");
        assert_eq!(of(Cloud::Gce, Some("127.0.0.1:7")).unwrap().base, "http://127.0.0.1:7");
        for wrong in ["https://169.254.169.254", "169.254.169.254", "http://", "http://a b"] {
            let error = of(Cloud::Ec2, Some(wrong)).unwrap_err();
            assert!(error.to_string().contains(&format!("found {wrong:?}")) || wrong == "http://", "{error}");
        }
    }

    #[test]
    fn a_cloud_is_read_as_it_is_written() {
        for cloud in [Cloud::Ec2, Cloud::Gce] {
            assert_eq!(cloud.to_string().parse::<Cloud>().unwrap(), cloud);
        }
        assert_eq!("aws".parse::<Cloud>().unwrap_err().to_string(), "expected ec2 or gce, found \"aws\"");
    }
}
