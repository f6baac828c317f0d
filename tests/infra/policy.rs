//! The policies of checkov, over all that Terraform makes. What they find and is meant to be so says why, beside it.

use std::path::PathBuf;
use std::process::Command;
use trainctl_tests::repository;

#[test]
fn no_policy_is_broken_without_a_reason() {
    let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let python = match trainctl_test_servers::python(&tmp, &["checkov==3.3.30"]) {
        Ok(python) => python,
        Err(why) => {
            eprintln!("SKIPPED: no checkov: {why}");
            return;
        }
    };
    let mut command = Command::new(python.with_file_name("checkov"));
    command.args(["--quiet", "--compact", "--framework", "terraform", "--output", "json"]);
    // It would ask its maker's server for texts.
    command.args(["--skip-download", "--download-external-modules", "false"]);
    let output = command.arg("--directory").arg(repository().join("infra/terraform")).output().expect("run checkov");
    let said = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value =
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}\n{}", String::from_utf8_lossy(&output.stderr)));
    let failed: Vec<String> = report["results"]["failed_checks"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|check| format!("{} {}: {}", check["check_id"], check["resource"], check["check_name"]))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let count = |name: &str| report["summary"][name].as_u64().unwrap_or_default();
    assert!(count("passed") > 100 && count("parsing_errors") == 0, "{}", report["summary"]);
}
