//! What a file that a job names as its TorchScript module really is, told from its bytes alone. Python programs save
//! models in many formats; of the common ones each is named, with the way from it to a module that can be trained.

use std::io::{self, Read, Seek, SeekFrom};
use zip::ZipArchive;
use zip::result::ZipError;

/// What is read of a file that is no archive, and of an archive's pickle.
const BEGIN_BYTES: u64 = 4096;
/// How every zip archive begins, and so every TorchScript file.
const ZIP: &[u8] = b"PK\x03\x04";
/// How `torch.save` began before it wrote zip archives: a pickle of a number that nothing else begins with.
const OLD_TORCH_SAVE: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// How a pointer of Git LFS begins, which stands for a file that was not fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// A file's format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModuleFile {
    /// An archive of a TorchScript module, as far as its contents tell.
    Torchscript,
    /// What `torch.save` wrote: a pickle in an archive, or in its old format a pickle alone.
    Saved(Pickled),
    /// What `torch.export.save` wrote.
    Exported,
    /// What `torch.package` wrote.
    Package,
    /// Another zip archive.
    Archive,
    /// A zip archive without its end.
    CutOff,
    /// Tensors by name, in the format of the safetensors package.
    Safetensors,
    /// A graph in the ONNX format.
    Onnx,
    /// What Git LFS keeps in place of a file.
    LfsPointer,
    /// Text.
    Text,
    /// No bytes at all.
    Empty,
    /// Anything else.
    Unknown,
}

/// What Python wrote with pickle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pickled {
    /// An ordered dictionary, as `module.state_dict()` gives.
    StateDict,
    /// A dictionary, such as a training program's checkpoint.
    Dict,
    /// A tensor.
    Tensor,
    /// An object of this class, `module.Class`: a whole module, as a rule.
    Object(String),
    /// Something else.
    Other,
}

impl ModuleFile {
    /// Looks at the file. Its tensors are not read.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn look(mut file: impl Read + Seek) -> io::Result<Self> {
        let mut begin = Vec::new();
        file.by_ref().take(BEGIN_BYTES).read_to_end(&mut begin)?;
        let len = file.seek(SeekFrom::End(0))?;
        if !begin.starts_with(ZIP) {
            return Ok(plain(&begin, len));
        }
        match ZipArchive::new(file) {
            Ok(archive) => archived(archive),
            Err(ZipError::Io(error)) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            Err(_) => Ok(Self::CutOff),
        }
    }

    /// What it is, for `expected a TorchScript file, found ...`; `None` for such a file.
    #[must_use]
    pub fn found(&self) -> Option<String> {
        let found = match self {
            Self::Torchscript => return None,
            Self::Saved(Pickled::StateDict) => "a state_dict, which torch.save wrote",
            Self::Saved(Pickled::Dict) => "a dictionary, which torch.save wrote",
            Self::Saved(Pickled::Tensor) => "a tensor, which torch.save wrote",
            Self::Saved(Pickled::Object(class)) => return Some(format!("a pickled {class}, which torch.save wrote")),
            Self::Saved(Pickled::Other) => "a pickle, as torch.save writes it",
            Self::Exported => "a program that torch.export wrote (.pt2)",
            Self::Package => "a package that torch.package wrote",
            Self::Archive => "a zip archive of something else",
            Self::CutOff => "a zip archive whose end is missing",
            Self::Safetensors => "tensors without a module (safetensors)",
            Self::Onnx => "an ONNX graph",
            Self::LfsPointer => "a pointer of Git LFS, not the file itself",
            Self::Text => "text",
            Self::Empty => "an empty file",
            Self::Unknown => "another format",
        };
        Some(found.to_owned())
    }

    /// What to do instead, one clause.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Saved(Pickled::StateDict | Pickled::Dict) => {
                "make the module in Python, give it these values with load_state_dict, and write it with \
                 torch.jit.script(module).save(FILE)"
            }
            Self::Saved(Pickled::Object(_)) => {
                "load it in Python with torch.load(FILE, weights_only=False), where its class is defined, and write it \
                 with torch.jit.script(module).save(FILE)"
            }
            Self::Exported => {
                "workers train modules, not exported programs: write the nn.Module that it was made from with \
                 torch.jit.script(module).save(FILE)"
            }
            Self::Package => {
                "load the module in Python with torch.package.PackageImporter, and write it with \
                 torch.jit.script(module).save(FILE)"
            }
            Self::Safetensors => {
                "make the module in Python, load the tensors with safetensors.torch.load_model, and write it with \
                 torch.jit.script(module).save(FILE)"
            }
            Self::Onnx => {
                "an ONNX graph can't be trained: write the PyTorch module that it was made from with \
                 torch.jit.script(module).save(FILE)"
            }
            Self::CutOff | Self::Empty => {
                "copy the file again, or write it again with torch.jit.script(module).save(FILE)"
            }
            Self::LfsPointer => "`git lfs pull` brings the file",
            Self::Torchscript
            | Self::Saved(Pickled::Tensor | Pickled::Other)
            | Self::Archive
            | Self::Text
            | Self::Unknown => "torch.jit.script(module).save(FILE) writes one",
        }
    }
}

