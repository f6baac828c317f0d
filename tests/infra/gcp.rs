//! The module for Google Cloud, against the schema of Google's provider. The provider itself is not run: a program of
//! ours stands for it, which knows its schema and nothing else, so that `terraform validate` can tell an argument that
//! doesn't exist, one that is missing, and one of the wrong type.

use crate::terraform::Terraform;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use trainctl_tests::repository;

/// Has the schema in it, as classes.
const SCHEMA: &str = "@cdktf/provider-google@16.12.1";
const PYTHON: [&str; 3] = ["pyvider==0.8.1", "grpcio==1.85.3", "protobuf==7.36.2"];

/// The stand-in, running.
struct Provider {
    process: Child,
    port: u16,
}

impl Provider {
    /// `None`, said, where schema or Python packages can't be had.
    fn start() -> Option<Self> {
        let tmp = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let schema =
            schema(&tmp).inspect_err(|why| eprintln!("SKIPPED: no schema of Google's provider: {why}")).ok()?;
        let python = trainctl_test_servers::python(&tmp, &PYTHON);
        let python = python.inspect_err(|why| eprintln!("SKIPPED: no Python with pyvider: {why}")).ok()?;
        let mut command = Command::new(python);
        command.arg(repository().join("tests/infra/google_provider.py")).arg(schema).stdout(Stdio::piped());
        let mut process = command.spawn().expect("start the provider");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("read its port");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the provider's port, found {line:?}"));
        Some(Self { process, port })
    }

    /// As Terraform is told of a provider that runs already.
    fn reattach(&self) -> String {
        let address = serde_json::json!({ "Network": "tcp", "String": format!("127.0.0.1:{}", self.port) });
        let provider = serde_json::json!({
            "Protocol": "grpc", "ProtocolVersion": 6, "Pid": self.process.id(), "Test": true, "Addr": address,
        });
        serde_json::json!({ "registry.terraform.io/hashicorp/google": provider }).to_string()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The package's folder, fetched once.
fn schema(tmp: &Path) -> Result<PathBuf, String> {
    let folder = tmp.join("google-schema");
    let run = |command: &mut Command| -> Result<String, String> {
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    };
    if !folder.join("package").exists() {
        let partial = tempfile::tempdir_in(tmp).map_err(|error| error.to_string())?;
        let packed = run(Command::new("npm").args(["pack", "--silent", SCHEMA]).current_dir(partial.path()))?;
        run(Command::new("tar").arg("-xzf").arg(packed).current_dir(partial.path()))?;
        // Somebody else may have been first.
        let _ = std::fs::rename(partial.path(), &folder);
    }
    Ok(folder.join("package"))
}

#[test]
fn the_module_and_its_example_are_valid() {
    let Some(mut terraform) = Terraform::new() else { return };
    let Some(provider) = Provider::start() else { return };
    terraform.set("TF_REATTACH_PROVIDERS", &provider.reattach());
    for folder in ["infra/terraform/gcp", "infra/terraform/gcp/examples/minimal"] {
        terraform.run_in(folder, &["init", "-backend=false", "-input=false"]);
        let said = terraform.run_in(folder, &["validate"]);
        assert!(said.contains("Success! The configuration is valid."), "{said}");
    }

    let path = terraform.path("infra/terraform/gcp/bucket.tf");
    let text = std::fs::read_to_string(&path).expect("read the module");
    for (right, wrong, told) in [
        ("public_access_prevention ", "public_access_prevented ", "An argument named \"public_access_prevented\""),
        ("  location ", "  # location ", "The argument \"location\" is required"),
        ("with_state                 = \"ARCHIVED\"", "no_such_block {}", "Blocks of type \"no_such_block\""),
    ] {
        let broken = text.replacen(right, wrong, 1);
        assert_ne!(broken, text, "{right}");
        std::fs::write(&path, broken).expect("break the module");
        let output = terraform.try_in("infra/terraform/gcp", &["validate"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(told), "{told}\n{said}");
    }
}
