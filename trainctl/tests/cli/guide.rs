//! The guide's script, run as it stands there.

use crate::place::Place;
use crate::saved;
use std::path::Path;
use std::process::Command;

const GUIDE: &str = include_str!("../../../docs/guides/checkpoints.md");

/// The first Python example of the guide.
fn script() -> &'static str {
    let (_, from) = GUIDE.split_once("```python\n").expect("the guide has a script");
    from.split_once("```").expect("the script has an end").0
}

#[test]
fn five_lines_of_python_load_the_model() {
    assert_eq!(script().lines().count(), 5, "{}", script());
    let venvs = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("py");
    let python = match trainctl_test_servers::python(&venvs, &["numpy==2.3.4", "safetensors==0.6.2"]) {
        Ok(python) => python,
        Err(why) => {
            eprintln!("SKIPPED: no Python with numpy and safetensors: {why}");
            return;
        }
    };
    let place = Place::new();
    saved::save(&format!("file://{}", place.path("runs").display()), &[10, 20]);
    assert_eq!(place.run(&["ckpt", "pull", "runs/points", "weights"]).code, 0);
    let look = "print({name: values.tolist() for name, values in sorted(model.items())})\n";
    place.write("script.py", &format!("{}{look}", script()));
    let ran = Command::new(python).arg("script.py").current_dir(place.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let expected = "{'bias': [0.5, 0.5, 0.5], 'weight': [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]}";
    assert_eq!(said.lines().last(), Some(expected), "{said}");
}
