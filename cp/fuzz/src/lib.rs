// SPDX-License-Identifier: GPL-2.0

//! What the targets share: how bytes become what guests and operators do, and texts.

use arbitrary::{Result, Unstructured};

/// The most steps of one run; what goes wrong after more goes wrong after fewer.
const MAX_STEPS: usize = 200;

/// Steps, as many as there is input for.
pub fn steps<T>(
    input: &mut Unstructured<'_>,
    mut step: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Vec<T> {
    let next = || (!input.is_empty()).then(|| step(input).ok()).flatten();
    std::iter::from_fn(next).take(MAX_STEPS).collect()
}

/// A text of words that matter, at most 32, and of anything else.
pub fn text(bytes: &[u8], words: &[&str]) -> String {
    assert!(words.len() <= usize::from(b' '));
    let mut text = String::new();
    for &byte in bytes {
        match words.get(usize::from(byte)) {
            Some(word) => text.extend([word, " "]),
            None => text.push(byte.into()),
        }
    }
    text
}
