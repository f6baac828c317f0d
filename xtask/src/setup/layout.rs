//! The folder that a library lies in: made aside, stamped, then moved into place, so that half a folder is never taken
//! for a whole one.

use super::pins::Pack;
use super::wheels;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const STAMP: &str = "trainctl-stamp.json";

/// What a layout was made from, and what it holds.
#[derive(PartialEq, Serialize, Deserialize)]
struct Stamp {
    /// Digest by file name.
    wheels: BTreeMap<String, String>,
    /// Bytes by path, of [`Pack::libraries`].
    files: BTreeMap<String, u64>,
}

impl Stamp {
    fn of(pack: &Pack, folder: &Path) -> Result<Self> {
        let wheels = pack.wheels.iter().map(|wheel| (wheel.filename.to_owned(), wheel.sha256.to_owned())).collect();
        let mut files = BTreeMap::new();
        for name in pack.libraries {
            let path = folder.join(name);
            let size = fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?.len();
            files.insert((*name).to_owned(), size);
        }
        Ok(Self { wheels, files })
    }
}

/// Whether the folder was made from the pinned wheels and its libraries are as they were then.
pub(crate) fn is_whole(pack: &Pack, folder: &Path) -> bool {
    let stamp = fs::read(folder.join(STAMP)).ok().and_then(|text| serde_json::from_slice::<Stamp>(&text).ok());
    stamp.is_some_and(|stamp| Stamp::of(pack, folder).is_ok_and(|now| now == stamp))
}

/// Makes the folder from the wheels in `wheels_folder`. What an earlier, broken one held is removed.
pub(crate) fn lay_out(pack: &Pack, wheels_folder: &Path, folder: &Path) -> Result<()> {
    let parent = folder.parent().context("find the cache folder")?;
    fs::create_dir_all(parent).with_context(|| format!("make folder {}", parent.display()))?;
    let fresh = tempfile::Builder::new()
        .prefix(".unpacking-")
        .tempdir_in(parent)
        .with_context(|| format!("make a folder in {}", parent.display()))?;
    for wheel in pack.wheels {
        wheels::unpack(wheel, wheels_folder, fresh.path())?;
    }
    for (name, text) in pack.texts {
        fs::write(fresh.path().join(name), text).with_context(|| format!("write {name}"))?;
    }
    for (name, target) in pack.links {
        symlink(target, fresh.path().join(name)).with_context(|| format!("create link {name}"))?;
    }
    let stamp = serde_json::to_vec_pretty(&Stamp::of(pack, fresh.path())?).context("write the stamp")?;
    fs::write(fresh.path().join(STAMP), stamp).with_context(|| format!("write {STAMP}"))?;
    open_to_readers(fresh.path())?;

    let aside = tempfile::Builder::new().prefix(".replaced-").tempdir_in(parent).context("make a folder to move to")?;
    if folder.exists() {
        let old = aside.path().join(pack.name);
        fs::rename(folder, &old).with_context(|| format!("move {} aside", folder.display()))?;
    }
    fs::rename(fresh.path(), folder).with_context(|| format!("move {} to {}", pack.name, folder.display()))
}

/// A temporary folder is its maker's alone; the finished one is like any other in the cache.
fn open_to_readers(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).with_context(|| format!("open {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::super::pins::LIBTORCH;
    use super::*;

    #[test]
    fn a_layout_is_whole_only_with_its_stamp_and_all_its_libraries() {
        let temp = tempfile::tempdir().expect("make a folder");
        for name in LIBTORCH.libraries {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("make a folder");
            fs::write(path, name).expect("write a file");
        }
        assert!(!is_whole(&LIBTORCH, temp.path()), "no stamp yet");

        let stamp = Stamp::of(&LIBTORCH, temp.path()).expect("all files are there");
        fs::write(temp.path().join(STAMP), serde_json::to_vec(&stamp).expect("plain values")).expect("write the stamp");
        assert!(is_whole(&LIBTORCH, temp.path()));

        fs::write(temp.path().join("lib/libc10.so"), "cut").expect("write a file");
        assert!(!is_whole(&LIBTORCH, temp.path()), "a library of another size");

        fs::remove_file(temp.path().join("lib/libc10.so")).expect("remove a file");
        assert!(!is_whole(&LIBTORCH, temp.path()), "a library gone");
    }
}
