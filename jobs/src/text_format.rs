//! Texts of a job spec that have a form: names, digests, times, places. The types name the form, here it is checked.

use crate::spec::{AuditSpec, CheckpointEvery, PeerSilence};

const NAME_MAX_CHARS: usize = 63;

/// What a text of this form looks like, as it stands after "expected".
pub(crate) fn describe(format: &str) -> &'static str {
    match format {
        "job-name" => "a name of up to 63 lower-case letters, digits and inner `-`",
        "blake3-digest" => "\"blake3:\" and 64 hex digits",
        "checkpoint-every" => "\"auto\", a number of steps such as \"500 steps\", or a time such as \"5 min\"",
        "audit" => "\"auto\", \"off\" or a number of steps such as 50",
        "duration" => "a time such as \"6h\" or \"90 min\"",
        "peer-silence" => "a time from \"200 ms\" to \"10 min\"",
        "folder-uri" => "a folder or bucket such as \"file:///data/runs\" or \"s3://bucket/runs\"",
        _ => unreachable!("a text format that nothing checks: {format}"),
    }
}

/// What to do about a text that is not of its form; `Ok` when it is.
pub(crate) fn check(format: &str, text: &str) -> Result<(), Option<String>> {
    match format {
        "job-name" => check_name(text),
        "blake3-digest" => check_digest(text),
        "checkpoint-every" => match CheckpointEvery::try_from(text.to_owned()) {
            Ok(_) => Ok(()),
            Err(_) if text.trim().parse::<u64>().is_ok() => {
                Err(Some(format!("{text} of what? write \"{text} steps\"")))
            }
            Err(_) => Err(None),
        },
        "audit" => match serde_json::from_value::<AuditSpec>(text.into()) {
            Ok(_) => Ok(()),
            Err(_) if text.trim().parse::<u64>().is_ok() => Err(Some(format!("write {} without quotes", text.trim()))),
            Err(_) => Err(hint(format).map(str::to_owned)),
        },
        "duration" => match humantime::parse_duration(text) {
            Ok(duration) if !duration.is_zero() => Ok(()),
            Ok(_) => Err(Some("a time of 0 is over at once; leave the key out for no bound".to_owned())),
            Err(_) => Err(Some("units are s, min, h, days".to_owned())),
        },
        "peer-silence" => match (PeerSilence::try_from(text.to_owned()), humantime::parse_duration(text.trim())) {
            (Ok(_), _) => Ok(()),
            (Err(_), Ok(_)) => Err(None),
            (Err(_), Err(_)) => Err(Some("units are ms, s, min".to_owned())),
        },
        "folder-uri" => check_folder(text),
        _ => unreachable!("a text format that nothing checks: {format}"),
    }
}

/// What to do about a value that may be a number or a text of this form, and is neither.
pub(crate) fn hint(format: &str) -> Option<&'static str> {
    match format {
        "audit" => Some("50 checks a shard of one step in 50, \"off\" of none"),
        _ => None,
    }
}

/// A text of this form, to stand in for a faulty one.
pub(crate) fn sample(format: Option<&str>) -> &'static str {
    match format {
        Some("checkpoint-every" | "audit") => "auto",
        Some("duration") => "1h",
        Some("peer-silence") => "2s",
        _ => "x",
    }
}

fn check_name(text: &str) -> Result<(), Option<String>> {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty()
        && text.len() <= NAME_MAX_CHARS
        && text.chars().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
    {
        return Ok(());
    }
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit()).filter(|word| !word.is_empty());
    let near: String = words.collect::<Vec<_>>().join("-").chars().take(NAME_MAX_CHARS).collect();
    let near = near.trim_end_matches('-');
    Err((!near.is_empty()).then(|| format!("\"{near}\" would do")))
}

fn check_digest(text: &str) -> Result<(), Option<String>> {
    let pin = || Some("`trainctl data pin` prints a data set's, `trainctl model pin` a model's".to_owned());
    let Some(hex) = text.strip_prefix("blake3:") else {
        let is_bare = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        return Err(if is_bare { Some(format!("write \"blake3:{text}\"")) } else { pin() });
    };
    if let Some(wrong) = hex.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
        return Err(Some(format!("{wrong:?} is no lower-case hex digit")));
    }
    match hex.len() {
        64 => Ok(()),
        len => Err(Some(format!("it has {len} digits"))),
    }
}

