// SPDX-License-Identifier: GPL-2.0

//! What the page allocator tells the hypervisor: which page frames are free.
//!
//! A free frame is made *unused* with ESSA, and *stable* again before it is used. This takes the
//! place of [`arch/s390/mm/page-states.c`](srctree/arch/s390/mm/page-states.c). When a free frame
//! is made unused the parameter `page_hint.unused` of the kernel says:
//!
//! - `classic`: when it is freed. Each time a frame is freed or allocated, there is one ESSA.
//! - `lazy`: when it has been free for a while, see [`report`]. A bitmap remembers which frames
//!   are, and when a frame is allocated its bit is tested: most frames that a busy system allocates
//!   have just been freed, and there is no ESSA at all.
//!
//! # Invariants
//!
//! In lazy mode, a frame that is not allocated, and is unused for the hypervisor, has its bit set.
//! The bit of a frame is changed only by its owner: who allocates the frame, who frees it, or who
//! has taken it off the free lists while it is free.
//!
//! C header: [`arch/s390/include/asm/page-states.h`](srctree/arch/s390/include/asm/page-states.h)

use super::essa::{
    self,
    block_len,
    Essa,
    Facility, //
};
use crate::{
    bindings,
    error::from_result,
    mm,
    module_param::KernelParam,
    page::{
        pfn_of,
        Pfn,
        PfnRange, //
    },
    page_reporting::FreeBlock,
    prelude::*,
    str::CStr,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SetOnce, //
    }, //
};

/// How much there is of ESSA. Only the decompressor writes it, before this kernel runs, as the
/// machine and the parameter `cmma` say; [`essa::facility`] reads it.
#[no_mangle]
#[link_section = ".boot.preserved.data.cmma_flag"]
// What nobody can write the compiler would take for 0.
static mut cmma_flag: c_int = 0;

/// Whether free frames become unused later, not when they are freed.
///
/// Set before the first frame is freed, when the kernel's parameters are parsed. It can be cleared
/// as long as no frame has been marked.
static LAZY: Atomic<bool> = Atomic::new(false);

/// Whether free frames have a content that matters: a pattern that is looked for when they are
/// allocated. So none becomes unused, which is lazy mode without ever a [`report`].
static POISONED: Atomic<bool> = Atomic::new(false);

/// Which frames have to be made stable when they are allocated, in lazy mode.
static UNUSED: SetOnce<Bits> = SetOnce::new();

/// Tells the hypervisor that the content of 2<sup>`order`</sup> frames does not matter any more.
///
/// # Safety
///
/// `page` is the first of a block of that order, which is being freed.
#[export]
pub unsafe extern "C" fn arch_free_page(page: *mut bindings::page, order: c_int) {
    if essa::facility() == Facility::Missing {
        return;
    }
    if LAZY.load(Relaxed) {
        return;
    }
    // SAFETY: There is ESSA. The frames are being freed: nobody uses their content until
    // `arch_alloc_page` has made them stable.
    unsafe { essa::for_block::<{ essa::SET_UNUSED }>(pfn_of(page), order) }
}

/// Tells the hypervisor that the content of 2<sup>`order`</sup> frames matters from now on.
///
/// # Safety
///
/// `page` is the first of a block of that order, which is being allocated.
#[export]
pub unsafe extern "C" fn arch_alloc_page(page: *mut bindings::page, order: c_int) {
    let facility = essa::facility();
    if facility == Facility::Missing {
        return;
    }
    if LAZY.load(Relaxed) {
        // SAFETY: There is ESSA, and by the safety requirements.
        unsafe { allocate_lazily(pfn_of(page), order) };
        return;
    }
    // SAFETY: There is ESSA, with that code. The frames are being allocated: nobody has put
    // anything into them yet.
    unsafe {
        if facility < Facility::NoDat {
            essa::for_block::<{ essa::SET_STABLE }>(pfn_of(page), order);
        } else {
            essa::for_block::<{ essa::SET_STABLE_NODAT }>(pfn_of(page), order);
        }
    }
}

/// Makes those frames of a block stable that are unused.
///
/// # Safety
///
/// There is ESSA. `first` is the first of a block of that order, which is being allocated.
// Not inlined, and neither is what it calls if there is something to do: so none of the hooks needs
// a stack frame when there is nothing.
#[inline(never)]
unsafe fn allocate_lazily(first: Pfn, order: c_int) {
    if let Some(bits) = UNUSED.as_ref() {
        if bits.may_have(first, order) {
            // SAFETY: By the safety requirements.
            unsafe { make_stable(bits, first, order) };
        }
    }
}

