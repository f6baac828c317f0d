//! Where a coordinator keeps its state on this machine, and how its users find it there.

use crate::failure::{Class, Failure};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What a listening coordinator writes into its home as `coordinator.json`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct CoordinatorFile {
    /// `http://127.0.0.1:PORT`, or `https://HOST:PORT`.
    pub(crate) address: String,
    /// By which it is known, if calls are encrypted.
    pub(crate) certificate: Option<String>,
}

/// `--home` if given, else `$TRAINCTL_HOME`, else `$XDG_STATE_HOME/trainctl`, else `~/.local/state/trainctl`; always absolute.
pub(crate) fn resolve(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let named = || std::env::var_os("TRAINCTL_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = match given.map(Path::to_owned).or_else(named) {
        Some(path) => path,
        None => state_home()?.join("trainctl"),
    };
    std::path::absolute(&folder).map_err(|error| Failure::file("resolve home", &folder, &error))
}

/// Whether commands find this home with no `--home`.
pub(crate) fn is_usual(home: &Path) -> bool {
    resolve(None).is_ok_and(|usual| usual == home)
}

fn state_home() -> Result<PathBuf, Failure> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    of("XDG_STATE_HOME").or_else(|| of("HOME").map(|home| home.join(".local/state"))).ok_or_else(|| {
        Failure::new(Class::Usage, "no home folder: neither --home nor TRAINCTL_HOME, XDG_STATE_HOME or HOME is set")
            .hint("say where the coordinator keeps its state with --home FOLDER")
    })
}

/// The file by which a coordinator of this home is found.
pub(crate) fn coordinator_file(home: &Path) -> PathBuf {
    home.join("coordinator.json")
}

/// The token that this home's coordinator made, and its certificate behind it if calls are encrypted.
pub(crate) fn token_file(home: &Path) -> PathBuf {
    home.join("token")
}

/// Where jobs that name no checkpoint root keep their state.
pub(crate) fn runs(home: &Path) -> PathBuf {
    home.join("runs")
}

/// What the home says about its coordinator; nothing when none has listened, or it ended cleanly.
pub(crate) fn read_coordinator_file(home: &Path) -> Result<Option<CoordinatorFile>, Failure> {
    let path = coordinator_file(home);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::file("read", &path, &error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| {
        Failure::new(Class::Local, format!("{}: expected the coordinator's address as JSON: {error}", path.display()))
            .hint("remove the file and start the coordinator again with `trainctl up`")
    })
}
