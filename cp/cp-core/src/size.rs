// SPDX-License-Identifier: GPL-2.0

//! Sizes of memory, as operators write them.

use thiserror::Error;

use crate::respond::PAGE_BYTES;

/// Why a text is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a size is a number and K, M or G, such as 64M, of whole pages of 4K")]
pub struct SizeError;

/// The pages in a size such as `64M`, at least one.
pub fn pages(text: &str) -> Result<u64, SizeError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(SizeError)?;
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.to_ascii_uppercase().as_str() {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return Err(SizeError),
    };
    let number: u64 = number.parse().map_err(|_| SizeError)?;
    let bytes = number.checked_mul(unit).ok_or(SizeError)?;
    match (bytes / PAGE_BYTES, bytes % PAGE_BYTES) {
        (pages @ 1.., 0) => Ok(pages),
        _ => Err(SizeError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_pages() {
        for (text, expected) in [("4K", 1), ("64m", 16384), ("1G", 262_144)] {
            assert_eq!(pages(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0M",
            "M",
            "64",
            "5K",
            "-4K",
            "1.5G",
            "64MB",
            "everything",
            "99999999999G",
        ] {
            assert_eq!(pages(text), Err(SizeError), "{text}");
        }
    }
}