/// Makes those frames of a block stable that are unused.
///
/// # Safety
///
/// As for [`allocate_lazily`].
#[inline(never)]
unsafe fn make_stable(bits: &Bits, first: Pfn, order: c_int) {
    if let (Some(essa), Some(run)) = (Essa::get(), PfnRange::new(first, block_len(order))) {
        // SAFETY: Nobody has put anything into the frames yet.
        bits.clear(run, |frame| unsafe {
            essa.set_stable(frame);
        });
    }
}

/// A bit for each page frame.
///
/// Frames beyond the last one have none, and are left alone.
struct Bits(KVVec<Atomic<usize>>);

impl Bits {
    /// The number of bits in a word.
    const WORD: usize = usize::BITS as usize;

    /// Makes a bit for each of `frames` frames, all of them 0.
    fn new(frames: usize) -> Result<Self> {
        let len = frames.div_ceil(Self::WORD);
        let mut words = KVVec::with_capacity(len, GFP_KERNEL)?;
        for _ in 0..len {
            words.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self(words))
    }

    /// The words that have bits of `run`, each with the frame of its lowest bit, and a mask of
    /// those that are of `run`.
    #[inline]
    fn words(&self, run: PfnRange) -> impl Iterator<Item = (&Atomic<usize>, Pfn, usize)> {
        let (first, last) = (run.first().as_usize(), run.last().as_usize());
        let (first_word, last_word) = (first / Self::WORD, last / Self::WORD);

        (first_word..=last_word).map_while(move |nr| {
            let mut mask = usize::MAX;
            if nr == first_word {
                mask &= usize::MAX << (first % Self::WORD);
            }
            if nr == last_word {
                mask &= usize::MAX >> (Self::WORD - 1 - last % Self::WORD);
            }
            Some((self.0.get(nr)?, Pfn::new(nr * Self::WORD), mask))
        })
    }

    /// Returns whether any bit of a block can be 1. It says yes for blocks that are larger than a
    /// word.
    #[inline]
    fn may_have(&self, first: Pfn, order: c_int) -> bool {
        let (word, bit) = (first.as_usize() / Self::WORD, first.as_usize() % Self::WORD);

        match Self::WORD.checked_sub(block_len(order)) {
            Some(beside) if bit <= beside => self
                .0
                .get(word)
                .is_some_and(|word| word.load(Relaxed) >> bit & usize::MAX >> beside != 0),
            _ => true,
        }
    }

    /// Sets the bits of all frames of `run`, after `each` was called for those that were 0.
    fn set(&self, run: PfnRange, mut each: impl FnMut(Pfn)) {
        for (word, base, mask) in self.words(run) {
            let zeros = !word.load(Relaxed) & mask;
            for_ones(base, zeros, &mut each);
            // Others change the bits beside these at the same time. Nobody changes these, so adding
            // them sets them.
            word.add(zeros, Relaxed);
        }
    }

    /// Clears the bits of all frames of `run`, after `each` was called for those that were 1.
    fn clear(&self, run: PfnRange, mut each: impl FnMut(Pfn)) {
        for (word, base, mask) in self.words(run) {
            let ones = word.load(Relaxed) & mask;
            for_ones(base, ones, &mut each);
            // As above.
            word.fetch_sub(ones, Relaxed);
        }
    }
}

/// Calls `each` for the frame of each 1 in `bits`, the lowest of which is that of `base`.
#[inline]
fn for_ones(base: Pfn, mut bits: usize, each: &mut impl FnMut(Pfn)) {
    while bits != 0 {
        // The lowest bits of the number of the lowest frame are 0.
        each(Pfn::new(base.as_usize() | bits.trailing_zeros() as usize));
        bits &= bits - 1;
    }
}

/// Returns whether free frames become unused later, not when they are freed.
///
/// It is so from the start, if the kernel was told so, and changes at most once: [`be_classic`].
pub fn is_lazy() -> bool {
    LAZY.load(Relaxed)
}

/// Returns whether free frames have a pattern that must not get lost (`page_poison`): none may
/// become unused.
pub fn is_poisoned() -> bool {
    POISONED.load(Relaxed)
}

