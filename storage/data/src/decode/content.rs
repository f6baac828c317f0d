//! What the first bytes of an object say it is, where that is not what it is called: a pointer to a file that was not
//! fetched, or an archive or compression that is not read.

use super::Bad;
use crate::manifest::Format;

/// What a pointer to a file that was not fetched starts with, what it is, and what fetches the file.
const POINTERS: [(&[u8], &str, &str); 3] = [
    (b"version https://git-lfs.github.com/spec/", "a git-lfs pointer", "`git lfs pull` fetches it"),
    (b"version https://hawser.github.com/spec/", "a git-lfs pointer", "`git lfs pull` fetches it"),
    (b"/annex/objects/", "a git-annex pointer", "`git annex get` fetches it"),
];
/// As git-lfs bounds them.
const POINTER_MAX_BYTES: usize = 1024;
/// What files that are not read start with, and what they are.
const UNREAD: [(&[u8], &str); 9] = [
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
    (b"%PDF-", "a PDF"),
];
/// `BZh`, a digit, and the digits of pi.
const BZIP2: (&[u8], &[u8]) = (b"BZh", b"1AY&SY");
/// UTF-16, as Excel's "Unicode text" writes it.
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Refuses an object by its head, which is all of a small one. Only what is pinned anew is looked at: what was pinned
/// stays what it is.
pub(super) fn check(head: &[u8], format: Format) -> Result<(), Bad> {
    let starts = |start: &[u8]| head.starts_with(start);
    if head.len() <= POINTER_MAX_BYTES
        && let Some((_, found, hint)) = POINTERS.iter().find(|(start, ..)| starts(start))
    {
        return Err(Bad::new("content", "the data itself", found).hint(hint));
    }
    let is_bzip2 = starts(BZIP2.0) && head.get(4..).is_some_and(|rest| rest.starts_with(BZIP2.1));
    let unread = UNREAD.iter().find(|(start, _)| starts(start)).map(|(_, found)| *found);
    if let Some(found) = unread.or(is_bzip2.then_some("bzip2")) {
        let expected = format!("{format} as it is, or in gzip");
        return Err(Bad::new("content", expected, found).hint("unpack it, or use gzip"));
    }
    if format == Format::Csv && UTF_16.iter().any(|start| starts(start)) {
        return Err(Bad::new("content", "text in UTF-8", "UTF-16").hint("`iconv -f utf-16 -t utf-8` writes it anew"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_named_and_data_is_let_through() {
        for (head, found) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid"[..], "a git-lfs pointer"),
            (b"/annex/objects/MD5E-s1--a.csv\n", "a git-annex pointer"),
            (b"PK\x03\x04rest", "a zip archive"),
            (b"BZh91AY&SYrest", "bzip2"),
            (b"\x28\xb5\x2f\xfdrest", "zstd"),
            (b"\xff\xfea\0,\0", "UTF-16"),
        ] {
            assert_eq!(check(head, Format::Csv).unwrap_err().found, found);
        }
        for head in [&b""[..], b"a,b\n1,2\n", b"BZh9 is what bzip2 starts with", b"PK,1\n", b"PAR1", b"\xef\xbb\xbfa,b"]
        {
            assert!(check(head, Format::Csv).is_ok(), "{head:?}");
        }
        assert!(check(b"\xff\xfea\0", Format::Text).is_ok());
    }
}
