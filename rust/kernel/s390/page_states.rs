// SPDX-License-Identifier: GPL-2.0

//! What the page allocator tells the hypervisor: which page frames are free.
//!
//! A free frame is made *unused* with ESSA, and *stable* again before it is used. This takes the
//! place of [`arch/s390/mm/page-states.c`](srctree/arch/s390/mm/page-states.c). When a free frame
//! is made unused the parameter `page_hint.unused` of the kernel says:
//!
//! - `classic`: when it is freed. Each time a frame is freed or allocated, there is one ESSA.
//! - `lazy`: when it has been free for a while, as [`mark_unused`] is told by who knows that. A
//!   bitmap remembers which frames are, and when a frame is allocated its bit is tested: most
//!   frames that a busy system allocates have just been freed, and there is no ESSA at all.
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
    Essa,
    Facility, //
};
use crate::{
    bindings,
    error::from_result,
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
// Not inlined: it needs a stack frame.
#[inline(never)]
unsafe fn allocate_lazily(first: Pfn, order: c_int) {
    if let (Some(essa), Some(bits), Some(run)) = (
        Essa::get(),
        UNUSED.as_ref(),
        // CAST: It is not negative.
        PfnRange::new(first, 1_usize.wrapping_shl(order as u32)),
    ) {
        // SAFETY: Nobody has put anything into the frames yet.
        bits.clear(run, |frame| unsafe {
            essa.set_stable(frame);
        });
    }
}

/// A bit for each page frame. There can be frames beyond them, whose bits are 0 forever.
struct Bits(KVVec<Atomic<usize>>);

impl Bits {
    /// Makes a bit for each frame that there is and can be, all of them 0.
    fn new() -> Result<Self> {
        // SAFETY: A plain number. It includes memory that may go online later.
        let frames = unsafe { bindings::max_pfn };
        let len = frames.div_ceil(BITS_PER_WORD);
        let mut words = KVVec::with_capacity(len, GFP_KERNEL)?;
        for _ in 0..len {
            words.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self(words))
    }

    /// The words that have bits of `run`, each with the frame of its lowest bit, and which of its
    /// bits are of `run`.
    fn words(&self, run: PfnRange) -> impl Iterator<Item = (&Atomic<usize>, Pfn, usize)> {
        let (first, last) = (run.first().as_usize(), run.last().as_usize());

        (first / BITS_PER_WORD..=last / BITS_PER_WORD).map_while(move |nr| {
            let base = nr * BITS_PER_WORD;
            let from = usize::MAX << first.saturating_sub(base);
            let to = usize::MAX >> (BITS_PER_WORD - 1).saturating_sub(last - base);
            Some((self.0.get(nr)?, Pfn::new(base), from & to))
        })
    }

    /// Sets the bits of all frames of `run`, after `each` was called for those that were 0.
    fn set(&self, run: PfnRange, mut each: impl FnMut(Pfn)) {
        for (word, base, of_run) in self.words(run) {
            let zeros = !word.load(Relaxed) & of_run;
            for_ones(base, zeros, &mut each);
            // Bits beside them belong to others, who change them at the same time. These do not
            // change, so that adding is setting.
            word.add(zeros, Relaxed);
        }
    }

    /// Clears the bits of all frames of `run`, after `each` was called for those that were 1.
    fn clear(&self, run: PfnRange, mut each: impl FnMut(Pfn)) {
        for (word, base, of_run) in self.words(run) {
            let ones = word.load(Relaxed) & of_run;
            if ones != 0 {
                for_ones(base, ones, &mut each);
                // As above.
                word.fetch_sub(ones, Relaxed);
            }
        }
    }
}

const BITS_PER_WORD: usize = usize::BITS as usize;

/// Calls `each` for the frame of each 1 in `bits`, the lowest of which is that of `base`.
fn for_ones(base: Pfn, mut bits: usize, each: &mut impl FnMut(Pfn)) {
    while bits != 0 {
        each(Pfn::new(base.as_usize() + bits.trailing_zeros() as usize));
        bits &= bits - 1;
    }
}

/// Returns whether free frames become unused later, not when they are freed.
///
/// It is so from the start, if the kernel was told so, and changes at most once: [`be_classic`].
pub fn is_lazy() -> bool {
    LAZY.load(Relaxed)
}

/// Prepares for [`mark_unused`], in lazy mode.
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
    UNUSED.populate(Bits::new()?).then_some(()).ok_or(EBUSY)
}

/// Goes back to making each frame unused when it is freed.
///
/// Frames that have been freed before remain stable until they are freed again.
///
/// # Errors
///
/// `EBUSY` if [`start_lazy`] has succeeded: it is too late, there can be frames that are unused.
pub fn be_classic() -> Result {
    // No bit can be set in an empty bitmap, now or ever.
    if !UNUSED.populate(Bits(KVVec::new())) {
        return Err(EBUSY);
    }
    // Who allocates a frame sees this if the one who freed it has.
    LAZY.store(false, Relaxed);
    Ok(())
}

/// Tells the hypervisor that the content of free frames does not matter.
///
/// Does nothing in classic mode, where that was said when they were freed.
///
/// # Context
///
/// Any. One ESSA for each frame that is not unused yet.
pub fn report(block: &FreeBlock<'_>) {
    // SAFETY: By its invariant, nobody uses the frames of the block, and whoever will gets them
    // from the page allocator, which calls `arch_alloc_page`.
    unsafe { mark_unused(block.frames()) }
}

/// Tells the hypervisor that the content of frames does not matter until they are allocated.
///
/// In lazy mode the frames are unused or stable afterwards, whatever they were, as those of a free
/// frame have to be. Does nothing in classic mode, where the page allocator makes them unused when
/// they are freed, nor without ESSA.
///
/// # Safety
///
/// The frames are free, or being freed, and are the caller's alone until this returns; after that
/// nobody accesses them before the page allocator has allocated them.
///
/// # Context
///
/// Any. One ESSA for each frame whose bit is not set yet.
pub unsafe fn mark_unused(run: PfnRange) {
    if let (true, Some(essa), Some(bits)) = (is_lazy(), Essa::get(), UNUSED.as_ref()) {
        // SAFETY: By the safety requirements, and `arch_alloc_page` will make it stable, since its
        // bit is set.
        bits.set(run, |frame| unsafe {
            essa.set_unused(frame);
        });
    }
}

/// The parameter `page_hint.unused`.
///
/// Not one of the module, which is initialised long after the first page has been freed.
#[link_section = "__param"]
#[used(compiler)]
static PARAM: KernelParam = KernelParam::new(bindings::kernel_param {
    name: crate::str::as_char_ptr_in_const_context(c"page_hint.unused"),
    mod_: core::ptr::null_mut(),
    ops: &PARAM_OPS,
    perm: 0o444,
    level: -1,
    flags: 0,
    __bindgen_anon_1: bindings::kernel_param__bindgen_ty_1 {
        arg: core::ptr::null_mut(),
    },
});

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
        LAZY.store(*lazy, Relaxed);
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
    let name = if is_lazy() { c"lazy\n" } else { c"classic\n" };

    // SAFETY: Both strings are far shorter than a page.
    unsafe { bindings::sysfs_emit(buffer, name.as_char_ptr()) }
}
