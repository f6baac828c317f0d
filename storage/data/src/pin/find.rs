//! Which objects a URI means, in which format.

use crate::decode::{peek, probe_idx};
use crate::error::DataError;
use crate::manifest::{Format, Role};
use crate::place::Place;
use crate::reader::wait;
use futures::TryStreamExt as _;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// More objects than that are not listed in one manifest.
const OBJECTS_MAX: usize = 100_000;

/// A data set's objects, in order; IDX images are followed by their labels.
pub(super) struct Found {
    pub(super) place: Place,
    /// The root as a URI.
    pub(super) root: String,
    /// From the name of the file or folder.
    pub(super) name: String,
    pub(super) format: Format,
    pub(super) objects: Vec<(String, Option<Role>)>,
}

pub(super) fn find(uri: &str, format: Option<Format>) -> Result<Found, DataError> {
    let local = local(uri)?;
    let nothing = |expected: &str| DataError::Option {
        option: "uri",
        expected: expected.to_owned(),
        found: "none".to_owned(),
        hint: format!("looked at {}", local.display()),
    };
    let text = |path: Option<&std::ffi::OsStr>| path.and_then(|path| path.to_str()).unwrap_or_default().to_owned();
    if local.is_file() {
        let folder = local.parent().unwrap_or(Path::new("/"));
        let file = text(local.file_name());
        let place = Place::open(&trainctl_objects::file_uri(folder))?;
        let format = format.or_else(|| format_of(&file)).ok_or_else(|| unknown_format(&file))?;
        let files = if format == Format::Idx {
            let neighbours = list(&place)?;
            neighbours.into_iter().filter(|other| !other.contains('/') && idx_set(other) == idx_set(&file)).collect()
        } else {
            vec![file.clone()]
        };
        let objects = with_roles(&place, files, format)?;
        return Ok(Found { place, root: trainctl_objects::file_uri(folder), name: data_name(&file), format, objects });
    }
    if !local.is_dir() {
        return Err(nothing("a file or folder"));
    }
    let place = Place::open(&trainctl_objects::file_uri(&local))?;
    let files: Vec<String> = list(&place)?.into_iter().filter(|path| is_data(path)).collect();
    let formats: BTreeSet<Format> = files.iter().filter_map(|path| format_of(path)).collect();
    let format = match (format, formats.len()) {
        (Some(format), _) => format,
        (None, 1) => formats.into_iter().next().unwrap_or(Format::Csv),
        (None, 0) => return Err(nothing("files named .csv, .parquet, .txt or *-ubyte (each may end in .gz)")),
        (None, _) => {
            let names: Vec<&str> = formats.into_iter().map(Format::as_str).collect();
            return Err(DataError::Option {
                option: "format",
                expected: "one format in the folder".to_owned(),
                found: names.join(", "),
                hint: "name the format, or the file".to_owned(),
            });
        }
    };
    let files: Vec<String> = files.into_iter().filter(|path| format_of(path) == Some(format)).collect();
    if files.is_empty() {
        return Err(nothing(&format!("files of the format {format}")));
    }
    let objects = with_roles(&place, files, format)?;
    Ok(Found { place, root: trainctl_objects::file_uri(&local), name: text(local.file_name()), format, objects })
}

/// The absolute path that a URI or a path means.
fn local(uri: &str) -> Result<PathBuf, DataError> {
    if uri.contains("://") {
        return Ok(trainctl_objects::local_path(uri)?);
    }
    let failed = |source| DataError::File { path: uri.to_owned(), done: "read", source };
    std::path::absolute(uri).map_err(failed)
}

/// All objects below the root, sorted by path.
fn list(place: &Place) -> Result<Vec<String>, DataError> {
    let shown = place.shown("");
    let root = place.root.clone();
    let failed = |source| DataError::Store { object: place.shown(""), source };
    let mut paths = wait(&shown, async {
        let mut objects = place.store.list(Some(&root));
        let mut paths = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            let Some(below) = object.location.prefix_match(&root) else { continue };
            paths.push(below.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"));
            if paths.len() > OBJECTS_MAX {
                return Err(DataError::TooLarge {
                    object: place.shown(""),
                    unit: "objects",
                    limit: OBJECTS_MAX as u64,
                    found: paths.len() as u128,
                });
            }
        }
        Ok(paths)
    })?;
    paths.sort_unstable();
    Ok(paths)
}

/// Files that are there beside the data don't belong to it.
fn is_data(path: &str) -> bool {
    let name = file_name(path);
    !path.split('/').any(|part| part.starts_with('.')) && !name.to_ascii_uppercase().starts_with("README")
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn format_of(path: &str) -> Option<Format> {
    let name = file_name(path).to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [(".csv", Format::Csv), (".tsv", Format::Csv), (".parquet", Format::Parquet), (".txt", Format::Text)]
        .into_iter()
        .find(|(suffix, _)| name.ends_with(suffix))
        .map(|(_, format)| format)
        .or_else(|| {
            (name.ends_with("-ubyte") || name.ends_with(".idx") || name.contains("-idx")).then_some(Format::Idx)
        })
}

fn unknown_format(file: &str) -> DataError {
    DataError::Option {
        option: "format",
        expected: "a file named .csv, .parquet, .txt or *-ubyte (each may end in .gz)".to_owned(),
        found: format!("{file:?}"),
        hint: "name the format: csv, idx, parquet or text".to_owned(),
    }
}

/// `digits` for `digits.csv.gz`, `mnist10k` for `mnist10k-images-idx3-ubyte.gz`.
fn data_name(file: &str) -> String {
    let stem = file.split('.').next().unwrap_or(file);
    let stem = stem.split(['-', '_']).take_while(|part| !matches!(*part, "images" | "labels")).collect::<Vec<_>>();
    if stem.is_empty() { file.to_owned() } else { stem.join("-") }
}

/// What images and their labels have in common: the name up to the word that tells them apart.
fn idx_set(path: &str) -> Option<&str> {
    (format_of(path) == Some(Format::Idx)).then(|| {
        let at = ["images", "labels"].iter().filter_map(|word| path.find(word)).min();
        &path[..at.unwrap_or(path.len())]
    })
}

/// Puts labels after their images. What a file holds is told by its header, not by its name.
fn with_roles(place: &Place, files: Vec<String>, format: Format) -> Result<Vec<(String, Option<Role>)>, DataError> {
    if format != Format::Idx {
        return Ok(files.into_iter().map(|path| (path, None)).collect());
    }
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for path in files {
        let is_labels = peek(place, &path, probe_idx)?.shape.is_empty();
        if is_labels { &mut labels } else { &mut images }.push(path);
    }
    let sets = |paths: &[String]| paths.iter().map(|path| idx_set(path).map(str::to_owned)).collect::<Vec<_>>();
    if images.is_empty() || sets(&images) != sets(&labels) {
        return Err(DataError::Option {
            option: "uri",
            expected: "for each file of images one of labels, named alike up to `images` and `labels`".to_owned(),
            found: format!("images {images:?}, labels {labels:?}"),
            hint: "name them as MNIST does: train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz".to_owned(),
        });
    }
    let pair = |(images, labels)| [(images, Some(Role::Features)), (labels, Some(Role::Target))];
    Ok(images.into_iter().zip(labels).flat_map(pair).collect())
}
