//! Data that DVC tracks (<https://dvc.org>): what a `.dvc` file or a stage of `dvc.lock` names, and where the default
//! remote of its repository keeps it. A remote is addressed by content: `files/md5/` and the md5, its first two digits
//! as a folder; a folder is an object `.dir` that lists its files.

use super::dvc_config::remote;
use crate::error::DataError;
use crate::manifest::read_bounded;
use crate::place::{PATIENCE, Place};
use crate::reader::{ObjectReader, Source};
use serde::Deserialize;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::{Yaml, YamlLoader};

/// What DVC 3 begins the names of a remote's objects with.
const PREFIX: &str = "files/md5";
/// A `.dvc` file or `dvc.lock` of more bytes is refused.
const FILE_MAX_BYTES: u64 = 4 << 20;
/// DVC's own files have six.
const DEPTH_MAX: u32 = 64;
/// A list of a folder's files of more bytes is refused.
const LIST_MAX_BYTES: u64 = 64 << 20;

/// A tracked file or folder.
pub(super) struct Tracked {
    /// The remote's URI.
    pub(super) root: String,
    pub(super) name: String,
    /// Sorted by path.
    pub(super) objects: Vec<Source>,
}

/// An output, as DVC's files write it.
struct Out {
    path: String,
    md5: String,
    size: Option<u64>,
    remote: Option<String>,
}

/// A file of a tracked folder, as its `.dir` object lists it.
#[derive(Deserialize)]
struct Listed {
    md5: String,
    relpath: String,
}

/// What `uri` tracks, when it names a `.dvc` file or a `dvc.lock`. `wanted` is the output's path, needed where there is
/// more than one.
pub(super) fn find(uri: &str, wanted: Option<&str>) -> Result<Option<Tracked>, DataError> {
    let file = if uri.contains("://") {
        trainctl_objects::local_path(uri).unwrap_or_default()
    } else {
        std::path::absolute(uri).unwrap_or_default()
    };
    let is_lock = file.file_name().is_some_and(|name| name == "dvc.lock");
    if !file.is_file() || !(is_lock || file.extension().is_some_and(|extension| extension == "dvc")) {
        return Ok(None);
    }
    let shown = file.display().to_string();
    let bytes = read_bounded(&file, FILE_MAX_BYTES, "bytes of a file of DVC's")?;
    let text = String::from_utf8(bytes)
        .map_err(|error| malformed(&shown, "content", "YAML as DVC writes it", error.utf8_error().to_string()))?;
    let out = choose(outs(&text, is_lock, &shown)?, wanted, &shown)?;
    let repository = repository_of(&file).ok_or_else(|| {
        malformed(&shown, "place", "a file in a DVC repository", "no folder .dvc above it".to_owned())
    })?;
    let root = remote(&repository, out.remote.as_deref())?;
    let place = Place::open(&root, PATIENCE)?;
    let name = Path::new(&out.path).file_name().and_then(|name| name.to_str()).unwrap_or(&out.path).to_owned();
    let objects = match out.md5.strip_suffix(".dir") {
        Some(md5) => files_of(&place, &out, md5)?,
        None => vec![source(name.clone(), &out.md5, out.size, &shown)?],
    };
    let name = name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or(&name).to_owned();
    Ok(Some(Tracked { root, name, objects }))
}

/// The folder above that has `.dvc/` in it.
fn repository_of(file: &Path) -> Option<PathBuf> {
    file.ancestors().skip(1).find(|folder| folder.join(".dvc").is_dir()).map(Path::to_owned)
}

fn outs(text: &str, is_lock: bool, shown: &str) -> Result<Vec<Out>, DataError> {
    check_plain(text, shown)?;
    let documents = YamlLoader::load_from_str(text).map_err(|error| {
        let place = format!("line {}, column {}", error.marker().line(), error.marker().col() + 1);
        malformed(shown, &place, "YAML as DVC writes it", error.info().to_owned())
    })?;
    let document = documents.first().unwrap_or(&Yaml::BadValue);
    let mut listed = Vec::new();
    if is_lock {
        for stage in document["stages"].as_hash().into_iter().flat_map(|stages| stages.values()) {
            listed.extend(stage["outs"].as_vec().into_iter().flatten());
        }
    } else {
        listed.extend(document["outs"].as_vec().into_iter().flatten());
    }
    if listed.is_empty() {
        return Err(malformed(shown, "outs", "at least one output", "none".to_owned()));
    }
    listed.into_iter().enumerate().map(|(index, out)| read_out(out, index, shown)).collect()
}