/// Of an archive: all of PyTorch's have one folder, and differ in what is in it.
fn archived<R: Read + Seek>(mut archive: ZipArchive<R>) -> io::Result<ModuleFile> {
    let within = |name: &str| name.split_once('/').map(|(_, rest)| rest.to_owned());
    let names: Vec<String> = archive.file_names().filter_map(within).collect();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let has_folder = |wanted: &str| names.iter().any(|name| name.starts_with(wanted));
    if has("archive_format") || has("serialized_exported_program.json") || has_folder("models/") {
        return Ok(ModuleFile::Exported);
    }
    if has_folder("code/") && has("constants.pkl") {
        return Ok(ModuleFile::Torchscript);
    }
    if has(".data/extern_modules") {
        return Ok(ModuleFile::Package);
    }
    let pickle = archive.file_names().find(|name| within(name).as_deref() == Some("data.pkl")).map(str::to_owned);
    let Some(pickle) = pickle else { return Ok(ModuleFile::Archive) };
    let mut begin = Vec::new();
    match archive.by_name(&pickle) {
        Ok(member) => member.take(BEGIN_BYTES).read_to_end(&mut begin)?,
        Err(ZipError::Io(error)) => return Err(error),
        // Compressed, which torch.save doesn't do.
        Err(_) => return Ok(ModuleFile::Saved(Pickled::Other)),
    };
    Ok(ModuleFile::Saved(pickled(&begin)))
}

/// Of a file that is no archive.
fn plain(begin: &[u8], len: u64) -> ModuleFile {
    if begin.is_empty() {
        return ModuleFile::Empty;
    }
    if begin.starts_with(OLD_TORCH_SAVE) {
        // Its number, its version and the machine's properties come first, each a pickle of its own.
        let ends = begin.windows(2).enumerate().filter(|(_, bytes)| *bytes == b".\x80").map(|(at, _)| at + 1);
        return ModuleFile::Saved(ends.take(3).last().map_or(Pickled::Other, |at| pickled(&begin[at..])));
    }
    if let [0x80, 2..=5, ..] = begin {
        return ModuleFile::Saved(pickled(begin));
    }
    if let Some((header, rest)) = begin.split_first_chunk::<8>()
        && rest.first() == Some(&b'{')
        && u64::from_le_bytes(*header) < len
    {
        return ModuleFile::Safetensors;
    }
    // The version of its format, then who wrote it, the graph, or the operators' versions.
    if let [0x08, 1..=32, 0x12 | 0x3a | 0x42, ..] = begin {
        return ModuleFile::Onnx;
    }
    if begin.starts_with(LFS_POINTER) {
        return ModuleFile::LfsPointer;
    }
    let is_text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // Cut within a character.
        Err(error) => error.error_len().is_none(),
    };
    if is_text(begin) && !begin.contains(&0) { ModuleFile::Text } else { ModuleFile::Unknown }
}

/// What the first operations of a pickle make. `torch.save` writes the protocol's version 2, others up to 5.
fn pickled(begin: &[u8]) -> Pickled {
    let mut rest = begin;
    loop {
        rest = match rest {
            // The protocol's version.
            [0x80, _, rest @ ..] => rest,
            // A frame, with its length.
            [0x95, rest @ ..] if rest.len() >= 8 => &rest[8..],
            // In the old format a module comes with its source: a mark, and the word `module`.
            [b'(', b'X', 6, 0, 0, 0, rest @ ..] if rest.starts_with(b"module") => &rest[b"module".len()..],
            // Remembered as this number.
            [b'q', _, rest @ ..] => rest,
            [b'}', ..] => return Pickled::Dict,
            [b'c', rest @ ..] => return global(rest),
            _ => return Pickled::Other,
        };
    }
}