/// Prepares for [`report`], in lazy mode.
///
/// # Errors
///
/// `ENOMEM` if there is no memory for the bitmap; `EBUSY` if there is one already, or it was
/// decided that there is to be none. Nothing has changed then.
///
/// # Context
///
/// May sleep.
pub fn start_lazy() -> Result {
    // Memory that goes online later is below, too.
    let bits = Bits::new(mm::end_of_frames().as_usize())?;

    UNUSED.populate(bits).then_some(()).ok_or(EBUSY)
}

/// Goes back to making each frame unused when it is freed.
///
/// Frames that have been freed before remain stable until they are freed again.
///
/// # Errors
///
/// `EBUSY` if [`start_lazy`] has succeeded: it is too late, there can be frames that are unused.
pub fn be_classic() -> Result {
    // A bitmap without bits: from now on no frame can become unused lazily.
    if !UNUSED.populate(Bits::new(0)?) {
        return Err(EBUSY);
    }
    // Who allocates a frame sees this if the one who freed it has.
    LAZY.store(false, Relaxed);
    Ok(())
}

/// Tells the hypervisor that the content of free frames does not matter.
///
/// # Errors
///
/// `EAGAIN` before [`start_lazy`] has succeeded: nothing has happened.
///
/// # Context
///
/// Any. One ESSA for each frame that is not unused yet.
pub fn report(block: &FreeBlock<'_>) -> Result {
    let (Some(bits), Some(essa)) = (UNUSED.as_ref(), Essa::get()) else {
        return Err(EAGAIN);
    };
    // SAFETY: Nobody uses the frames of a free block. Whoever will gets them from the page
    // allocator, and `arch_alloc_page` makes them stable, since their bits are set.
    bits.set(block.frames(), |frame| unsafe {
        essa.set_unused(frame);
    });
    Ok(())
}

/// A parameter of the kernel that is parsed before the first frame is freed.
const fn param(
    name: &'static CStr,
    perm: u16,
    ops: &'static bindings::kernel_param_ops,
) -> KernelParam {
    KernelParam::new(bindings::kernel_param {
        name: crate::str::as_char_ptr_in_const_context(name),
        mod_: core::ptr::null_mut(),
        ops,
        perm,
        level: -1,
        flags: 0,
        __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
            arg: core::ptr::null_mut(),
        },
    })
}

/// The parameter `page_hint.unused`.
///
/// Not one of the module, which is initialised long after the first page has been freed.
#[link_section = "__param"]
#[used(compiler)]
static PARAM: KernelParam = param(c"page_hint.unused", 0o444, &PARAM_OPS);

/// The parameter `page_poison`, which mm has read before this.
#[cfg(CONFIG_PAGE_POISONING)]
#[link_section = "__param"]
#[used(compiler)]
static POISON_PARAM: KernelParam = param(c"page_poison", 0, &POISON_PARAM_OPS);

#[cfg(CONFIG_PAGE_POISONING)]
static POISON_PARAM_OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
    flags: 0,
    set: Some(set_poison_param),
    get: None,
    free: None,
};

/// # Safety
///
/// `value` is a string. Called before the first frame is freed.
#[cfg(CONFIG_PAGE_POISONING)]
unsafe extern "C" fn set_poison_param(
    value: *const c_char,
    _param: *const bindings::kernel_param,
) -> c_int {
    // SAFETY: By the safety requirements.
    let value = unsafe { CStr::from_char_ptr(value) };

    from_result(|| {
        if crate::str::kstrtobool(value)? {
            POISONED.store(true, Relaxed);
            LAZY.store(true, Relaxed);
        }
        Ok(0)
    })
}

static PARAM_OPS: bindings::kernel_param_ops = bindings::kernel_param_ops {
    flags: 0,
    set: Some(set_param),
    get: Some(get_param),
    free: None,
};

/// The values of the parameter, and whether they mean lazy mode.
const PARAM_VALUES: [(&CStr, bool); 2] = [(c"classic", false), (c"lazy", true)];

/// # Safety
///
/// `value` is a string. Called before the first frame is freed.
unsafe extern "C" fn set_param(
    value: *const c_char,
    _param: *const bindings::kernel_param,
) -> c_int {
    // SAFETY: By the safety requirements; it has a value as `PARAM_OPS` does not say that it need
    // not have one.
    let value = unsafe { CStr::from_char_ptr(value) };
    let known = PARAM_VALUES.iter().find(|(name, _)| *name == value);

    from_result(|| {
        let (_, lazy) = known.ok_or(EINVAL)?;
        LAZY.store(*lazy || is_poisoned(), Relaxed);
        Ok(0)
    })
}

