//! Text as a value in two languages: an environment file, and YAML. Both take any text, so that a name can't become
//! anything but a name.

use std::fmt::Write;

/// A value in an environment file. systemd and shells read it alike: within double quotes four characters stand for
/// themselves only after a backslash.
pub(crate) fn environment(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '`' | '$') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// A double-quoted scalar of YAML, in ASCII alone: readers differ about what else may stand in one.
pub(crate) fn yaml(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            ' '..='~' => quoted.push(c),
            // Writing into a String can't fail.
            _ => drop(write!(quoted, "\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// A literal block of YAML, as it stands in a list of mappings at the depth of `indent` spaces. For files of ours only:
/// it can't hold every character.
pub(crate) fn yaml_block(text: &str, indent: usize) -> String {
    let mut block = String::from("|\n");
    for line in text.lines() {
        if !line.is_empty() {
            block.extend(std::iter::repeat_n(' ', indent));
            block.push_str(line);
        }
        block.push('\n');
    }
    block
}
