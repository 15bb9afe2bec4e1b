// SPDX-License-Identifier: GPL-2.0

//! ESSA (extract and set storage attributes): what a page frame is to the hypervisor.
//!
//! The hypervisor keeps a usage state for each frame of its guest. The guest says what it uses a
//! frame for, and the hypervisor, when it is short of memory, knows what it need not keep:
//!
//! - the content of a *stable* frame has to be kept, as if there were no states;
//! - that of an *unused* frame does not matter, until the guest makes the frame stable again;
//! - that of a *volatile* frame the guest can do without, but has to learn of its loss: a frame
//!   that was *discarded* says so when it is asked, and an access to it ends in a program
//!   interruption (X'1A').
//!
//! The instruction exists under a hypervisor that has it, z/VM and KVM among them, unless it was
//! switched off by `cmma=off` on the kernel's command line: see [`Essa::get`].
//!
//! C header: [`arch/s390/include/asm/page-states.h`](srctree/arch/s390/include/asm/page-states.h)
//!
//! Reference: z/VM: CP Programming Services (SC24-6272), ESSA instruction.

use crate::{
    bindings,
    fmt,
    page::Pfn,
    prelude::*, //
};
use core::arch::asm;

/// How much of ESSA there is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Facility {
    /// Nothing: there is no such instruction, or it is not to be used.
    Missing,
    /// The instruction.
    Essa,
    /// The instruction, and frames can be marked as holding no DAT tables (facility 147).
    NoDat,
}

/// Returns how much of ESSA there is. It never changes.
///
/// # Context
///
/// Any. This loads one word.
#[doc(alias = "cmma_flag")]
#[inline]
pub fn facility() -> Facility {
    // SAFETY: Only the decompressor writes it, before this kernel runs. Volatile puts it into a
    // register, where one instruction compares it and returns.
    match unsafe { core::ptr::read_volatile(&raw const bindings::cmma_flag) } {
        0 => Facility::Missing,
        1 => Facility::Essa,
        _ => Facility::NoDat,
    }
}

/// What the guest uses a page frame for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// Its content is kept.
    Stable,
    /// Its content does not matter.
    Unused,
    /// As [`Usage::Volatile`] while nobody has written to it, as [`Usage::Stable`] afterwards.
    PotentiallyVolatile,
    /// Its content may be discarded.
    Volatile,
}

/// Where the hypervisor has the content of a page frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// In real memory.
    Resident,
    /// Elsewhere: it was paged out.
    Preserved,
    /// Nowhere: it reads as zero, or it was discarded.
    Zero,
}

/// The state of a page frame, as ESSA returns it: the low byte of its result.
///
/// # Examples
///
/// ```
/// use kernel::s390::essa::{
///     Content,
///     State,
///     Usage, //
/// };
///
/// let state = State::from_raw(0x0f);
/// assert_eq!(state.usage(), Usage::Volatile);
/// assert_eq!(state.content(), Content::Zero);
/// assert!(state.is_discarded());
/// assert!(!State::from_raw(0x07).is_discarded());
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct State(u8);

impl State {
    const NO_DAT: u8 = 0x20;
    const EXCEPTION: u8 = 0x10;
    const USAGE: u8 = 0x0c;
    const CONTENT: u8 = 0x03;

    /// Makes a state of its byte.
    #[inline]
    pub const fn from_raw(byte: u8) -> Self {
        Self(byte)
    }

    /// Returns what the guest uses the frame for.
    #[inline]
    pub const fn usage(self) -> Usage {
        match self.0 & Self::USAGE {
            0x00 => Usage::Stable,
            0x04 => Usage::Unused,
            0x08 => Usage::PotentiallyVolatile,
            _ => Usage::Volatile,
        }
    }

    /// Returns where the content is.
    #[inline]
    pub const fn content(self) -> Content {
        match self.0 & Self::CONTENT {
            0x02 => Content::Preserved,
            0x03 => Content::Zero,
            // X'01' is not assigned.
            _ => Content::Resident,
        }
    }

    /// Returns whether the frame was volatile, and its content is lost.
    #[inline]
    pub const fn is_discarded(self) -> bool {
        matches!(self.usage(), Usage::Volatile) && matches!(self.content(), Content::Zero)
    }

    /// Returns whether the frame is marked as holding no DAT tables.
    #[inline]
    pub const fn is_nodat(self) -> bool {
        self.0 & Self::NO_DAT != 0
    }

    /// Returns whether the hypervisor could not do what it was asked for: nothing happened.
    #[inline]
    pub const fn is_exception(self) -> bool {
        self.0 & Self::EXCEPTION != 0
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{:?}/{:?}", self.usage(), self.content()))?;
        if self.is_nodat() {
            f.write_str("/NoDat")?;
        }
        if self.is_exception() {
            f.write_str("/Exception")?;
        }
        Ok(())
    }
}