/// Refuses aliases, which DVC does not write and which a few bytes can make very many of, and deep nesting.
fn check_plain(text: &str, shown: &str) -> Result<(), DataError> {
    let (mut parser, mut depth) = (Parser::new_from_str(text), 0_u32);
    loop {
        // What is no YAML is said where it is loaded.
        let Ok((event, mark)) = parser.next_token() else { return Ok(()) };
        let place = || format!("line {}, column {}", mark.line(), mark.col() + 1);
        match event {
            Event::Alias(_) => {
                return Err(malformed(shown, &place(), "YAML as DVC writes it", "an alias".to_owned()));
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
            Event::MappingEnd | Event::SequenceEnd => depth = depth.saturating_sub(1),
            Event::StreamEnd => return Ok(()),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(malformed(shown, &place(), "YAML as DVC writes it", format!("more than {DEPTH_MAX} levels")));
        }
    }
}

fn read_out(out: &Yaml, index: usize, shown: &str) -> Result<Out, DataError> {
    let text = |key: &str| out[key].as_str().map(str::to_owned);
    let needed = |key: &str| {
        let place = format!("outs[{index}].{key}");
        text(key).ok_or_else(|| malformed(shown, &place, "text", format!("{:?}", out[key])))
    };
    let path = needed("path")?;
    let md5 = needed("md5")?;
    if out["hash"].as_str() != Some("md5") {
        let expected = "md5, as DVC 3 writes it (`dvc cache migrate` brings data of DVC 2 up to date)";
        let found = text("hash").unwrap_or_else(|| "none".to_owned());
        return Err(malformed(shown, &format!("outs[{index}].hash"), expected, found));
    }
    let size = out["size"].as_i64().and_then(|size| u64::try_from(size).ok());
    Ok(Out { path, md5, size, remote: text("remote") })
}

fn choose(mut outs: Vec<Out>, wanted: Option<&str>, shown: &str) -> Result<Out, DataError> {
    let paths = outs.iter().map(|out| out.path.as_str()).collect::<Vec<_>>().join(", ");
    let position = match wanted {
        Some(wanted) => outs.iter().position(|out| out.path == wanted),
        None => (outs.len() == 1).then_some(0),
    };
    position.map(|position| outs.swap_remove(position)).ok_or_else(|| DataError::Option {
        option: "out",
        expected: format!("one of {paths}"),
        found: wanted.map_or_else(|| "none".to_owned(), |wanted| format!("{wanted:?}")),
        hint: format!("say which output of {shown} to pin"),
    })
}

/// The files that a `.dir` object lists; the object is checked against its own md5.
fn files_of(place: &Place, out: &Out, md5: &str) -> Result<Vec<Source>, DataError> {
    let shown = place.shown(&out.path);
    let directory =
        Source { stored: Some(format!("{}.dir", stored(md5))), ..source(out.path.clone(), md5, None, &shown)? };
    let mut reader = ObjectReader::start(place, &directory)?;
    let mut bytes = Vec::new();
    let read = (&mut reader).take(LIST_MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| DataError::File { path: directory.shown(place), done: "read", source })?;
    reader.finish()?;
    if bytes.len() as u64 > LIST_MAX_BYTES {
        return Err(DataError::TooLarge {
            object: directory.shown(place),
            unit: "bytes of a list of files",
            limit: LIST_MAX_BYTES,
            found: bytes.len() as u128,
        });
    }
    let listed: Vec<Listed> = serde_json::from_slice(&bytes).map_err(|error| {
        malformed(&directory.shown(place), "content", "a list of md5 and relpath", error.to_string())
    })?;
    let sources = listed.into_iter().map(|file| source(file.relpath, &file.md5, None, &directory.shown(place)));
    let mut sources = sources.collect::<Result<Vec<_>, _>>()?;
    sources.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn source(path: String, md5: &str, size: Option<u64>, shown: &str) -> Result<Source, DataError> {
    if md5.len() != 32 || !md5.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')) {
        return Err(malformed(shown, &path, "an md5 of 32 hex digits", format!("{md5:?}")));
    }
    Ok(Source { path, stored: Some(stored(md5)), size, digest: None, md5: Some(md5.to_owned()) })
}

fn stored(md5: &str) -> String {
    let (folder, rest) = md5.split_at(2);
    format!("{PREFIX}/{folder}/{rest}")
}

pub(super) fn malformed(object: &str, place: &str, expected: &str, found: String) -> DataError {
    let (object, place, expected) = (object.to_owned(), place.to_owned(), expected.to_owned());
    DataError::Malformed { object, place, expected, found, hint: None }
}
