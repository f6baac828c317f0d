//! What is wrong with a job spec, said so that a user can mend it without looking anything up.

use std::fmt;

/// Everything that is wrong with a job spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpecErrors {
    /// The job file, `--set`, or another name of where the spec came from.
    pub source_name: String,
    /// In the order of the file.
    pub errors: Vec<SpecError>,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpecError {
    /// The whole key, such as `train.global_batch`; empty where no key is meant.
    pub key: String,
    /// Where it is written; absent for a spec that was not read from a text.
    pub place: Option<Place>,
    /// What would be right.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// What to do, one clause.
    pub hint: Option<String>,
}

/// A stretch of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The whole line.
    pub text: String,
    /// How many characters of it are meant; at least 1.
    pub chars: usize,
}

impl Place {
    /// Where the byte range lies in `text`; of more lines the first.
    pub(crate) fn of(text: &str, range: std::ops::Range<usize>) -> Self {
        let boundary = |at: usize| (0..=at.min(text.len())).rfind(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let start = boundary(range.start);
        let end = boundary(range.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            chars: text[start..end.min(line_end)].chars().count().max(1),
        }
    }
}

impl SpecErrors {
    pub(crate) fn one(source_name: &str, error: SpecError) -> Self {
        Self { source_name: source_name.to_owned(), errors: vec![error] }
    }
}

impl std::error::Error for SpecErrors {}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errors.len() > 1 {
            write!(f, "{}: {} problems\n\n", self.source_name, self.errors.len())?;
        }
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                write!(f, "\n\n")?;
            }
            error.write(&self.source_name, f)?;
        }
        Ok(())
    }
}

impl SpecError {
    fn write(&self, source_name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(source_name)?;
        if let Some(Place { line, column, .. }) = &self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)?;
        if let Some(Place { line, column, text, chars }) = &self.place
            && !text.trim().is_empty()
        {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            // A tab in the line above must be one below it, or the marks slip.
            let indent: String = text.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            write!(f, "\n {number} | {text}\n {margin} | {indent}{}", "^".repeat(*chars))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_not_bytes() {
        let text = "a = 1\r\nname = \"é\" # ü\n";
        let start = text.find('"').unwrap();
        let place = Place::of(text, start..start + 4);
        assert_eq!((place.line, place.column, place.chars), (2, 8, 3));
        assert_eq!(place.text, "name = \"é\" # ü");
    }

    #[test]
    fn a_range_at_the_end_or_over_lines_has_a_place() {
        assert_eq!(Place::of("ab\ncd", 5..5).column, 3);
        assert_eq!(Place::of("ab\ncd", 0..5).chars, 2);
        assert_eq!(Place::of("", 0..9).line, 1);
    }
}
