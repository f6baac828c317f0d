//! `pools.toml`: which pools there are, of which kinds, and what rented machines need to know of their coordinator. Each
//! kind's own keys are read by its provider's crate.

use coordinator_core::PoolName;
use coordinator_provider::Bundle;
use coordinator_provider::table::{self, Problem, Problems, Table};
use std::collections::BTreeSet;
use std::path::Path;

const KINDS: [&str; 4] = ["local", "static", "aws", "gcp"];

/// What the file says.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Pools {
    /// How machines reach the coordinator; absent: where it listens.
    pub(crate) url: Option<String>,
    /// What rented machines run: the same bytes, in a bucket of each cloud that has pools.
    pub(crate) bundles: Bundles,
    /// What is paid for beside machines.
    pub(crate) costs: Costs,
    /// Names of all pools, as jobs list them.
    pub(crate) names: BTreeSet<PoolName>,
    pub(crate) local: Vec<coordinator_local::PoolConfig>,
    pub(crate) fixed: Vec<coordinator_static::PoolConfig>,
    #[cfg(feature = "aws")]
    pub(crate) aws: Vec<coordinator_aws::PoolConfig>,
    #[cfg(feature = "gcp")]
    pub(crate) gcp: Vec<coordinator_gcp::PoolConfig>,
}

/// One for each cloud, all of the same bytes.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Bundles(Vec<Bundle>);

impl Bundles {
    /// For machines of the cloud whose buckets have this scheme.
    pub(crate) fn of(&self, scheme: &str) -> Option<&Bundle> {
        self.0.iter().find(|bundle| bundle.uri.strip_prefix(scheme).is_some_and(|rest| rest.starts_with("://")))
    }
}

/// What is paid for beside machines, in US dollars.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Costs {
    /// The coordinator's own machine.
    pub(crate) coordinator_usd_per_hour: f64,
    /// A gigabyte of checkpoints for a month.
    pub(crate) storage_usd_per_gb_month: f64,
}

impl Pools {
    /// Without a file: `local-spot` and `local`.
    pub(crate) fn without_file() -> Self {
        let local = coordinator_local::default_pools();
        Self { names: local.iter().map(|pool| pool.name.clone()).collect(), local, ..Self::default() }
    }

    /// Reads a file; relative paths in it start at its folder.
    /// `encrypted`: this coordinator answers over TLS only.
    pub(crate) fn load(path: &Path, encrypted: bool) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Problems(vec![Problem {
                place: path.display().to_string(),
                message: format!("expected a readable file of pools, found: {error}"),
                hint: Some("leave it out to have the pools local-spot and local".to_owned()),
            }])
        })?;
        Self::parse(&text, &path.display().to_string(), path.parent().unwrap_or(Path::new("")), encrypted)
    }

    fn parse(text: &str, source: &str, base: &Path, encrypted: bool) -> Result<Self, Problems> {
        table::read(text, source, base, |root| {
            let mut pools = Self::default();
            if let Some(mut coordinator) = root.table("coordinator") {
                pools.url = url(&mut coordinator, encrypted);
                let _ = coordinator.finish();
            }
            if let Some(mut costs) = root.table("costs") {
                pools.costs = self::costs(&mut costs);
            }
            let mut bundle = root.table("bundle");
            if let Some(bundle) = &mut bundle {
                pools.bundles = self::bundles(bundle);
            }
            for mut pool in root.entries("pools") {
                pools.names.insert(PoolName::from(pool.name()));
                pools.pool(&mut pool, root);
            }
            if let Some(bundle) = bundle.filter(|_| pools.bundles != Bundles::default()) {
                pools.check_bundles(bundle);
            }
            let _ = root.finish();
            if pools.names.is_empty() && root.is_sound() {
                let hint = "[pools.local-spot]\n      kind = \"local\"\n      capacity = 8";
                root.problem("pools", "expected at least one table [pools.NAME], found none", Some(hint));
            }
            pools
        })
    }

    /// Machines fetch with their own role, so from a bucket of their own cloud.
    fn check_bundles(&self, mut table: Table<'_>) {
        let rents: &[(&str, bool)] = &[
            #[cfg(feature = "aws")]
            ("s3", !self.aws.is_empty()),
            #[cfg(feature = "gcp")]
            ("gs", !self.gcp.is_empty()),
        ];
        for (scheme, _) in rents.iter().filter(|(scheme, rents)| *rents && self.bundles.of(scheme).is_none()) {
            table.wrong("uri", &format!("a URI {scheme}://... for the pools of that cloud, beside others in a list"));
        }
    }

    fn pool(&mut self, pool: &mut Table<'_>, root: &mut Table<'_>) {
        pool.require("kind", &KINDS.map(|kind| format!("{kind:?}")).join(" or "));
        let Some(kind) = pool.one_of("kind", &KINDS) else { return };
        match kind.as_str() {
            "local" => self.local.extend(coordinator_local::parse(pool)),
            "static" => self.fixed.extend(coordinator_static::parse(pool)),
            #[cfg(feature = "aws")]
            "aws" => {
                rented(root);
                self.aws.extend(coordinator_aws::parse(pool));
            }
            #[cfg(feature = "gcp")]
            "gcp" => {
                rented(root);
                self.gcp.extend(coordinator_gcp::parse(pool));
            }
            other => {
                let _ = root;
                let message = format!("expected a kind that this program was built for, found {other:?}");
                let hint = format!("build it with `cargo build --release -p trainctl --features {other}`");
                pool.problem("kind", &message, Some(&hint));
            }
        }
    }
}