fn check_folder(text: &str) -> Result<(), Option<String>> {
    match text.split_once("://") {
        None if text.is_empty() => Err(Some("leave the key out for the coordinator's own folder".to_owned())),
        None => Ok(()),
        Some(("file", rest)) if rest.starts_with('/') => Ok(()),
        Some(("file", rest)) => Err(Some(format!("write three slashes: \"file:///{rest}\""))),
        Some(("s3" | "gs", bucket)) if !matches!(bucket.chars().next(), None | Some('/')) => Ok(()),
        Some((scheme @ ("s3" | "gs"), _)) => Err(Some(format!("write \"{scheme}://your-bucket/runs\""))),
        Some(_) => Err(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(format: &str, text: &str) -> Option<String> {
        check(format, text).unwrap_err()
    }

    #[test]
    fn names_that_hold_and_names_that_dont() {
        for name in ["digits", "a", "7", "mnist-2", &"x".repeat(63)] {
            assert!(check("job-name", name).is_ok(), "{name}");
        }
        for (name, near) in
            [("Digits", "digits"), ("my job", "my-job"), ("a/b", "a-b"), ("-x-", "x"), ("../x", "x"), ("é1", "1")]
        {
            assert_eq!(hint("job-name", name), Some(format!("{near:?} would do")), "{name}");
        }
        assert_eq!(hint("job-name", ""), None);
        assert!(check("job-name", &hint("job-name", &"x".repeat(64)).unwrap()[1..64]).is_ok());
    }

    #[test]
    fn digests_say_what_is_wrong_with_them() {
        let hex = "0123456789abcdef".repeat(4);
        assert!(check("blake3-digest", &format!("blake3:{hex}")).is_ok());
        assert_eq!(hint("blake3-digest", &hex).unwrap(), format!("write \"blake3:{hex}\""));
        assert_eq!(hint("blake3-digest", "blake3:12").unwrap(), "it has 2 digits");
        assert_eq!(hint("blake3-digest", "blake3:A2").unwrap(), "'A' is no lower-case hex digit");
        assert!(hint("blake3-digest", "sha256:00").unwrap().contains("data pin"));
    }

    #[test]
    fn times_and_places() {
        for (format, good) in [
            ("duration", "6h"),
            ("duration", "1h 30min"),
            ("checkpoint-every", "auto"),
            ("checkpoint-every", "1_000 steps"),
            ("checkpoint-every", "1 step"),
            ("checkpoint-every", "5 min"),
            ("audit", "auto"),
            ("audit", "off"),
            ("audit", "1_000 steps"),
            ("audit", "1 step"),
            ("peer-silence", "2s"),
            ("peer-silence", "500 ms"),
            ("folder-uri", "file:///x"),
            ("folder-uri", "runs"),
        ] {
            assert!(check(format, good).is_ok(), "{good}");
        }
        assert_eq!(hint("checkpoint-every", "500").unwrap(), "500 of what? write \"500 steps\"");
        assert_eq!(hint("checkpoint-every", "0 steps"), None);
        assert_eq!(hint("audit", "50").unwrap(), "write 50 without quotes");
        for not_known in ["never", "0 steps", "-1 steps", "5 min", "", "Auto", "2_000_000_000_000 steps"] {
            assert!(hint("audit", not_known).unwrap().contains("\"off\" of none"), "{not_known}");
        }
        assert_eq!((hint("peer-silence", "0s"), hint("peer-silence", "1 h")), (None, None));
        assert!(hint("peer-silence", "2").unwrap().contains("units are"));
        assert!(hint("duration", "soon").unwrap().contains("units are"));
        assert!(hint("duration", "0s").unwrap().contains("over at once"));
        assert!(hint("folder-uri", "file://x").unwrap().contains("file:///x"));
        assert!(check("folder-uri", "s3://bucket/runs").is_ok());
        assert!(hint("folder-uri", "gs:///runs").unwrap().contains("gs://your-bucket/runs"));
    }
}