/// # Safety
///
/// `buffer` has room for a page.
unsafe extern "C" fn get_param(
    buffer: *mut c_char,
    _param: *const bindings::kernel_param,
) -> c_int {
    let name = match (is_poisoned(), is_lazy()) {
        (true, _) => c"none\n",
        (false, true) => c"lazy\n",
        (false, false) => c"classic\n",
    };

    // SAFETY: The strings are far shorter than a page.
    unsafe { bindings::sysfs_emit(buffer, name.as_char_ptr()) }
}

#[cfg(CONFIG_RUST_S390_KUNIT_TEST)]
#[macros::kunit_tests(rust_s390_page_states)]
mod tests {
    use super::*;

    fn run(first: usize, len: usize) -> Result<PfnRange> {
        PfnRange::new(Pfn::new(first), len).ok_or(EINVAL)
    }

    /// Runs `change`, which shall call its argument once for each frame of `expected`, in order.
    fn calls_for(expected: impl Iterator<Item = usize>, change: impl FnOnce(&mut dyn FnMut(Pfn))) {
        let mut expected = expected;
        change(&mut |frame| assert_eq!(expected.next(), Some(frame.as_usize())));
        assert_eq!(expected.next(), None);
    }

    /// The number of 1s in a run.
    fn ones(bits: &Bits, run: PfnRange) -> u32 {
        let words = bits.words(run);
        words
            .map(|(word, _, mask)| (word.load(Relaxed) & mask).count_ones())
            .sum()
    }

    /// Within a word, up to its ends, and across words: only the bits of the run change.
    #[test]
    fn bits_are_those_of_the_run() -> Result {
        let all = run(0, 256)?;

        for (first, len) in [
            (0, 1),
            (63, 1),
            (0, 64),
            (64, 1),
            (60, 8),
            (1, 62),
            (5, 200),
        ] {
            let bits = Bits::new(256)?;
            let run = run(first, len)?;

            calls_for(first..first + len, |each| bits.set(run, each));
            assert_eq!(ones(&bits, run) as usize, len);
            assert_eq!(ones(&bits, all) as usize, len);
            // Once more: nothing is to be done.
            calls_for(0..0, |each| bits.set(run, each));
            assert_eq!(ones(&bits, all) as usize, len);

            calls_for(first..first + len, |each| bits.clear(run, each));
            assert_eq!(ones(&bits, all), 0);
            calls_for(0..0, |each| bits.clear(run, each));
        }
        Ok(())
    }

    /// A block that is allocated need not be one that was marked.
    #[test]
    fn runs_may_overlap() -> Result {
        let bits = Bits::new(256)?;
        let (part, most) = (run(28, 64)?, run(12, 78)?);
        bits.set(run(10, 20)?, |_| ());
        bits.set(run(90, 60)?, |_| ());

        calls_for(Iterator::chain(28..30, 90..92), |each| {
            bits.clear(part, each)
        });
        assert_eq!(ones(&bits, part), 0);
        calls_for(28..90, |each| bits.set(most, each));
        assert_eq!(ones(&bits, run(0, 256)?), 80 + 58);
        Ok(())
    }

    /// The short way says no only if there is nothing to do.
    #[test]
    fn a_single_bit_is_found() -> Result {
        let bits = Bits::new(256)?;
        let marked = 101;
        bits.set(Pfn::new(marked).into(), |_| ());

        for order in 0..=5 {
            for first in (0..256).step_by(block_len(order)) {
                let is_in = (first..first + block_len(order)).contains(&marked);
                assert_eq!(bits.may_have(Pfn::new(first), order), is_in);
            }
        }
        // A word is just not too long.
        assert!(bits.may_have(Pfn::new(64), 6));
        assert!(!bits.may_have(Pfn::new(128), 6));
        for first in [0, 128] {
            assert!(bits.may_have(Pfn::new(first), 7));
        }
        Ok(())
    }

    /// Frames without a bit are never unused.
    #[test]
    fn there_may_be_frames_beyond() -> Result {
        let bits = Bits::new(128)?;
        let beyond = run(120, 64)?;

        calls_for(120..128, |each| bits.set(beyond, each));
        assert!(!bits.may_have(Pfn::new(128), 6));
        assert_eq!(ones(&Bits::new(0)?, beyond), 0);
        Ok(())
    }
}