fn url(coordinator: &mut Table<'_>, encrypted: bool) -> Option<String> {
    let (scheme, expected) = match encrypted {
        true => ("https://", "a URL such as \"https://10.0.0.5:7070\""),
        false => ("http://", "a URL such as \"http://10.0.0.5:7070\""),
    };
    coordinator.require("url", expected);
    let url = coordinator.text("url", expected)?;
    match (url.strip_prefix(scheme), url.split_once("://")) {
        (Some(host), _) if !host.is_empty() => {}
        (None, Some(("http", host))) if !host.is_empty() => {
            let message = format!("expected https://, as this coordinator answers over TLS only, found {url:?}");
            let hint = "say https://; with --tls never it answers in the clear, in a network where nobody else listens";
            coordinator.problem("url", &message, Some(hint));
        }
        (None, Some(("https", host))) if !host.is_empty() => {
            let message = format!("expected http://, as this coordinator answers in the clear, found {url:?}");
            let hint = "it answers over TLS with --tls always, and where it listens beyond this machine";
            coordinator.problem("url", &message, Some(hint));
        }
        _ => coordinator.wrong("url", expected),
    }
    Some(url)
}

fn costs(table: &mut Table<'_>) -> Costs {
    let coordinator = table.usd_per_hour("coordinator_usd_per_hour");
    let expected = "US dollars for a gigabyte and month, 0 or more";
    let storage = table.number("storage_usd_per_gb_month", expected, |usd| usd >= 0.0);
    let _ = table.finish();
    Costs {
        coordinator_usd_per_hour: coordinator.unwrap_or_default(),
        storage_usd_per_gb_month: storage.unwrap_or_default(),
    }
}

fn bundles(table: &mut Table<'_>) -> Bundles {
    let where_ = "a URI such as \"s3://bucket/trainctl.tar.zst\", or a list of one for each cloud";
    let what = "a digest such as \"sha256:...\"";
    table.require("uri", where_);
    table.require("digest", what);
    let (uris, digest) = (table.one_or_more("uri", where_), table.text("digest", what));
    let (Some(()), Some(uris), Some(digest)) = (table.finish(), uris, digest) else { return Bundles::default() };
    Bundles(uris.into_iter().map(|uri| Bundle { uri, digest: digest.clone() }).collect())
}