/// What a class or function makes: its module and its name, a line each.
fn global(rest: &[u8]) -> Pickled {
    let text = String::from_utf8_lossy(rest);
    let mut lines = text.split('\n');
    match (lines.next(), lines.next()) {
        (Some("collections"), Some("OrderedDict")) => Pickled::StateDict,
        (Some("torch._utils"), Some(name)) if name.starts_with("_rebuild_") => Pickled::Tensor,
        (Some(module), Some(name)) if lines.next().is_some() => Pickled::Object(format!("{module}.{name}")),
        _ => Pickled::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn look(bytes: &[u8]) -> ModuleFile {
        ModuleFile::look(Cursor::new(bytes)).expect("bytes in memory can be read")
    }

    /// An archive with these members, stored as PyTorch stores them.
    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        use std::io::Write as _;
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, content) in members {
            writer.start_file(*name, stored).expect("begin a member");
            writer.write_all(content).expect("write a member");
        }
        writer.finish().expect("end the archive").into_inner()
    }

    #[test]
    fn archives_are_told_apart_by_what_is_in_them() {
        let torchscript: &[(&str, &[u8])] =
            &[("m/data.pkl", b"\x80\x02c__torch__\nM\n"), ("m/code/__torch__.py", b""), ("m/constants.pkl", b"")];
        assert_eq!(look(&archive(torchscript)), ModuleFile::Torchscript);
        let older_export: &[(&str, &[u8])] =
            &[("serialized_exported_program.json", b"{}"), ("m/serialized_exported_program.json", b"{}")];
        for (members, expected) in [
            (&[("m/archive_format", b"pt2" as &[u8]), ("m/data/weights/weight_0", b"")][..], ModuleFile::Exported),
            (older_export, ModuleFile::Exported),
            (&[("m/.data/extern_modules", b"torch"), ("m/model/model.pkl", b"")], ModuleFile::Package),
            (&[("word/document.xml", b"<w/>")], ModuleFile::Archive),
            (
                &[("m/data.pkl", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00")],
                ModuleFile::Saved(Pickled::Tensor),
            ),
            (&[("m/data.pkl", b"\x80\x02]q\x00")], ModuleFile::Saved(Pickled::Other)),
        ] {
            assert_eq!(look(&archive(members)), expected, "{members:?}");
        }
    }

    #[test]
    fn an_archive_without_its_end_is_cut_off() {
        let whole = archive(&[("m/data.pkl", b"\x80\x02}q\x00."), ("m/data/0", &[0; 4000])]);
        assert_eq!(look(&whole), ModuleFile::Saved(Pickled::Dict));
        for len in [ZIP.len(), 100, whole.len() / 2, whole.len() - 30] {
            assert_eq!(look(&whole[..len]), ModuleFile::CutOff, "{len} of {} bytes", whole.len());
        }
    }

    #[test]
    fn other_formats_are_known_by_how_they_begin() {
        for (bytes, expected) in [
            (&b""[..], ModuleFile::Empty),
            (b"name = \"digits\"\n", ModuleFile::Text),
            ("größer".as_bytes(), ModuleFile::Text),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", ModuleFile::LfsPointer),
            (b"\x10\0\0\0\0\0\0\0{\"a\": 1, \"b\": 2}", ModuleFile::Safetensors),
            (b"\x08\x08\x12\x07pytorch\x1a\x06", ModuleFile::Onnx),
            (b"\x89HDF\r\n\x1a\n\0\0", ModuleFile::Unknown),
            (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.", ModuleFile::Saved(Pickled::Dict)),
            (b"\x80\x05K\x01.", ModuleFile::Saved(Pickled::Other)),
        ] {
            assert_eq!(look(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn an_object_is_called_by_its_class() {
        assert_eq!(pickled(b"\x80\x02c__main__\nDigits\nq\x00)"), Pickled::Object("__main__.Digits".to_owned()));
        assert_eq!(pickled(b"\x80\x02c__main__\nDig"), Pickled::Other, "the name is cut off");
        assert_eq!(
            ModuleFile::Saved(Pickled::Object("__main__.Digits".to_owned())).found().as_deref(),
            Some("a pickled __main__.Digits, which torch.save wrote")
        );
    }
}
