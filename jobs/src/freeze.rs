//! `train.freeze`: which parameters a job leaves as they are. What a built-in model calls its parameters follows from
//! the spec, so that a pattern that fits none is found before anything starts.

use crate::spec::ModelSpec;

/// Names in a message; of more, these and their count.
const SHOWN_MAX: usize = 12;

/// Patterns that can't be followed, as messages put it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FreezeMisfit {
    /// What would do.
    pub expected: String,
    /// What the job says.
    pub found: String,
}

/// Which of a model's parameters the patterns freeze, in the order of the names.
///
/// # Errors
/// A pattern that fits no name, or patterns that leave nothing to train.
pub fn frozen(patterns: &[String], names: &[&str]) -> Result<Vec<bool>, FreezeMisfit> {
    if let Some(pattern) = patterns.iter().find(|pattern| !names.iter().any(|name| fits(pattern, name))) {
        let expected = format!("patterns that fit a parameter of the model: {}", shown(names));
        return Err(FreezeMisfit { expected, found: format!("{pattern:?}, which fits none") });
    }
    let frozen: Vec<bool> = names.iter().map(|name| patterns.iter().any(|pattern| fits(pattern, name))).collect();
    if !names.is_empty() && frozen.iter().all(|frozen| *frozen) {
        let expected = format!("a parameter left to train of {}", shown(names));
        return Err(FreezeMisfit { expected, found: format!("{patterns:?}, which fit all") });
    }
    Ok(frozen)
}

/// Whether a pattern fits a whole name: `*` stands for any characters, also none, and `?` for any one.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what came after the last `*` didn't fit: it stands for one character more then.
    let mut again: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                again = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match again {
                Some((after, from)) => {
                    (p, n) = (after, from + 1);
                    again = Some((p, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

fn shown(names: &[&str]) -> String {
    let more = names.len().saturating_sub(SHOWN_MAX);
    let listed = names[..names.len() - more].join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

impl ModelSpec {
    /// The names of a built-in model's parameters, in their order; `None` for a module, whose names only its file has.
    #[must_use]
    pub fn parameter_names(&self) -> Option<Vec<String>> {
        let weight_and_bias = |of: String| [format!("{of}.weight"), format!("{of}.bias")];
        Some(match self {
            Self::Mlp { hidden, .. } => {
                (0..=hidden.len()).flat_map(|i| weight_and_bias(format!("layers.{i}"))).collect()
            }
            Self::Convnet { channels, .. } => {
                let block = |i| {
                    let [weight, bias] = weight_and_bias(format!("blocks.{i}.norm"));
                    [format!("blocks.{i}.conv.weight"), weight, bias]
                };
                (0..channels.len()).flat_map(block).chain(weight_and_bias("head".to_owned())).collect()
            }
            Self::Gpt { layers, .. } => {
                let inner = ["norm1", "attention.qkv", "attention.out", "norm2", "feed.up", "feed.down"];
                let block = |i| inner.iter().flat_map(move |of| weight_and_bias(format!("blocks.{i}.{of}")));
                let first = ["tokens.weight", "positions.weight"].map(str::to_owned);
                first
                    .into_iter()
                    .chain((0..*layers).flat_map(block))
                    .chain(weight_and_bias("norm".to_owned()))
                    .collect()
            }
            Self::Torchscript { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_names() {
        for (pattern, name) in [
            ("layers.0.*", "layers.0.weight"),
            ("layers.0.*", "layers.0."),
            ("*", "anything"),
            ("*.weight", "blocks.0.conv.weight"),
            ("blocks.*.conv.*", "blocks.11.conv.weight"),
            ("layers.?.bias", "layers.7.bias"),
            ("*a*b", "aXbaXb"),
            ("head.weight", "head.weight"),
            ("**", ""),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("layers.0", "layers.0.weight"),
            ("layers.0.*", "layers.01.weight"),
            ("layers.?.bias", "layers.10.bias"),
            ("*.weight", "head.weights"),
            ("*a*b", "aXba"),
            ("", "x"),
            ("Head.*", "head.bias"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_fits_nothing_is_told_with_the_names() {
        let model = ModelSpec::Mlp { hidden: vec![8], dropout: 0.0 };
        let names = model.parameter_names().unwrap();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let freeze = |patterns: &[&str]| frozen(&patterns.iter().map(|&p| p.to_owned()).collect::<Vec<_>>(), &names);
        assert_eq!(freeze(&["layers.0.*"]), Ok(vec![true, true, false, false]));
        assert_eq!(freeze(&[]), Ok(vec![false; 4]));
        let misfit = freeze(&["layers.0.*", "layers.2.*"]).unwrap_err();
        assert_eq!(
            misfit.expected,
            "patterns that fit a parameter of the model: layers.0.weight, layers.0.bias, layers.1.weight, layers.1.bias"
        );
        assert_eq!(misfit.found, "\"layers.2.*\", which fits none");
        assert_eq!(freeze(&["*.weight", "*.bias"]).unwrap_err().found, "[\"*.weight\", \"*.bias\"], which fit all");
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        let names: Vec<String> = (0..20).map(|i| format!("p{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(shown(&names).ends_with("p11 and 8 more"), "{}", shown(&names));
        assert!(shown(&names[..12]).ends_with("p11"));
    }
}
