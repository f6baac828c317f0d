//! Which remote a DVC repository's data is in: `.dvc/config`, over it `.dvc/config.local`, both in the manner of git.

use super::dvc::malformed;
use crate::error::DataError;
use std::collections::BTreeMap;
use std::path::Path;

/// Sections by name, as `core` or `remote "name"`; keys by name.
type Config = BTreeMap<String, BTreeMap<String, String>>;

/// The URI of the remote of this name, or else of the default one.
pub(super) fn remote(repository: &Path, name: Option<&str>) -> Result<String, DataError> {
    let folder = repository.join(".dvc");
    let shown = folder.join("config").display().to_string();
    let mut config = Config::new();
    for file in ["config", "config.local"] {
        let path = folder.join(file);
        match std::fs::read_to_string(&path) {
            Ok(text) => read(&text, &path.display().to_string(), &mut config)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(DataError::File { path: path.display().to_string(), done: "read", source }),
        }
    }
    let default = config.get("core").and_then(|core| core.get("remote")).map(String::as_str);
    let Some(name) = name.or(default) else {
        return Err(malformed(
            &shown,
            "core.remote",
            "a default remote (`dvc remote default NAME`)",
            "none".to_owned(),
        ));
    };
    let section = format!("remote \"{name}\"");
    let Some(remote) = config.get(&section) else {
        return Err(malformed(&shown, &section, "a remote of this name", "none".to_owned()));
    };
    let place = format!("{section}.url");
    if remote.get("version_aware").or(remote.get("worktree")).is_some_and(|value| value == "true") {
        let expected = "a remote addressed by content (`files/md5/`)";
        return Err(malformed(&shown, &section, expected, "a version-aware one".to_owned()));
    }
    match remote.get("url").map(String::as_str) {
        Some(url) if url.starts_with("s3://") || url.starts_with("gs://") => Ok(url.trim_end_matches('/').to_owned()),
        Some(url) if !url.contains("://") || url.starts_with("file://") => {
            let url = url.strip_prefix("file://").unwrap_or(url);
            // Relative ones start at the folder of the file that names them.
            let path = folder.join(url);
            let failed = |source| DataError::File { path: path.display().to_string(), done: "read", source };
            Ok(trainctl_objects::file_uri(&path.canonicalize().map_err(failed)?))
        }
        Some(url) => Err(malformed(&shown, &place, "s3://, gs:// or a folder", url.to_owned())),
        None => Err(malformed(&shown, &place, "s3://, gs:// or a folder", "none".to_owned())),
    }
}

/// Adds what `text` says to `config`.
fn read(text: &str, shown: &str, config: &mut Config) -> Result<(), DataError> {
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.trim().trim_matches('\'').clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once('=') {
            let value = value.trim().trim_matches(['"', '\'']).to_owned();
            config.entry(section.clone()).or_default().insert(key.trim().to_owned(), value);
        } else {
            let place = format!("line {}", index + 1);
            return Err(malformed(shown, &place, "[section] or key = value", format!("{line:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote_of(config: &str, local: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(".dvc")).unwrap();
        std::fs::create_dir_all(folder.path().join("store")).unwrap();
        std::fs::write(folder.path().join(".dvc/config"), config).unwrap();
        std::fs::write(folder.path().join(".dvc/config.local"), local).unwrap();
        let own = folder.path().canonicalize().unwrap().display().to_string();
        let remote = remote(folder.path(), None).map_err(|error| error.to_string());
        remote
            .map(|uri| uri.replace(&own, ""))
            .map_err(|error| error.replace(&own, "").replace(&folder.path().display().to_string(), ""))
    }

    #[test]
    fn the_default_remote_is_found_and_the_local_file_wins() {
        let config = "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://data/dvc/\n";
        assert_eq!(remote_of(config, ""), Ok("s3://data/dvc".to_owned()));
        let folder = "['remote \"storage\"']\n    url = ../store\n";
        assert_eq!(remote_of(config, folder), Ok("file:///store".to_owned()));
        let other = "[core]\n# here\nremote = near\n[remote \"near\"]\nurl = gs://near\n";
        assert_eq!(remote_of(config, other), Ok("gs://near".to_owned()));
    }

    #[test]
    fn what_is_no_remote_is_said() {
        for (config, expected) in [
            ("", "/.dvc/config: core.remote: expected a default remote"),
            ("[core]\nremote = x\n", "remote \"x\": expected a remote of this name, found none"),
            (
                "[core]\nremote = x\n['remote \"x\"']\nurl = ssh://x/y\n",
                "expected s3://, gs:// or a folder, found ssh://x/y",
            ),
            ("[core]\nremote = x\n['remote \"x\"']\nurl = s3://x\nversion_aware = true\n", "found a version-aware one"),
            ("[core]\nremote\n", "line 2: expected [section] or key = value, found \"remote\""),
        ] {
            let error = remote_of(config, "").unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
