// SPDX-License-Identifier: GPL-2.0

//! A page as it is kept.

use std::fmt;
use std::ops::{Deref, DerefMut};

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};
use zeroize::optimization_barrier;

use super::PAGE_SIZE;

/// What a page takes besides its content, in bytes: its places in the trees of its pool.
const OVERHEAD: u64 = 192;

/// A page that cannot be made at least this small is kept as it is: getting it back costs less then.
const WORTH: usize = PAGE_SIZE * 3 / 4;

/// Bytes of a guest, which are zeroed before their memory is used for anything else.
pub struct Secret(Box<[u8]>);

impl Secret {
    pub fn zeroed(length: usize) -> Self {
        Self(vec![0; length].into())
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        optimization_barrier(&self.0);
    }
}

/// The content of a page.
pub enum Page {
    /// All zeroes.
    Zero,
    /// As it is.
    Plain(Secret),
    /// Compressed.
    Lz4(Secret),
}

impl Page {
    const ZERO: u16 = 0;
    const PLAIN: u16 = 1;
    const LZ4: u16 = 2;

    /// Takes a page of content.
    pub fn new(content: &[u8], compress: bool) -> Self {
        if content.iter().all(|&byte| byte == 0) {
            return Self::Zero;
        }
        if compress {
            let mut scratch = Secret::zeroed(const { get_maximum_output_size(PAGE_SIZE) });
            if let Ok(length @ ..=WORTH) = compress_into(content, &mut scratch) {
                return Self::Lz4(scratch[..length].into());
            }
        }
        Self::Plain(content.into())
    }

    /// How it is kept, and what is kept.
    pub fn parts(&self) -> (u16, &[u8]) {
        match self {
            Self::Zero => (Self::ZERO, &[]),
            Self::Plain(bytes) => (Self::PLAIN, bytes),
            Self::Lz4(bytes) => (Self::LZ4, bytes),
        }
    }

    /// The page that is kept so; `None` if that is no page.
    pub fn from_parts(kind: u16, bytes: Secret) -> Option<Self> {
        match (kind, bytes.len()) {
            (Self::ZERO, 0) => Some(Self::Zero),
            (Self::PLAIN, PAGE_SIZE) => Some(Self::Plain(bytes)),
            (Self::LZ4, ..=WORTH) => {
                let page = Self::Lz4(bytes);
                page.copy_to(&mut Secret::zeroed(PAGE_SIZE))?;
                Some(page)
            }
            _ => None,
        }
    }

    /// How much memory it takes, in bytes.
    pub fn cost(&self) -> u64 {
        let content = match self {
            Self::Zero => 0,
            Self::Plain(bytes) | Self::Lz4(bytes) => bytes.len() as u64,
        };
        OVERHEAD + content
    }

    /// Gives the content; `None` if it is damaged, which is the same as lost.
    pub fn copy_to(&self, content: &mut [u8]) -> Option<()> {
        match self {
            Self::Zero => content.fill(0),
            Self::Plain(bytes) => content.copy_from_slice(bytes),
            Self::Lz4(bytes) => {
                let length = decompress_into(bytes, content).ok()?;
                return (length == content.len()).then_some(());
            }
        }
        Some(())
    }
}

/// Without the content, which is nobody's business.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("Zero"),
            Self::Plain(_) => f.write_str("Plain(..)"),
            Self::Lz4(bytes) => write!(f, "Lz4({} bytes)", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(page: &Page) -> Vec<u8> {
        let mut content = vec![0xee; PAGE_SIZE];
        page.copy_to(&mut content).unwrap();
        content
    }

    /// No two runs of 4 bytes are the same, so LZ4 finds nothing.
    fn incompressible() -> Vec<u8> {
        let mut state = 1_u32;
        let random = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        random.take(PAGE_SIZE).collect()
    }

    #[test]
    fn each_content_is_kept_in_the_cheapest_way() {
        let text = b"compressible ".repeat(PAGE_SIZE)[..PAGE_SIZE].to_vec();
        let noise = incompressible();
        let zero = Page::new(&[0; PAGE_SIZE], false);
        assert!(matches!(zero, Page::Zero) && zero.cost() == OVERHEAD);
        let small = Page::new(&text, true);
        assert!(
            matches!(small, Page::Lz4(_)) && small.cost() < 512,
            "{small:?}"
        );
        for page in [Page::new(&text, false), Page::new(&noise, true)] {
            assert!(matches!(page, Page::Plain(_)) && page.cost() == OVERHEAD + 4096);
        }
        assert_eq!(back(&zero), [0; PAGE_SIZE]);
        assert_eq!(back(&small), text);
        assert_eq!(back(&Page::new(&noise, true)), noise);
    }

    #[test]
    fn damage_is_noticed() {
        let mut content = [0; PAGE_SIZE];
        let short = Page::Lz4(b"\x10x"[..].into());
        assert_eq!(short.copy_to(&mut content), None);
    }

    proptest! {
        #[test]
        fn pages_come_back(seed: [u8; 32], compress: bool) {
            let content = seed.repeat(PAGE_SIZE / 32);
            prop_assert_eq!(back(&Page::new(&content, compress)), content);
        }
    }
}