/// What must be there for machines that are rented.
#[cfg(any(feature = "aws", feature = "gcp"))]
fn rented(root: &mut Table<'_>) {
    for (key, expected) in [
        ("coordinator", "a table with the url at which rented machines reach this coordinator"),
        ("bundle", "a table with the uri and the digest of what rented machines run"),
    ] {
        if root.is_sound() {
            root.require(key, expected);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Pools, Problems> {
        Pools::parse(text, "pools.toml", Path::new("/nowhere"), false)
    }

    #[test]
    fn the_url_is_as_the_coordinator_answers() {
        let parse = |url: &str, encrypted| {
            let text = format!("[coordinator]\nurl = '{url}'\n[pools.lab]\nkind = 'static'\n");
            Pools::parse(&text, "pools.toml", Path::new("/nowhere"), encrypted).map_err(|errors| errors.to_string())
        };
        assert!(parse("http://10.0.0.5:7070", false).is_ok() && parse("https://10.0.0.5:7070", true).is_ok());
        let plain = parse("http://10.0.0.5:7070", true).expect_err("TLS only");
        let expected = "pools.toml:2:7: coordinator.url: expected https://, as this coordinator answers over TLS only, \
                        found \"http://10.0.0.5:7070\"\nhint: say https://; with --tls never it";
        assert!(plain.starts_with(expected), "{plain}");
        let encrypted = parse("https://10.0.0.5:7070", false).expect_err("in the clear");
        assert!(encrypted.contains("expected http://, as this coordinator answers in the clear"), "{encrypted}");
        assert!(encrypted.contains("\nhint: it answers over TLS with --tls always"), "{encrypted}");
        for wrong in ["10.0.0.5", "https://", "ftp://a"] {
            let error = parse(wrong, true).expect_err(wrong);
            assert!(error.contains("expected a URL such as \"https://10.0.0.5:7070\", found"), "{error}");
        }
    }

    #[test]
    fn pools_of_several_kinds_stand_in_one_file() {
        let text = "[coordinator]\nurl = 'http://10.0.0.5:7070'\n[costs]\ncoordinator_usd_per_hour = 0.1\n[bundle]\nuri = 's3://b/t.tar.zst'\n\
                    digest = 'sha256:00'\n[pools.a]\nkind = 'local'\ncapacity = 1\n[pools.lab]\nkind = 'static'\n";
        let pools = parse(text).expect("good pools");
        assert_eq!(pools.url.as_deref(), Some("http://10.0.0.5:7070"));
        assert_eq!(pools.costs, Costs { coordinator_usd_per_hour: 0.1, storage_usd_per_gb_month: 0.0 });
        assert_eq!(pools.bundles.0, [Bundle { uri: "s3://b/t.tar.zst".to_owned(), digest: "sha256:00".to_owned() }]);
        assert_eq!((pools.local.len(), pools.fixed.len(), pools.names.len()), (1, 1, 2));
    }

    #[test]
    fn all_problems_are_told_in_the_order_of_the_file() {
        let text = "[coordinator]\nurl = '10.0.0.5'\n[pools.a]\nkind = 'cloud'\n[pools.b]\nkind = 'local'\ncapcity = 3\n\
                    capacity = 2\n[pools.c]\ncapacity = 1\n[pool.d]\n";
        let errors = parse(text).expect_err("bad pools").to_string();
        let expected = "\
            pools.toml:2:7: coordinator.url: expected a URL such as \"http://10.0.0.5:7070\", found '10.0.0.5'\n\
            pools.toml:4:8: pools.a.kind: expected \"local\" or \"static\" or \"aws\" or \"gcp\", found 'cloud'\n\
            pools.toml:7:1: expected kind, spot, ";
        assert!(errors.starts_with(expected), "{errors}");
        for expected in [
            "found the unknown key capcity\nhint: did you mean capacity?\n",
            "pools.c.kind: expected \"local\" or \"static\" or \"aws\" or \"gcp\", found nothing",
            "pools.toml:11:2: expected coordinator, costs, bundle, pools, found the unknown key pool\n\
             hint: did you mean pools?",
        ] {
            assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
        }
    }

    #[cfg(all(feature = "aws", feature = "gcp"))]
    #[test]
    fn each_cloud_has_the_bundle_in_a_bucket_of_its_own() {
        let text = |uri: &str| {
            format!(
                "[coordinator]\nurl = 'http://10.0.0.5:7070'\n[bundle]\nuri = {uri}\ndigest = 'sha256:00'\n\
                 [pools.google]\nkind = 'gcp'\nproject = 'p'\nzones = ['us-central1-a']\nmachine_type = 'n2-standard-2'\n\
                 instance_template = 't'\nmax = 8\nusd_per_hour = 0.04\non_demand_usd_per_hour = 0.12\n"
            )
        };
        let both = parse(&text("['s3://b/t', 'gs://b/t']")).expect("good pools");
        assert_eq!(both.bundles.of("gs").map(|bundle| bundle.uri.as_str()), Some("gs://b/t"));
        assert_eq!(both.bundles.0.len(), 2);
        let errors = parse(&text("'s3://b/t'")).expect_err("none for Google").to_string();
        assert_eq!(
            errors,
            "pools.toml:4:7: bundle.uri: expected a URI gs://... for the pools of that cloud, beside others in a list, \
             found 's3://b/t'"
        );
        assert!(parse(&text("[]")).is_err() && parse(&text("['gs://b/t', 1]")).is_err());
    }

    #[cfg(not(feature = "aws"))]
    #[test]
    fn a_kind_that_is_not_built_in_is_one_error_with_a_hint() {
        let errors = parse("[pools.cloud]\nkind = 'aws'\nmax = 3\n").expect_err("not built in").to_string();
        assert_eq!(
            errors,
            "pools.toml:2:8: pools.cloud.kind: expected a kind that this program was built for, found \"aws\"\n\
             hint: build it with `cargo build --release -p trainctl --features aws`"
        );
    }

    #[test]
    fn an_empty_file_is_an_error() {
        assert!(parse("").expect_err("no pools").to_string().contains("at least one table [pools.NAME]"));
    }
}
