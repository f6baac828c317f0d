//! Terraform in a folder of its own, with a copy of what the repository has.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use trainctl_tests::repository;

/// Where plug-ins lie that didn't come from the registry, beside the folders that Terraform knows by itself.
const PLUGINS: [&str; 2] = ["/opt/tf-plugins", "/usr/local/share/terraform/plugins"];

/// A copy of `infra`, and a folder beside it that uses its modules.
pub(crate) struct Terraform {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

impl Terraform {
    /// `None`, said, where there is no terraform.
    pub(crate) fn new() -> Option<Self> {
        if let Err(why) = Command::new("terraform").arg("version").output() {
            eprintln!("SKIPPED: no terraform: {why}");
            return None;
        }
        let folder = tempfile::tempdir().expect("make a folder");
        copy(&repository().join("infra"), &folder.path().join("infra"));
        std::fs::create_dir(folder.path().join("root")).expect("make a folder");
        std::fs::write(folder.path().join("bundle.tar.zst"), "a bundle").expect("write a bundle");
        let mut this = Self { folder, variables: Vec::new() };
        this.set("TF_CLI_CONFIG_FILE", &this.settings());
        this.set("CHECKPOINT_DISABLE", "1");
        Some(this)
    }

    /// A path in the copy.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Of what Terraform runs with.
    pub(crate) fn set(&mut self, variable: &str, value: &str) {
        self.variables.push((variable.to_owned(), value.to_owned()));
    }

    /// The configuration that is worked on.
    pub(crate) fn write_root(&self, text: &str) {
        std::fs::write(self.path("root/main.tf"), text).expect("write a configuration");
    }

    /// Runs it in a folder of the copy.
    pub(crate) fn try_in(&self, folder: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("terraform");
        command.arg(arguments[0]).args(["-no-color"]).args(&arguments[1..]).current_dir(self.path(folder));
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).env("TF_IN_AUTOMATION", "1");
        command.output().expect("run terraform")
    }

    /// The same; it must work. What it said.
    pub(crate) fn run_in(&self, folder: &str, arguments: &[&str]) -> String {
        let output = self.try_in(folder, arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "terraform {arguments:?}: {}\n{said}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// Whether the folder's plug-ins can be had; says so where they can't.
    pub(crate) fn initialised(&self, folder: &str) -> bool {
        let output = self.try_in(folder, &["init", "-backend=false", "-input=false"]);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(
                ["Failed to query available provider", "could not connect to", "Failed to install provider"]
                    .iter()
                    .any(|known| why.contains(known)),
                "terraform init: {why}"
            );
            eprintln!("SKIPPED: no plug-in for terraform: {}", why.lines().take(4).collect::<Vec<_>>().join(" "));
        }
        output.status.success()
    }

    /// A settings file: plug-ins from a folder where there is one, else from the registry.
    fn settings(&self) -> String {
        let folder = PLUGINS.iter().find(|folder| Path::new(folder).is_dir());
        let text = folder.map_or_else(String::new, |folder| {
            format!("provider_installation {{\n  filesystem_mirror {{\n    path = \"{folder}\"\n  }}\n}}\n")
        });
        let path = self.path("terraformrc");
        std::fs::write(&path, text).expect("write settings");
        path.display().to_string()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a folder");
    for entry in std::fs::read_dir(from).expect("read a folder") {
        let entry = entry.expect("read a folder");
        let name = entry.file_name();
        // What terraform leaves where somebody ran it by hand.
        if name.to_string_lossy().starts_with(".terraform") {
            continue;
        }
        if entry.file_type().expect("look at a file").is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).expect("copy a file");
        }
    }
}
