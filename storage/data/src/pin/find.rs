//! Which objects a URI means, in which format.

use super::PinOptions;
use super::dvc;
use crate::decode::{peek, probe_idx};
use crate::error::DataError;
use crate::manifest::{Format, Role};
use crate::place::{PATIENCE, Place, is_bucket};
use crate::reader::Source;
use crate::waiting::wait;
use futures::TryStreamExt as _;
use object_store::{Error as StoreError, ObjectMeta, ObjectStoreExt as _};
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
    pub(super) objects: Vec<Listed>,
}

/// An object as its store lists it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) source: Source,
    pub(super) version: Option<String>,
    pub(super) role: Option<Role>,
}

impl Listed {
    fn path(&self) -> &str {
        &self.source.path
    }
}

pub(super) fn find(uri: &str, options: &PinOptions) -> Result<Found, DataError> {
    if let Some(tracked) = dvc::find(uri, options.out.as_deref())? {
        let dvc::Tracked { root, name, objects } = tracked;
        let place = Place::open(&root, PATIENCE)?;
        let listed = |source| Listed { source, version: None, role: None };
        let objects = objects.into_iter().map(listed).collect();
        return choose(place, root, name, objects, options.format, uri);
    }
    if let Some(out) = &options.out {
        return Err(DataError::Option {
            option: "out",
            expected: "a dvc.lock or .dvc file beside it".to_owned(),
            found: format!("{out:?} with {uri}"),
            hint: "leave it out, or pin the dvc.lock".to_owned(),
        });
    }
    if is_bucket(uri) {
        return in_bucket(uri.trim_end_matches('/'), options.format);
    }
    let local = local(uri)?;
    let text = |path: Option<&std::ffi::OsStr>| path.and_then(|path| path.to_str()).unwrap_or_default().to_owned();
    if local.is_file() {
        let folder = trainctl_objects::file_uri(local.parent().unwrap_or(Path::new("/")));
        return one_file(folder, text(local.file_name()), options.format);
    }
    let shown = local.display().to_string();
    if !local.is_dir() {
        return Err(nothing("a file or folder", &shown));
    }
    let root = trainctl_objects::file_uri(&local);
    let place = Place::open(&root, PATIENCE)?;
    let objects = list(&place)?;
    choose(place, root, text(local.file_name()), objects, options.format, &shown)
}

/// What a bucket's URI names: an object of that name, else all objects below it.
fn in_bucket(uri: &str, format: Option<Format>) -> Result<Found, DataError> {
    let place = Place::open(uri, PATIENCE)?;
    let (folder, file) = uri.rsplit_once('/').unwrap_or_default();
    let is_object = !place.root.as_ref().is_empty()
        && wait(uri, async {
            match place.store.head(&place.root).await {
                Ok(_) => Ok(true),
                Err(StoreError::NotFound { .. }) => Ok(false),
                Err(source) => Err(DataError::Store { object: uri.to_owned(), source }),
            }
        })?;
    if is_object {
        return one_file(folder.to_owned(), file.to_owned(), format);
    }
    let objects = list(&place)?;
    if objects.is_empty() {
        return Err(nothing("an object, or objects below it", uri));
    }
    choose(place, uri.to_owned(), file.to_owned(), objects, format, uri)
}

fn one_file(root: String, file: String, format: Option<Format>) -> Result<Found, DataError> {
    let place = Place::open(&root, PATIENCE)?;
    let format = format.or_else(|| format_of(&file)).ok_or_else(|| unknown_format(&file))?;
    let objects = if format == Format::Idx {
        let belongs = |listed: &Listed| !listed.path().contains('/') && idx_set(listed.path()) == idx_set(&file);
        list(&place)?.into_iter().filter(belongs).collect()
    } else {
        let location = place.location(&file);
        let meta = wait(&place.shown(&file), async {
            let failed = |source| DataError::Store { object: place.shown(&file), source };
            place.store.head(&location).await.map_err(failed)
        })?;
        vec![listed(&place, file.clone(), &meta)]
    };
    let objects = with_roles(&place, objects, format)?;
    Ok(Found { place, root, name: data_name(&file), format, objects })
}

