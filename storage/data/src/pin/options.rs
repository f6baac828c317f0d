//! What a user may say about a data set that its files don't.

use crate::manifest::Format;
use std::str::FromStr;

/// All optional; `Default` takes everything from the files.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PinOptions {
    /// Default: from the name of the file or folder.
    pub name: Option<String>,
    /// Default: from the files' names.
    pub format: Option<Format>,
    /// DVC: the path of the output to pin. Needed where there is more than one.
    pub out: Option<String>,
    /// CSV and Parquet: the column to be learned. Default: the last. Tar: the key of the target in a sample's JSON.
    pub target: Option<Column>,
    /// Default: classes when all targets are whole numbers from 0 to 999, else numbers.
    pub kind: Option<TargetKind>,
    /// What each feature is multiplied by. Default: 1; 1/255 for images of bytes.
    pub scale: Option<Scale>,
    /// Of one sample. Default: as the file has it; rows of a table are flat.
    pub shape: Option<Shape>,
}

/// A column of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Column {
    /// Counted from 0.
    Index(u32),
    /// As the header has it.
    Name(String),
}

impl FromStr for Column {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Index))
    }
}

/// What a target is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetKind {
    /// One of several.
    Class,
    /// A number.
    Number,
}

impl TargetKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Number => "number",
        }
    }
}

impl FromStr for TargetKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "class" => Ok(Self::Class),
            "number" => Ok(Self::Number),
            _ => Err(format!("expected class or number, found {text:?}")),
        }
    }
}

/// A factor, also written as a fraction: `0.0625`, `1/16`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale(pub f64);

impl FromStr for Scale {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let value = match text.split_once('/') {
            Some((above, below)) => number(above).zip(number(below)).map(|(above, below)| above / below),
            None => number(text),
        };
        match value {
            Some(value) if value.is_finite() && value != 0.0 => Ok(Self(value)),
            _ => Err(format!("expected a number other than 0 such as 0.0625 or 1/16, found {text:?}")),
        }
    }
}

/// Sizes of a sample's dimensions: `1x8x8`, `64`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape(pub Vec<u32>);

impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let sizes: Option<Vec<u32>> = text.split('x').map(|size| size.parse().ok().filter(|&size| size > 0)).collect();
        sizes.map(Self).ok_or_else(|| format!("expected sizes above 0 such as 1x8x8, found {text:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_people_write_them() {
        assert_eq!("1/16".parse(), Ok(Scale(0.0625)));
        assert_eq!("0.5".parse(), Ok(Scale(0.5)));
        assert_eq!("1x8x8".parse(), Ok(Shape(vec![1, 8, 8])));
        assert_eq!("3".parse(), Ok(Column::Index(3)));
        assert_eq!("label".parse(), Ok(Column::Name("label".to_owned())));
    }

    #[test]
    fn wrong_options_say_what_is_expected() {
        for text in ["", "0", "1/0", "x", "nan", "1/2/3"] {
            assert!(text.parse::<Scale>().unwrap_err().contains("expected a number"), "{text}");
        }
        for text in ["", "0x3", "1x", "-1", "8*8"] {
            assert!(text.parse::<Shape>().unwrap_err().contains("expected sizes"), "{text}");
        }
        assert!("label".parse::<TargetKind>().unwrap_err().contains("class or number"));
    }
}
