// SPDX-License-Identifier: GPL-2.0

//! Keywords and their abbreviations.

/// A keyword, written as in CP's manuals: the capitals at its beginning are the minimum abbreviation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyword(pub &'static str);

impl Keyword {
    /// Whether `word`, in upper case, is this keyword or an allowed abbreviation of it.
    pub(super) fn matches(self, word: &str) -> bool {
        let full = self.0;
        let minimum = full
            .bytes()
            .take_while(|byte| !byte.is_ascii_lowercase())
            .count();
        (minimum..=full.len()).contains(&word.len())
            && full.as_bytes()[..word.len()].eq_ignore_ascii_case(word.as_bytes())
    }
}

/// Picks the value of the keyword that `word` is. The first in the table wins, as in CP's own tables.
pub(super) fn choose<T: Copy>(word: &str, table: &[(&'static str, T)]) -> Option<T> {
    table
        .iter()
        .find(|(keyword, _)| Keyword(keyword).matches(word))
        .map(|&(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_are_the_minimum() {
        let indicate = Keyword("INDicate");
        for word in ["IND", "INDI", "INDICATE"] {
            assert!(indicate.matches(word), "{word}");
        }
        for word in ["", "I", "IN", "INDX", "INDICATES"] {
            assert!(!indicate.matches(word), "{word}");
        }
        assert!(!Keyword("USERID").matches("USERI"));
    }
}