/// The objects of a folder's one format, or of the one asked for.
fn choose(
    place: Place,
    root: String,
    name: String,
    objects: Vec<Listed>,
    format: Option<Format>,
    looked_at: &str,
) -> Result<Found, DataError> {
    let objects: Vec<Listed> = objects.into_iter().filter(|listed| is_data(listed.path())).collect();
    let formats: BTreeSet<Format> = objects.iter().filter_map(|listed| format_of(listed.path())).collect();
    let format = match (format, formats.len()) {
        (Some(format), _) => format,
        (None, 1) => formats.into_iter().next().unwrap_or(Format::Csv),
        (None, 0) => {
            let expected = "files named .csv, .parquet, .txt, .tar or *-ubyte (each may end in .gz)";
            return Err(nothing(expected, looked_at));
        }
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
    // What is named alone and in no known way is taken for what the user says it is.
    let is_one = objects.len() == 1;
    let wanted = |listed: &Listed| format_of(listed.path()).map_or(is_one, |found| found == format);
    let objects: Vec<Listed> = objects.into_iter().filter(wanted).collect();
    if objects.is_empty() {
        return Err(nothing(&format!("files of the format {format}"), looked_at));
    }
    let objects = with_roles(&place, objects, format)?;
    Ok(Found { place, root, name, format, objects })
}

fn nothing(expected: &str, looked_at: &str) -> DataError {
    DataError::Option {
        option: "uri",
        expected: expected.to_owned(),
        found: "none".to_owned(),
        hint: format!("looked at {looked_at}"),
    }
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
fn list(place: &Place) -> Result<Vec<Listed>, DataError> {
    let shown = place.shown("");
    let root = place.root.clone();
    let failed = |source| DataError::Store { object: place.shown(""), source };
    let mut found = wait(&shown, async {
        let mut objects = place.store.list(Some(&root));
        let mut found = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            let Some(below) = object.location.prefix_match(&root) else { continue };
            let path = below.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            found.push(listed(place, path, &object));
            if found.len() > OBJECTS_MAX {
                return Err(DataError::TooLarge {
                    object: place.shown(""),
                    unit: "objects",
                    limit: OBJECTS_MAX as u64,
                    found: found.len() as u128,
                });
            }
        }
        Ok(found)
    })?;
    found.sort_unstable_by(|a: &Listed, b| a.path().cmp(b.path()));
    Ok(found)
}

fn listed(place: &Place, path: String, meta: &ObjectMeta) -> Listed {
    let source = Source { path, size: Some(meta.size), ..Source::default() };
    Listed { source, version: place.version(meta), role: None }
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

fn unknown_format(file: &str) -> DataError {
    DataError::Option {
        option: "format",
        expected: "a file named .csv, .parquet, .txt, .tar or *-ubyte (each may end in .gz)".to_owned(),
        found: format!("{file:?}"),
        hint: "name the format: csv, idx, parquet, text or tar".to_owned(),
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
fn with_roles(place: &Place, objects: Vec<Listed>, format: Format) -> Result<Vec<Listed>, DataError> {
    if format != Format::Idx {
        return Ok(objects);
    }
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for mut object in objects {
        let is_labels = peek(place, &object.source, |input, _| probe_idx(input))?.shape.is_empty();
        object.role = Some(if is_labels { Role::Target } else { Role::Features });
        if is_labels { &mut labels } else { &mut images }.push(object);
    }
    let sets =
        |objects: &[Listed]| objects.iter().map(|object| idx_set(object.path()).map(str::to_owned)).collect::<Vec<_>>();
    if images.is_empty() || sets(&images) != sets(&labels) {
        let paths = |objects: &[Listed]| objects.iter().map(|object| object.path().to_owned()).collect::<Vec<_>>();
        return Err(DataError::Option {
            option: "uri",
            expected: "for each file of images one of labels, named alike up to `images` and `labels`".to_owned(),
            found: format!("images {:?}, labels {:?}", paths(&images), paths(&labels)),
            hint: "name them as MNIST does: train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz".to_owned(),
        });
    }
    Ok(images.into_iter().zip(labels).flat_map(|(images, labels)| [images, labels]).collect())
}
