//! Help texts and completions: documentation, so they are read here as a whole.

use crate::place::Place;

const COMMANDS: [&[&str]; 35] = [
    &[],
    &["up"],
    &["submit"],
    &["ls"],
    &["show"],
    &["watch"],
    &["logs"],
    &["explain"],
    &["cost"],
    &["cancel"],
    &["worker"],
    &["worker", "ls"],
    &["worker", "drain"],
    &["worker", "evict"],
    &["plan"],
    &["pool"],
    &["pool", "set"],
    &["pool", "token"],
    &["ckpt"],
    &["ckpt", "ls"],
    &["ckpt", "show"],
    &["ckpt", "diff"],
    &["ckpt", "verify"],
    &["ckpt", "pull"],
    &["ckpt", "prune"],
    &["ckpt", "export"],
    &["reproduce"],
    &["diff"],
    &["data"],
    &["data", "pin"],
    &["data", "verify"],
    &["model"],
    &["model", "pin"],
    &["stop"],
    &["completions"],
];

#[test]
fn every_command_has_a_help_with_an_example() {
    let place = Place::new();
    for command in COMMANDS {
        let ran = place.run(&[command, &["--help"]].concat());
        assert_eq!(ran.code, 0, "{command:?}: {}", ran.stderr);
        assert!(ran.stdout.contains("Example:"), "{command:?}: {}", ran.stdout);
        assert!(ran.stdout.lines().all(|line| line.len() <= 100), "{command:?}: {}", ran.stdout);
        let name = if command.is_empty() { "trainctl".to_owned() } else { command.join("-") };
        insta::assert_snapshot!(format!("help-{name}"), ran.stdout);
    }
}

#[test]
fn no_command_at_all_is_a_usage_error_that_shows_the_help() {
    let place = Place::new();
    let ran = place.run(&[]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("Usage: trainctl"), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn each_shell_gets_a_completion_script() {
    let place = Place::new();
    for (shell, sign) in [("bash", "complete -F"), ("zsh", "#compdef trainctl"), ("fish", "complete -c trainctl")] {
        let ran = place.run(&["completions", shell]);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains(sign), "{shell}");
        assert!(ran.stdout.contains("explain"), "{shell}");
    }
    let script = place.json(&["completions", "bash"]);
    assert_eq!(script["shell"], "bash");
}

#[test]
fn the_bash_script_is_one_that_bash_takes() {
    let place = Place::new();
    let script = place.write("trainctl.bash", &place.run(&["completions", "bash"]).stdout);
    let checked = std::process::Command::new("bash").arg("-n").arg(script).status().unwrap();
    assert!(checked.success());
}
