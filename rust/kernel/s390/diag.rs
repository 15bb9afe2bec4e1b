// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE: calls to the hypervisor.
//!
//! Each call counts in `/sys/kernel/debug/diag_stat`.
//!
//! C header: [`arch/s390/include/asm/diag.h`](srctree/arch/s390/include/asm/diag.h)
//!
//! Reference: z/VM: CP Programming Services (SC24-6272), DIAGNOSE instructions.

use crate::{
    bindings,
    error::to_result,
    page::UnusedPages,
    prelude::*, //
};

/// Releases the storage behind page frames: DIAGNOSE X'10'.
///
/// The hypervisor takes it away at once. The contents are lost; when a frame is touched again it
/// gets new storage, and reads as zero.
///
/// One call for the whole run, however long.
///
/// # Errors
///
/// `EOPNOTSUPP` if the hypervisor, or the machine if there is none, answers with a program
/// interruption: it does not know the code. Nothing happened then.
///
/// # Context
///
/// Any. The hypervisor may take long over a long run, and other CPUs go on meanwhile.
///
/// # Examples
///
/// ```
/// use kernel::{
///     page::PageBatch,
///     s390::diag, //
/// };
///
/// let mut batch = PageBatch::with_capacity(8, GFP_KERNEL)?;
/// batch.alloc_bulk(GFP_KERNEL, 8);
/// batch.sort();
/// for run in batch.ranges() {
///     match diag::release_pages(run) {
///         Ok(()) => pr_info!("{} released\n", run.range()),
///         Err(error) => assert_eq!(error, EOPNOTSUPP),
///     }
/// }
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "diag10_range")]
// Not inlined: one exception table entry, that of the kernel, is enough.
#[inline(never)]
pub fn release_pages(pages: UnusedPages<'_>) -> Result {
    // CAST: A frame number always fits into an unsigned long.
    let (first, last) = (
        pages.first().as_usize() as c_ulong,
        pages.last().as_usize() as c_ulong,
    );
    // SAFETY: By the type invariant of `UnusedPages`, nobody uses the contents of these frames. A
    // program interruption is turned into an error.
    to_result(unsafe { bindings::diag10_release(first, last) })
}

#[cfg(CONFIG_RUST_S390_KUNIT_TEST)]
#[macros::kunit_tests(rust_s390_diag)]
mod tests {
    use super::*;
    use crate::page::{
        pfn_of,
        Page,
        PageBatch, //
    };

    /// Whether or not there is a hypervisor that knows the code, the kernel survives the call, and
    /// the answer is always the same.
    #[test]
    fn release_is_done_or_refused() -> Result {
        let mut batch = PageBatch::with_capacity(64, GFP_KERNEL)?;
        let answer = release_pages(batch.alloc_block(GFP_KERNEL, 4)?);
        assert!(answer.is_ok() || answer == Err(EOPNOTSUPP));

        let room = batch.room();
        batch.alloc_bulk(GFP_KERNEL, room);
        batch.sort();
        for run in batch.ranges() {
            assert_eq!(release_pages(run), answer);
        }
        // Once more: there is no storage behind them any more.
        for run in batch.ranges() {
            assert_eq!(release_pages(run), answer);
        }
        Ok(())
    }

    /// A release tells the truth: pages that were released read as zero, others as they were.
    #[test]
    fn released_pages_read_as_zero() -> Result {
        let before = [0xa5; 16];

        let page = Page::alloc_page(GFP_KERNEL)?;
        // SAFETY: Nobody else knows of the page.
        unsafe { page.write_raw(before.as_ptr(), 0, before.len())? };
        let range = pfn_of(page.as_ptr()).into();
        // SAFETY: Nobody else knows of the page, and we do not look into it meanwhile.
        let answer = release_pages(unsafe { UnusedPages::new(range) });

        let mut after = [0x5a; 16];
        // SAFETY: As above.
        unsafe { page.read_raw(after.as_mut_ptr(), 0, after.len())? };
        assert_eq!(after, if answer.is_ok() { [0; 16] } else { before });
        Ok(())
    }
}
