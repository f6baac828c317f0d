//! Plain text.

use crate::folder::{Folder, gzip};
use trainctl_data::{PinOptions, Scale, Target, TargetKind};

#[test]
fn windows_share_no_byte_and_have_one_more_than_the_context() {
    let folder = Folder::with("a.txt.gz", gzip(b"abcdefghij"));
    let (manifest, data) = folder.pinned("a.txt.gz", &PinOptions::default());
    assert_eq!((manifest.name.as_str(), data.rows(), data.target()), ("a", 10, &Target::NextByte));
    assert_eq!(data.windows(3), 3);
    assert_eq!(manifest.samples(Some(3)), 3);
    let mut tokens = [0; 8];
    data.fill_tokens(&[2, 0], 3, &mut tokens).unwrap();
    assert_eq!(tokens.map(|token| u8::try_from(token).unwrap()), *b"ghijabcd");
    assert_eq!([data.windows(9), data.windows(10), data.windows(1)], [1, 0, 9]);
}

#[test]
fn several_files_are_one_text() {
    let folder = Folder::new();
    folder.write("plays/2.txt", "cd");
    folder.write("plays/1.txt", "ab");
    let (manifest, data) = folder.pinned("plays", &PinOptions::default());
    assert_eq!(manifest.objects.iter().map(|object| object.rows).collect::<Vec<_>>(), [2, 2]);
    let mut tokens = [0; 4];
    data.fill_tokens(&[0], 3, &mut tokens).unwrap();
    assert_eq!(tokens.map(|token| u8::try_from(token).unwrap()), *b"abcd");
}

#[test]
fn every_byte_is_a_token() {
    let bytes: Vec<u8> = (0..=255).collect();
    let (_, data) = Folder::with("a.txt", &bytes).pinned("a.txt", &PinOptions::default());
    let mut tokens = [0; 256];
    data.fill_tokens(&[0], 255, &mut tokens).unwrap();
    assert!(tokens.iter().copied().eq(0..256));
}

#[test]
fn options_of_tables_are_refused() {
    let folder = Folder::with("a.txt", "text");
    let scaled = PinOptions { scale: Some(Scale(2.0)), ..PinOptions::default() };
    assert_eq!(folder.refusal("a.txt", &scaled), "scale: expected none for text, found 2");
    let kind = PinOptions { kind: Some(TargetKind::Class), ..PinOptions::default() };
    assert_eq!(folder.refusal("a.txt", &kind), "target kind: expected none for text, found class");
    assert!(
        Folder::with("a.txt", "").refusal("a.txt", &PinOptions::default()).contains("at least one row, found none")
    );
}
