//! What a rented machine does with its user data, as far as it can be done without a machine: the files are read as
//! cloud-init would, and the worker's unit is started as systemd would. Only the bundle is not fetched: the worker that
//! was built beside this test stands for the one in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::process::Command;
use trainctl_tests::program;
use yaml_rust2::{Yaml, YamlLoader};

const UNIT: &str = "/etc/systemd/system/trainctl-worker.service";
const ENVIRONMENT: &str = "/etc/trainctl/machine.env";

/// As EC2 has it.
pub(crate) fn decoded(user_data: &str) -> String {
    String::from_utf8(STANDARD.decode(user_data).expect("base64")).expect("text")
}

/// The command that the unit starts on a machine with this address.
pub(crate) fn worker(user_data: &str, address: &str) -> Command {
    let files = files(user_data);
    let mut variables = variables(&files[ENVIRONMENT]);
    variables.insert("TRAINCTL_ADDRESS".to_owned(), address.to_owned());
    let unit = &files[UNIT];
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command in the unit");
    let mut words = start.split(' ').map(|word| expanded(word, &variables));
    let bundled = words.next().expect("a program");
    assert!(bundled.ends_with("/bin/trainctl-worker"), "{bundled}");
    let mut command = Command::new(program("trainctl-worker"));
    command.args(words).envs(&variables);
    command
}

fn files(user_data: &str) -> BTreeMap<String, String> {
    assert!(user_data.starts_with("#cloud-config\n"), "{user_data}");
    let documents = YamlLoader::load_from_str(user_data).unwrap_or_else(|error| panic!("{error}\n{user_data}"));
    let text = |value: &Yaml| value.as_str().expect("a text").to_owned();
    let files = documents[0]["write_files"].as_vec().expect("files");
    files.iter().map(|file| (text(&file["path"]), text(&file["content"]))).collect()
}

/// An environment file, values in double quotes with backslashes.
fn variables(text: &str) -> BTreeMap<String, String> {
    let unquoted = |value: &str| {
        let mut plain = String::new();
        let mut characters = value.trim_matches('"').chars();
        while let Some(c) = characters.next() {
            plain.extend(if c == '\\' { characters.next() } else { Some(c) });
        }
        plain
    };
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), unquoted(value))).collect()
}

fn expanded(word: &str, variables: &BTreeMap<String, String>) -> String {
    variables.iter().fold(word.to_owned(), |word, (name, value)| word.replace(&format!("${{{name}}}"), value))
}