// The operation request codes, named as in the C header.
const GET_STATE: u8 = 0;
pub(super) const SET_STABLE: u8 = 1;
pub(super) const SET_UNUSED: u8 = 2;
const SET_VOLATILE: u8 = 3;
const SET_STABLE_IF_RESIDENT: u8 = 6;
pub(super) const SET_STABLE_NODAT: u8 = 7;

/// Executes ESSA. Returns the state before the operation.
///
/// # Safety
///
/// - ESSA exists, and knows the code `ORC`.
/// - If the operation lets the content of the frame get lost, nobody needs it.
#[inline(always)]
unsafe fn essa<const ORC: u8>(frame: Pfn) -> State {
    let result: u64;

    // SAFETY: By the safety requirements. That the compiler may not move accesses to memory across
    // it is what makes "stable before the first access" true.
    unsafe {
        asm!(
            ".insn rrf,0xb9ab0000,{result},{address},{orc},0",
            result = lateout(reg) result,
            address = in(reg) frame.phys(),
            orc = const ORC,
            options(nostack, preserves_flags),
        )
    };
    // CAST: The other bytes are not defined.
    State(result as u8)
}

/// The number of frames of a block.
///
/// `order` is one that the page allocator knows.
#[cfg(CONFIG_COOPMEM_PAGE_HINT)]
#[inline(always)]
pub(super) fn block_len(order: c_int) -> usize {
    // CAST: It is not negative.
    1_usize.wrapping_shl(order as u32)
}

/// Executes ESSA for each frame of a block of 2<sup>`order`</sup>.
///
/// For the page allocator: no stack frame, and three instructions a frame. `make check` looks at
/// them.
///
/// # Safety
///
/// As for [`essa`], for each of the frames.
#[cfg(CONFIG_COOPMEM_PAGE_HINT)]
#[inline(always)]
pub(super) unsafe fn for_block<const ORC: u8>(first: Pfn, order: c_int) {
    let mut frame = first;
    let mut left = block_len(order);

    // Counted down to zero, which is one instruction.
    while left != 0 {
        // SAFETY: By the safety requirements.
        unsafe { essa::<ORC>(frame) };
        frame = frame.next();
        left -= 1;
    }
}

/// Proof that there is ESSA, and the operations that it has.
///
/// # Context
///
/// All operations can be used in any context, with interrupts disabled, too. Each changes one
/// frame, and does so in one step: another CPU sees the state before or that after. On the
/// machine they take some hundred cycles as long as the hypervisor need not be called.
///
/// All of them return the state *before* the operation. A frame number for which the machine has
/// no memory ends in an addressing exception, of which the kernel dies.
///
/// # Examples
///
/// ```
/// use kernel::{
///     page::PageBatch,
///     s390::essa::{
///         Essa,
///         Usage, //
///     }, //
/// };
///
/// let mut batch = PageBatch::with_capacity(1, GFP_KERNEL)?;
/// batch.alloc_bulk(GFP_KERNEL, 1);
///
/// if let Some(essa) = Essa::get() {
///     // A page that is allocated is stable.
///     for run in batch.ranges() {
///         assert_eq!(essa.state(run.first()).usage(), Usage::Stable);
///     }
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Essa(());

impl Essa {
    /// Returns the proof, if there is ESSA.
    #[inline]
    pub fn get() -> Option<Self> {
        (facility() != Facility::Missing).then_some(Self(()))
    }

    /// Returns the state of a frame.
    ///
    /// It may have changed when this returns: a volatile frame may be discarded at any time.
    #[inline]
    pub fn state(self, frame: Pfn) -> State {
        // SAFETY: `self` proves that there is ESSA. This operation changes nothing.
        unsafe { essa::<GET_STATE>(frame) }
    }

    /// Makes a frame stable, whatever it was, and marks it as holding no DAT tables where that is
    /// known.
    ///
    /// # Safety
    ///
    /// The frame is the caller's, who does not need the content that it has if it is not stable,
    /// and it holds no DAT tables.
    #[doc(alias = "__arch_set_page_nodat")]
    #[inline]
    pub unsafe fn set_stable(self, frame: Pfn) -> State {
        if facility() < Facility::NoDat {
            // SAFETY: `self` proves that there is ESSA, and by the safety requirements.
            unsafe { essa::<SET_STABLE>(frame) }
        } else {
            // SAFETY: As above; the facility knows this code.
            unsafe { essa::<SET_STABLE_NODAT>(frame) }
        }
    }

    /// Makes a frame stable, whatever it was. It may hold DAT tables.
    ///
    /// A content that the hypervisor has is kept; one that it has not reads as zero.
    #[doc(alias = "__set_page_stable_dat")]
    #[inline]
    pub fn set_stable_dat(self, frame: Pfn) -> State {
        // SAFETY: `self` proves that there is ESSA. This operation lets no content get lost.
        unsafe { essa::<SET_STABLE>(frame) }
    }

