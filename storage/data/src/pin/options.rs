//! What a user may say about a data set that its files don't.

use crate::error::DataError;
use crate::manifest::{Format, is_delimiter};
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
    /// CSV and Parquet: the columns that are features, in this order. Default: all but the target.
    pub columns: Option<Vec<Column>>,
    /// CSV and Parquet: columns that are left out.
    pub drop: Vec<Column>,
    /// CSV and Parquet: what becomes of missing values. Default: they are an error.
    pub missing: Option<MissingValues>,
    /// CSV: whether the first line has names. Default: it has if it is no row.
    pub header: Option<HeaderLine>,
    /// CSV: what is between two values. Default: what the first line has most of, of `,`, `;`, a tab and `|`.
    pub delimiter: Option<char>,
    /// CSV: the mark before a number's fraction. Default: a point.
    pub decimal: Option<char>,
    /// CSV: lines at the start of each file that are no part of the table. Default: none.
    pub skip: Option<u32>,
}

impl PinOptions {
    /// Refuses options that `format` has no use for.
    pub(super) fn check_for(&self, format: Format) -> Result<(), DataError> {
        let of_tables =
            [("columns", self.columns.is_some()), ("drop", !self.drop.is_empty()), ("missing", self.missing.is_some())];
        let of_csv = [
            ("header", self.header.is_some()),
            ("delimiter", self.delimiter.is_some()),
            ("decimal", self.decimal.is_some()),
            ("skip", self.skip.is_some()),
        ];
        let (of_tables, of_csv): (&[_], &[_]) = match format {
            Format::Csv => (&[], &[]),
            Format::Parquet => (&[], &of_csv),
            Format::Idx | Format::Text | Format::Tar => (&of_tables, &of_csv),
        };
        match of_tables.iter().chain(of_csv).find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(DataError::Option {
                option,
                expected: format!("none for {format}"),
                found: "one".to_owned(),
                hint: "leave it out".to_owned(),
            }),
            None => Ok(()),
        }
    }
}

/// Whether a table has names, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderLine {
    /// In the first line.
    Yes,
    /// All lines are rows.
    No,
    /// In this line, counted from 1; those above are no part of the table.
    At(u32),
}

impl FromStr for HeaderLine {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("yes", _) => Ok(Self::Yes),
            ("no", _) => Ok(Self::No),
            (_, Ok(line @ 1..)) => Ok(Self::At(line)),
            _ => Err(format!("expected yes, no or the line that has the names, counted from 1, found {text:?}")),
        }
    }
}

/// What becomes of rows that lack a value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum MissingValues {
    /// They are left out.
    Drop,
    /// This number stands for a missing feature.
    Fill(f64),
    /// The mean of all that are there stands for a missing feature.
    FillMean,
}

impl FromStr for MissingValues {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("fill=") {
            Some("mean") => Some(Self::FillMean),
            #[expect(clippy::cast_possible_truncation, reason = "features are float32")]
            Some(value) => value.parse().ok().filter(|value: &f64| (*value as f32).is_finite()).map(Self::Fill),
            None => (text == "drop").then_some(Self::Drop),
        }
        .ok_or_else(|| format!("expected drop, fill=mean or fill=NUMBER, found {text:?}"))
    }
}

/// A character that a table is cut or written with, also as `tab` or `\\t`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(pub char);

impl FromStr for Mark {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut characters = text.chars();
        let mark = match (text, characters.next(), characters.next()) {
            ("tab" | "\\t", ..) => Some('\t'),
            (_, Some(one), None) if is_delimiter(one) => Some(one),
            _ => None,
        };
        mark.map(Self).ok_or_else(|| format!("expected one character such as `;` or `|`, or tab, found {text:?}"))
    }
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
    /// One of several, by names, which may also be numbers.
    Label,
}

impl TargetKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Number => "number",
            Self::Label => "label",
        }
    }
}

impl FromStr for TargetKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "class" => Ok(Self::Class),
            "number" => Ok(Self::Number),
            "label" => Ok(Self::Label),
            _ => Err(format!("expected class, number or label, found {text:?}")),
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
        assert_eq!(
            ["yes", "no", "3"].map(|text| text.parse::<HeaderLine>().unwrap()),
            [HeaderLine::Yes, HeaderLine::No, HeaderLine::At(3)]
        );
        assert_eq!(
            ["drop", "fill=mean", "fill=-1.5"].map(|text| text.parse::<MissingValues>().unwrap()),
            [MissingValues::Drop, MissingValues::FillMean, MissingValues::Fill(-1.5)]
        );
        assert_eq!(
            [";", "tab", "\\t", " "].map(|text| text.parse::<Mark>().unwrap()),
            [Mark(';'), Mark('\t'), Mark('\t'), Mark(' ')]
        );
    }

    #[test]
    fn wrong_options_say_what_is_expected() {
        for text in ["", "0", "1/0", "x", "nan", "1/2/3"] {
            assert!(text.parse::<Scale>().unwrap_err().contains("expected a number"), "{text}");
        }
        for text in ["", "0x3", "1x", "-1", "8*8"] {
            assert!(text.parse::<Shape>().unwrap_err().contains("expected sizes"), "{text}");
        }
        assert!("0".parse::<HeaderLine>().is_err() && "fill=nan".parse::<MissingValues>().is_err());
        assert!("0".parse::<Mark>().is_err() && ";;".parse::<Mark>().is_err());
        assert!("labels".parse::<TargetKind>().unwrap_err().contains("class, number or label"));
    }
}
