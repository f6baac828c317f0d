//! What somebody probably meant.

/// The candidate nearest to `name`, if one is near enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().max(name.chars().count()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_offered() {
        let jobs = ["digits", "mnist", "shakespeare"];
        assert_eq!(nearest("digts", jobs), Some("digits"));
        assert_eq!(nearest("shakespear-2", jobs), Some("shakespeare"));
        assert_eq!(nearest("resnet", jobs), None);
        assert_eq!(nearest("x", []), None);
    }
}
