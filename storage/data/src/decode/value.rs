//! What a field of a table's text says: a number, a truth value, that there is none, or something else.

/// Fields that stand for a missing value, as pandas and R write them.
const MISSING: [&str; 15] =
    ["", "NA", "N/A", "<NA>", "#N/A", "n/a", "na", "nan", "NaN", "NAN", "null", "NULL", "None", "?", "-nan"];

/// A field, read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Value {
    /// A finite number; true is 1, false 0.
    Number(f64),
    /// There is no value.
    Missing,
    /// A number that float64 has no finite value for, as `inf` or `1e999`.
    NotFinite,
    /// Anything else.
    Text,
}

impl Value {
    /// Reads a field, spaces around it allowed. `decimal` is the mark before a number's fraction.
    pub(crate) fn of(field: &[u8], decimal: u8) -> Self {
        let Ok(text) = std::str::from_utf8(field.trim_ascii()) else { return Self::Text };
        if decimal == b'.' {
            return Self::of_text(text);
        }
        // A point is no decimal mark here, and none of a thousand either.
        if text.contains('.') {
            return Self::Text;
        }
        Self::of_text(&text.replace(char::from(decimal), "."))
    }

    fn of_text(text: &str) -> Self {
        if MISSING.contains(&text) {
            return Self::Missing;
        }
        match text {
            "true" | "True" | "TRUE" => Self::Number(1.0),
            "false" | "False" | "FALSE" => Self::Number(0.0),
            _ => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => Self::Number(value),
                Ok(_) => Self::NotFinite,
                Err(_) => Self::Text,
            },
        }
    }
}

/// What to do about [`has_decimal_comma`].
pub(crate) const SAY_DECIMAL: &str = "`--decimal ,` where the comma is before a number's fraction";

/// Whether text is a number to those who write `1,5` for one and a half.
pub(crate) fn has_decimal_comma(text: &str) -> bool {
    text.contains(',') && matches!(Value::of(text.as_bytes(), b','), Value::Number(_))
}

/// Whether float32 has no room for all digits of a whole number, so that it becomes another one.
pub(crate) fn loses_digits(value: f64) -> bool {
    const EXACT_IN_F64: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whether it is the same number is what is asked")]
    let single = value as f32;
    value.fract() == 0.0
        && single.is_finite()
        && (value.abs() >= EXACT_IN_F64 || (f64::from(single) - value).abs() > 0.0)
}

/// A number as people write it: `1e300`, not 301 digits.
pub(crate) fn shown(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && size.is_finite() && !(1e-5..1e16).contains(&size) {
        format!("{value:e}")
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_pandas_and_r_write_them() {
        for (field, expected) in [
            (" 1.5 ", Value::Number(1.5)),
            ("+3e-1", Value::Number(0.3)),
            ("TRUE", Value::Number(1.0)),
            ("False", Value::Number(0.0)),
            ("", Value::Missing),
            (" NA\r", Value::Missing),
            ("nan", Value::Missing),
            ("-inf", Value::NotFinite),
            ("1e999", Value::NotFinite),
            ("O.2", Value::Text),
            ("1,5", Value::Text),
            ("1_000", Value::Text),
        ] {
            assert_eq!(Value::of(field.as_bytes(), b'.'), expected, "{field:?}");
        }
        assert_eq!(Value::of(b"1,5", b','), Value::Number(1.5));
        assert_eq!(Value::of(b"1.000,5", b','), Value::Text);
        assert!(has_decimal_comma("-1,5") && !has_decimal_comma("1.5") && !has_decimal_comma("a,b"));
    }

    #[test]
    fn whole_numbers_that_float32_rounds_are_told_from_those_it_holds() {
        assert!(!loses_digits(16_777_216.0) && !loses_digits(0.1) && !loses_digits(1_700_000_000_f64 - 0.5));
        assert!(loses_digits(16_777_217.0) && loses_digits(1_700_000_001.0) && !loses_digits(1_700_000_000.0));
        assert!(loses_digits(9_007_199_254_740_993_i64 as f64));
    }

    #[test]
    fn large_numbers_are_shown_short() {
        assert_eq!([shown(1e300), shown(0.5), shown(-3.0), shown(1e-9)], ["1e300", "0.5", "-3", "1e-9"]);
    }
}
