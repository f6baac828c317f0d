//! What the name of a file says of it: its format, whether it is data at all, what it would be without compression.

use crate::manifest::Format;

/// What macOS puts beside the files of an archive.
const MACOS_FOLDER: &str = "__MACOSX";
/// Compressions that are not read.
const UNREAD: [&str; 12] =
    [".zst", ".zstd", ".bz2", ".xz", ".lzma", ".zip", ".7z", ".rar", ".lz4", ".br", ".snappy", ".z"];

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

pub(super) fn format_of(path: &str) -> Option<Format> {
    let name = file_name(path).to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [
        (".csv", Format::Csv),
        (".tsv", Format::Csv),
        (".parquet", Format::Parquet),
        (".txt", Format::Text),
        (".tar", Format::Tar),
        (".tgz", Format::Tar),
    ]
    .into_iter()
    .find(|(suffix, _)| name.ends_with(suffix))
    .map(|(_, format)| format)
    .or_else(|| (name.ends_with("-ubyte") || name.ends_with(".idx") || name.contains("-idx")).then_some(Format::Idx))
}

/// Whether a file lies beside the data and is no part of it: hidden ones, a README that is text, what macOS adds.
pub(super) fn is_aside(path: &str) -> bool {
    let is_readme = file_name(path).split('.').next().is_some_and(|stem| stem.eq_ignore_ascii_case("readme"));
    let is_table = !matches!(format_of(path), None | Some(Format::Text));
    path.split('/').any(|part| part.starts_with('.') || part == MACOS_FOLDER) || (is_readme && !is_table)
}

/// Whether a file of this name may hold data, or a folder of this name files that do.
pub(super) fn may_hold_data(path: &str) -> bool {
    !is_aside(path) && (format_of(path).is_some() || !file_name(path).contains('.'))
}

/// Whether Spark, Hive and pyarrow leave a file alone, by a name in its path that begins with `_`.
pub(super) fn is_underscored(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('_'))
}

/// The name without a compression that is not read, and that compression, where it has one.
pub(super) fn without_unread(path: &str) -> Option<(&str, &str)> {
    UNREAD.iter().find_map(|suffix| without_suffix(path, suffix))
}

/// The name that a file has when it is unzipped.
pub(super) fn unzipped(path: &str) -> String {
    let path = without_suffix(path, ".gz").map_or(path, |(path, _)| path);
    without_suffix(path, ".tgz").map_or_else(|| path.to_owned(), |(stem, _)| format!("{stem}.tar"))
}

/// Both halves of a path that ends in `suffix`, whatever the case.
fn without_suffix<'p>(path: &'p str, suffix: &str) -> Option<(&'p str, &'p str)> {
    let at = path.len().checked_sub(suffix.len()).filter(|&at| path.is_char_boundary(at))?;
    let (stem, end) = path.split_at(at);
    (end.eq_ignore_ascii_case(suffix) && !file_name(stem).is_empty()).then_some((stem, end))
}

/// `digits` for `digits.csv.gz`, `mnist10k` for `mnist10k-images-idx3-ubyte.gz`.
pub(super) fn data_name(file: &str) -> String {
    let stem = file.split('.').next().unwrap_or(file);
    let stem = stem.split(['-', '_']).take_while(|part| !matches!(*part, "images" | "labels")).collect::<Vec<_>>();
    if stem.is_empty() { file.to_owned() } else { stem.join("-") }
}

/// What images and their labels have in common: the name up to the word that tells them apart.
pub(super) fn idx_set(path: &str) -> Option<&str> {
    (format_of(path) == Some(Format::Idx)).then(|| {
        let at = ["images", "labels"].iter().filter_map(|word| path.find(word)).min();
        &path[..at.unwrap_or(path.len())]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_data_and_what_lies_beside_it() {
        for path in ["a.csv", "readmeter.csv", "README.csv", "a/b.CSV.GZ", "_a.csv", "y=1/p.parquet"] {
            assert!(!is_aside(path) && format_of(path).is_some(), "{path}");
        }
        for path in [".a.csv", ".git/a.csv", "README", "readme.txt", "ReadMe.md", "__MACOSX/a.csv", "._a.csv"] {
            assert!(is_aside(path), "{path}");
        }
        assert!(may_hold_data("part") && may_hold_data("a.tar") && !may_hold_data("a.py") && !may_hold_data("README"));
    }

    #[test]
    fn compressions_are_told_from_names() {
        assert_eq!(without_unread("a/b.csv.ZST"), Some(("a/b.csv", ".ZST")));
        assert_eq!(without_unread("b.csv.gz"), None);
        assert_eq!(without_unread(".zip"), None);
        assert_eq!(["A.csv.gz", "a.TGZ", "a.tar.gz", "é.gz"].map(unzipped), ["A.csv", "a.tar", "a.tar", "é"]);
    }
}
