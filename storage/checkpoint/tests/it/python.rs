//! Python's `safetensors` reads what was saved, with no code of ours, each file and through the index.

use crate::support::{folder, info, save, skipped, small, state, step_folder};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use trainctl_checkpoint::{Group, TensorInfo, state_digest};

const PACKAGES: [&str; 2] = ["numpy==2.3.4", "safetensors==0.6.2"];

const SCRIPT: &str = r#"
import json, pathlib, sys
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

folder, expected = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])

def check(name, array, group):
    want = (expected / f"{group}.{name}.bin").read_bytes()
    shape = json.loads((expected / f"{group}.{name}.json").read_text())
    assert array.dtype == np.float32 and list(array.shape) == shape, (name, array.dtype, array.shape)
    assert array.tobytes() == want, name

seen = set()
for path in sorted(folder.glob("*.safetensors")):
    group = path.name.split("-")[0]
    for name, array in load_file(path).items():
        check(name, array, group)
        assert (group, name) not in seen
        seen.add((group, name))
assert {f"{group}.{name}.bin" for group, name in seen} == {path.name for path in expected.glob("*.bin")}

index = json.loads((folder / "model.safetensors.index.json").read_text())
total = 0
for name, file in index["weight_map"].items():
    with safe_open(folder / file, framework="np") as opened:
        assert opened.metadata()["format"] == "pt"
        array = opened.get_tensor(name)
        check(name, array, "model")
        total += array.nbytes
assert set(index["weight_map"]) == {name for group, name in seen if group == "model"}
assert index["metadata"]["total_size"] == total, (index["metadata"], total)
print("read", len(seen))
"#;

/// Five lines, then a check of what they loaded.
const BY_INDEX: &str = r#"
import json, pathlib, sys
from safetensors import safe_open
folder = pathlib.Path(sys.argv[1])
files = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
model = {name: safe_open(folder / file, "np").get_tensor(name) for name, file in files.items()}

expected = pathlib.Path(sys.argv[2])
for name, array in model.items():
    assert array.tobytes() == (expected / f"model.{name}.bin").read_bytes(), name
print("read", len(model), "of them from another step's folder:", sum(file.startswith("../") for file in files.values()))
"#;

/// As `<group>.<name>.bin` and the shape as `.json`.
fn write_expected(folder: &Path, tensors: &[TensorInfo], state: &[f32]) {
    std::fs::create_dir(folder).unwrap();
    for tensor in tensors {
        let group = if tensor.group == Group::Model { "model" } else { "optimizer" };
        let values = &state[tensor.offset..tensor.offset + tensor.len];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{group}.{}.bin", tensor.name)), bytes).unwrap();
        let shape = serde_json::to_string(&tensor.shape).unwrap();
        std::fs::write(folder.join(format!("{group}.{}.json", tensor.name)), shape).unwrap();
    }
}

#[tokio::test]
async fn safetensors_finds_files_that_an_earlier_step_wrote() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skipped("reading checkpoints with Python", &why),
    };
    let (tensors, len) = small();
    let root = tempfile::tempdir().unwrap();
    let folder = folder(root.path());
    let mut state = state(len, 5);
    for step in [5, 6] {
        state[tensors[0].offset] = step as f32;
        folder.write_part(step, 0, 1, &tensors, &state).await.unwrap();
        let info = info(state_digest(&tensors, &state, step));
        folder.try_commit(step, 1, &info).await.unwrap().unwrap();
    }
    let expected = root.path().join("expected");
    write_expected(&expected, &tensors, &state);
    let load = |folder: &Path| run(Command::new(&python).args(["-c", BY_INDEX]).arg(folder).arg(&expected));
    assert_eq!(load(&step_folder(root.path(), 6)), Ok("read 5 of them from another step's folder: 4\n".to_owned()));
    let pulled = root.path().join("pulled");
    folder.pull(6, &pulled, |_| ()).await.unwrap();
    assert_eq!(load(&pulled), Ok("read 5 of them from another step's folder: 0\n".to_owned()));
}

#[tokio::test]
async fn safetensors_reads_each_file_and_the_index() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skipped("reading checkpoints with Python", &why),
    };
    let (tensors, len) = small();
    for parts in [1, 3, 20] {
        let root = tempfile::tempdir().unwrap();
        save(&folder(root.path()), 6, parts, &tensors, len).await;

        let expected = root.path().join("expected");
        write_expected(&expected, &tensors, &state(len, 6));
        let read = run(Command::new(&python).args(["-c", SCRIPT]).arg(step_folder(root.path(), 6)).arg(&expected));
        assert_eq!(read, Ok(format!("read {}\n", tensors.len())), "{parts} parts");
    }
}

/// A Python that has the packages, in a folder kept between runs.
fn python() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("py");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let lock = File::create(folder.join("checkpoint.lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let venv = folder.join("checkpoint");
    let python = venv.join("bin/python");
    let done = folder.join(format!("checkpoint.{}", PACKAGES.join("+")));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--only-binary=:all:"]).args(PACKAGES))?;
        File::create(done).map_err(|error| error.to_string())?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
}
