//! The example's script still makes the example's module. Needs a Python with torch, which the tests don't set up: it
//! is as large as all else together. Name one with TRAINCTL_TEST_PYTHON; else the test says that it skips.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tch::CModule;

/// Names and shapes of a module's parameters.
fn parameters(file: &Path) -> BTreeMap<String, Vec<i64>> {
    let module = CModule::load(file).expect("load the module");
    let named = module.named_parameters().expect("list the parameters");
    named.into_iter().map(|(name, tensor)| (name, tensor.size())).collect()
}

#[test]
fn the_examples_module_is_what_its_script_exports() {
    let models = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../jobs/models"));
    let python = std::env::var("TRAINCTL_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_torch = Command::new(&python).args(["-c", "import torch"]).output().is_ok_and(|ran| ran.status.success());
    if !has_torch {
        use std::io::Write;
        writeln!(std::io::stderr(), "skipped: {python} has no torch; TRAINCTL_TEST_PYTHON may name one that has")
            .expect("write to stderr");
        return;
    }
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("digits.pt");
    let ran = Command::new(&python).arg("-W").arg("ignore").arg(models.join("digits.py")).arg(&file).output();
    let ran = ran.expect("run the script");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(parameters(&file), parameters(&models.join("digits.pt")));
}
