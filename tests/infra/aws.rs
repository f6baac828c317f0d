//! The module for AWS, applied and destroyed, on a server that stands for AWS's APIs.

use crate::terraform::Terraform;
use coordinator_provider::table::{self, Table};
use std::path::Path;
use trainctl_test_servers::Moto;

/// One of the images that the server knows from its start.
const IMAGE: &str = "ami-1e749f67";

/// A configuration as a user's, with a provider that calls `endpoint`.
fn root(endpoint: &str, arguments: &str) -> String {
    let services =
        ["ec2", "iam", "s3", "ssm", "sts"].map(|service| format!("    {service} = \"{endpoint}\"\n")).concat();
    format!(
        "terraform {{\n  required_providers {{\n    aws = {{ source = \"hashicorp/aws\" }}\n  }}\n}}\n\
         provider \"aws\" {{\n  region = \"us-east-1\"\n  access_key = \"key\"\n  secret_key = \"secret\"\n  \
         s3_use_path_style = true\n  skip_metadata_api_check = true\n  skip_credentials_validation = true\n  \
         endpoints {{\n{services}  }}\n}}\n\
         module \"trainctl\" {{\n  source = \"../infra/terraform/aws\"\n{arguments}}}\n\
         output \"all\" {{\n  value = module.trainctl\n}}\n"
    )
}

const ARGUMENTS: &str = "  bundle = \"../bundle.tar.zst\"\n  image_id = \"ami-1e749f67\"\n  max_workers = 4\n  \
                         zones = [\"us-east-1a\", \"us-east-1b\"]\n  \
                         instance_types = {\n    \"c7i.xlarge\" = { on_demand_usd_per_hour = 0.1785 }\n    \
                         \"c7i.2xlarge\" = { on_demand_usd_per_hour = 0.357, speed = 1.8 }\n  }\n";

#[test]
fn applied_changed_and_destroyed() {
    let Some(terraform) = Terraform::new() else { return };
    let moto = Moto::start();
    // The server knows no conditions: to it, the bucket's policy denies everything.
    let override_ = "resource \"aws_s3_bucket_policy\" \"this\" {\n  count = 0\n}\n";
    std::fs::write(terraform.path("infra/terraform/aws/policy_override.tf"), override_).expect("write a configuration");
    terraform.write_root(&root(&moto.endpoint(), ARGUMENTS));
    if !terraform.initialised("root") {
        return;
    }
    terraform.run_in("root", &["validate"]);
    terraform.run_in("root", &["apply", "-auto-approve", "-input=false"]);
    let outputs: serde_json::Value =
        serde_json::from_str(&terraform.run_in("root", &["output", "-json", "all"])).expect("outputs");
    pools_are_what_the_coordinator_reads(&outputs);
    assert_eq!(outputs["checkpoint_root"], "s3://trainctl-123456789012-us-east-1/runs");

    // Another bundle gets another name, and so the coordinator another machine.
    std::fs::write(terraform.path("bundle.tar.zst"), "another bundle").expect("write a bundle");
    let plan = terraform.run_in("root", &["plan", "-input=false"]);
    assert!(plan.contains("module.trainctl.aws_instance.coordinator must be replaced"), "{plan}");
    // The bundle, the machine, and its hold on the disk; the disk with the records stays.
    assert!(plan.contains("Plan: 3 to add, ") && plan.contains(" 3 to destroy."), "{plan}");

    terraform.run_in("root", &["destroy", "-auto-approve", "-input=false"]);
    let left = terraform.run_in("root", &["show", "-json"]);
    assert!(left.starts_with("{\"format_version\"") && !left.contains("\"resources\""), "{left}");
}

fn pools_are_what_the_coordinator_reads(outputs: &serde_json::Value) {
    let text = outputs["pools"].as_str().expect("the pools");
    let read = table::read(text, "pools.toml", Path::new(""), |root| {
        let mut coordinator = root.table("coordinator").expect("how machines reach the coordinator");
        let url = coordinator.text("url", "a URL").expect("a URL");
        // Beyond its own machine a coordinator answers over TLS only.
        assert!(url.starts_with("https://"), "{url}");
        assert_eq!(outputs["coordinator_url"], url);
        let mut bundle = root.table("bundle").expect("what machines run");
        let uri = bundle.text("uri", "a URI").expect("a URI");
        let key = uri.strip_prefix("s3://trainctl-123456789012-us-east-1/bundles/").expect("in the bucket");
        assert!(key.ends_with("/bundle.tar.zst"), "{uri}");
        let digest = bundle.text("digest", "a digest").expect("a digest");
        assert!(digest.strip_prefix("sha256:").is_some_and(|digest| digest.len() == 64), "{digest}");
        let of_kind = |pool: &mut Table<'_>| {
            assert_eq!(pool.text("kind", "a kind").as_deref(), Some("aws"));
            coordinator_aws::parse(pool)
        };
        root.entries("pools").iter_mut().filter_map(of_kind).collect::<Vec<_>>()
    });
    let pools = read.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    let [pool] = &pools[..] else { panic!("one pool: {pools:?}") };
    assert_eq!((pool.name.0.as_str(), pool.max, pool.spot, pool.on_demand), ("aws", 4, true, true));
    let types: Vec<_> = pool.types.iter().map(|it| (it.name.as_str(), it.speed, it.on_demand_usd_per_hour)).collect();
    assert_eq!(types, [("c7i.2xlarge", 1.8, 0.357), ("c7i.xlarge", 1.0, 0.1785)]);
    let region = &pool.regions["us-east-1"];
    assert_eq!(Some(region.template.name.as_str()), outputs["launch_template_id"].as_str());
    let subnets = outputs["subnets"].as_object().expect("subnets by zone");
    assert_eq!(subnets.keys().collect::<Vec<_>>(), ["us-east-1a", "us-east-1b"]);
    assert_eq!(region.subnets, subnets.values().map(|it| it.as_str().expect("an id")).collect::<Vec<_>>());
}

#[test]
fn all_that_is_wrong_is_said_before_anything_is_made() {
    let Some(terraform) = Terraform::new() else { return };
    // Nobody listens there; nobody is to be asked.
    let endpoint = format!("http://127.0.0.1:{}", trainctl_test_servers::free_port());
    let wrong = [
        ("bundle.tar.zst", "bundle.zip", "expected the path of a file that ends with .tar.zst or .tar.gz"),
        ("\"us-east-1b\"", "\"us-east-1\"", "zones: expected names such as us-east-1a"),
        ("max_workers = 4", "max_workers = 1.5", "max_workers: expected a whole number"),
        ("speed = 1.8", "speed = 0", "expected speeds and prices above 0"),
        (IMAGE, "ubuntu", "image_id: expected an id such as"),
    ];
    let mut arguments = ARGUMENTS.to_owned();
    for (right, wrong, _) in wrong {
        assert!(arguments.contains(right), "{right}");
        arguments = arguments.replace(right, wrong);
    }
    terraform.write_root(&root(&endpoint, &arguments));
    if !terraform.initialised("root") {
        return;
    }
    let output = terraform.try_in("root", &["plan", "-input=false", "-refresh=false"]);
    // Lines are wrapped, and framed.
    let said = String::from_utf8_lossy(&output.stderr).replace(['│', '\n'], " ");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!output.status.success());
    for (_, _, told) in wrong {
        assert!(said.contains(told), "{told}\n{said}");
    }
}
