//! What files are called, and which names are ours: nothing else is ever removed.

use crate::tensor::Group;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
pub(crate) const RUN: &str = "run.json";
pub(crate) const DATA_MANIFEST: &str = "data.manifest.json";
pub(crate) const MODULE: &str = "module.pt";
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// `model-00002-of-00004.safetensors` for file 1 of 4: names count from 1, as the Python ecosystem's do.
pub(crate) fn tensors_file(group: Group, file: usize, files: usize) -> String {
    format!("{group}-{:05}-of-{files:05}.safetensors", file + 1)
}

/// `part-00002-of-00004.json` for part 1 of 4.
pub(crate) fn record_file(part: u32, parts: u32) -> String {
    format!("part-{:05}-of-{parts:05}.json", u64::from(part) + 1)
}

/// The step that a folder below `checkpoints/` holds. Another spelling of the number (`007`, `+7`) is not ours.
pub(crate) fn parse_step(folder: &str) -> Option<u64> {
    let step: u64 = folder.parse().ok()?;
    (step.to_string() == folder).then_some(step)
}

/// Whether a file of tensors is called so.
pub(crate) fn is_tensors_file(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".safetensors") else { return false };
    Group::ALL.iter().any(|group| stem.strip_prefix(group.as_str()).is_some_and(is_numbered))
}

/// Whether a part's record is called so.
pub(crate) fn is_record(name: &str) -> bool {
    name.strip_prefix("part").and_then(|rest| rest.strip_suffix(".json")).is_some_and(is_numbered)
}

/// Whether a save makes files called so.
pub(crate) fn is_ours(name: &str) -> bool {
    name == MANIFEST || name == INDEX || is_record(name) || is_tensors_file(name)
}

/// Whether a local store stages a file of ours under this name: an interrupted write leaves one behind.
pub(crate) fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(name, id)| is_ours(name) && is_digits(id))
}

fn is_numbered(text: &str) -> bool {
    let numbers = text.strip_prefix('-').and_then(|text| text.split_once("-of-"));
    numbers.is_some_and(|(part, parts)| is_digits(part) && is_digits(parts))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_from_one() {
        assert_eq!(tensors_file(Group::Model, 0, 4), "model-00001-of-00004.safetensors");
        assert_eq!(tensors_file(Group::Optimizer, 3, 4), "optimizer-00004-of-00004.safetensors");
        assert_eq!(record_file(0, 1), "part-00001-of-00001.json");
    }

    #[test]
    fn what_a_save_makes_is_ours() {
        let names = [tensors_file(Group::Model, 0, 4), record_file(99_999, 100_000), INDEX.into(), MANIFEST.into()];
        for name in names {
            assert!(is_ours(&name), "{name}");
            assert!(is_staged(&format!("{name}#1")), "{name}");
        }
    }

    #[test]
    fn what_others_make_is_not() {
        let names = ["model.safetensors", "model-1.safetensors", "model-a-of-b.safetensors", "part-.json", "notes.md"];
        for name in names {
            assert!(!is_ours(name), "{name}");
            assert!(!is_staged(&format!("{name}#1")), "{name}");
        }
        assert!(!is_staged("manifest.json#1x"));
        assert!(!is_tensors_file("../model-00001-of-00001.safetensors"));
    }

    #[test]
    fn one_spelling_of_a_step() {
        assert_eq!(parse_step("500"), Some(500));
        assert_eq!(parse_step("0"), Some(0));
        for name in ["007", "+7", "", "7 ", "-1", "99999999999999999999"] {
            assert_eq!(parse_step(name), None, "{name:?}");
        }
    }
}