    /// Makes a frame stable unless it was discarded.
    ///
    /// If the returned state [`is_discarded`], the frame still is: its content is lost, and it must
    /// not be touched before it is made stable with [`Self::set_stable`]. Otherwise the frame is
    /// stable and has the content that it always had.
    ///
    /// [`is_discarded`]: State::is_discarded
    #[inline]
    pub fn set_stable_if_present(self, frame: Pfn) -> State {
        // SAFETY: `self` proves that there is ESSA. This operation lets no content get lost.
        unsafe { essa::<SET_STABLE_IF_RESIDENT>(frame) }
    }

    /// Makes a frame unused.
    ///
    /// # Safety
    ///
    /// Nobody accesses the frame, nor needs its content, until it is made stable again.
    #[inline]
    pub unsafe fn set_unused(self, frame: Pfn) -> State {
        // SAFETY: `self` proves that there is ESSA, and by the safety requirements.
        unsafe { essa::<SET_UNUSED>(frame) }
    }

    /// Makes a frame volatile.
    ///
    /// # Safety
    ///
    /// Until [`Self::set_stable_if_present`] has said that the content is still there, or
    /// [`Self::set_stable`] that it does not matter, nobody accesses the frame.
    #[inline]
    pub unsafe fn set_volatile(self, frame: Pfn) -> State {
        // SAFETY: `self` proves that there is ESSA, and by the safety requirements.
        unsafe { essa::<SET_VOLATILE>(frame) }
    }
}

#[cfg(CONFIG_RUST_S390_KUNIT_TEST)]
#[macros::kunit_tests(rust_s390_essa)]
mod tests {
    use super::*;
    use crate::page::PageBatch;

    #[test]
    fn a_state_is_what_its_byte_says() {
        use Content::*;
        use Usage::*;

        for (usage_bits, usage) in [
            (0x00, Stable),
            (0x04, Unused),
            (0x08, PotentiallyVolatile),
            (0x0c, Volatile),
        ] {
            for (content_bits, content) in [(0x00, Resident), (0x02, Preserved), (0x03, Zero)] {
                // Bits beside the two fields do not touch them.
                for other in [0x00, 0x10, 0x20, 0xf0] {
                    let state = State::from_raw(usage_bits | content_bits | other);
                    assert_eq!((state.usage(), state.content()), (usage, content));
                    assert_eq!(state.is_discarded(), (usage, content) == (Volatile, Zero));
                    assert_eq!(state.is_exception(), other & 0x10 != 0);
                    assert_eq!(state.is_nodat(), other & 0x20 != 0);
                }
            }
        }
    }

    /// Runs `test` with ESSA and the frames of some pages of its own, which are stable before and
    /// after; does nothing where there is no ESSA.
    fn with_frames(test: impl Fn(Essa, Pfn)) -> Result {
        let Some(essa) = Essa::get() else {
            return Ok(());
        };
        let mut batch = PageBatch::with_capacity(8, GFP_KERNEL)?;
        assert_eq!(batch.alloc_bulk(GFP_KERNEL, 8), 8);
        for frame in batch.ranges().flat_map(|run| run.range().pfns()) {
            assert_eq!(essa.state(frame).usage(), Usage::Stable);
            test(essa, frame);
            // SAFETY: The frame belongs to the batch, which does not need its content.
            unsafe { essa.set_stable(frame) };
            assert_eq!(essa.state(frame).usage(), Usage::Stable);
        }
        Ok(())
    }

    #[test]
    fn a_frame_is_what_it_was_made() -> Result {
        with_frames(|essa, frame| {
            // SAFETY: The frame belongs to the batch, which neither touches nor needs its content.
            let before = unsafe {
                [
                    essa.set_unused(frame),
                    essa.set_stable(frame),
                    essa.set_volatile(frame),
                ]
            };
            assert_eq!(
                before.map(|state| state.usage()),
                [Usage::Stable, Usage::Unused, Usage::Stable]
            );
            assert_eq!(essa.state(frame).usage(), Usage::Volatile);
        })
    }

    /// Whether or not the hypervisor has taken the frame meanwhile.
    #[test]
    fn a_volatile_frame_is_there_or_discarded() -> Result {
        with_frames(|essa, frame| {
            // SAFETY: The frame belongs to the batch, which neither touches nor needs its content.
            unsafe { essa.set_volatile(frame) };
            let before = essa.set_stable_if_present(frame);
            let after = essa.state(frame);
            assert_eq!(before.usage(), Usage::Volatile);
            assert_eq!(after.is_discarded(), before.is_discarded());
            assert_eq!((after.usage() == Usage::Stable), !before.is_discarded());
        })
    }

    #[test]
    fn a_stable_frame_holds_no_dat_tables_where_that_is_known() -> Result {
        with_frames(|essa, frame| {
            assert_eq!(essa.state(frame).is_nodat(), facility() == Facility::NoDat);
        })
    }
}
