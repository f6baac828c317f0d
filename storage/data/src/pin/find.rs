//! Which objects a URI means, in which format.

use super::folder::Refusals;
use super::links::{check_link, check_links};
use super::names::{data_name, format_of, idx_set, is_aside, unzipped, without_unread};
use super::{PinOptions, dvc};
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
    /// Paths of files that lie there and are no part of it.
    pub(super) left_alone: Vec<String>,
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
    check_link(&local)?;
    if !local.is_dir() {
        return Err(nothing("a file or folder", &shown));
    }
    let root = trainctl_objects::file_uri(&local);
    let place = Place::open(&root, PATIENCE)?;
    check_links(&local)?;
    Refusals(&shown).within_logged(&local)?;
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
        let set: Vec<Listed> = list(&place)?.into_iter().filter(belongs).collect();
        // Of a file that is there zipped and unzipped, the one of the kind that was named.
        let is_zipped = |path: &str| unzipped(path) != path;
        let counts = |listed: &Listed| {
            let has_twin = || {
                set.iter()
                    .any(|other| other.path() != listed.path() && unzipped(other.path()) == unzipped(listed.path()))
            };
            is_zipped(listed.path()) == is_zipped(&file) || !has_twin()
        };
        set.iter().filter(|listed| counts(listed)).cloned().collect()
    } else {
        let location = place.location(&file);
        let meta = wait(&place.shown(&file), async {
            let failed = |source| DataError::Store { object: place.shown(&file), source };
            place.store.head(&location).await.map_err(failed)
        })?;
        vec![listed(&place, file.clone(), &meta)]
    };
    let objects = with_roles(&place, objects, format)?;
    Ok(Found { place, root, name: data_name(&file), format, objects, left_alone: Vec::new() })
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
    let refusals = Refusals(looked_at);
    refusals.logged(objects.iter().map(Listed::path))?;
    refusals.unfetched(objects.iter().map(Listed::path))?;
    let (objects, mut left_alone): (Vec<Listed>, Vec<Listed>) =
        objects.into_iter().partition(|listed| !is_aside(listed.path()));
    let formats: BTreeSet<Format> = objects.iter().filter_map(|listed| format_of(listed.path())).collect();
    let format = match (format, formats.len()) {
        (Some(format), _) => format,
        (None, 1) => formats.into_iter().next().unwrap_or(Format::Csv),
        (None, 0) => {
            refusals.unread(objects.iter().map(Listed::path), None)?;
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
    refusals.unread(objects.iter().map(Listed::path), Some(format))?;
    // What is named alone and in no known way is taken for what the user says it is.
    let is_one = objects.len() == 1;
    let wanted = |listed: &Listed| format_of(listed.path()).map_or(is_one, |found| found == format);
    let (objects, others): (Vec<Listed>, Vec<Listed>) = objects.into_iter().partition(wanted);
    if objects.is_empty() {
        return Err(nothing(&format!("files of the format {format}"), looked_at));
    }
    refusals.objects(objects.iter().map(Listed::path), format)?;
    left_alone.extend(others);
    let mut left_alone: Vec<String> = left_alone.into_iter().map(|listed| listed.source.path).collect();
    left_alone.sort_unstable();
    let objects = with_roles(&place, objects, format)?;
    Ok(Found { place, root, name, format, objects, left_alone })
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

fn unknown_format(file: &str) -> DataError {
    DataError::Option {
        option: "format",
        expected: "a file named .csv, .parquet, .txt, .tar or *-ubyte (each may end in .gz)".to_owned(),
        found: format!("{file:?}"),
        hint: match without_unread(file) {
            Some(_) => "unpack it, or use gzip".to_owned(),
            None => "name the format: csv, idx, parquet, text or tar".to_owned(),
        },
    }
}

/// Puts labels after their images. What a file holds is told by its header, not by its name.
fn with_roles(place: &Place, objects: Vec<Listed>, format: Format) -> Result<Vec<Listed>, DataError> {
    if format != Format::Idx {
        return Ok(objects);
    }
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for mut object in objects {
        let is_labels = peek(place, &object.source, Format::Idx, |input, _| probe_idx(input))?.shape.is_empty();
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
