// SPDX-License-Identifier: GPL-2.0

//! The counters of a guest: a page that its library writes and that `cpd` reads, both without asking the other.
//!
//! The page is an array of native-endian 64-bit words, at the indexes of [`Counter`]. A counter is written with one
//! aligned 64-bit store, so that a reader never sees half of it.

use std::sync::atomic::{AtomicU64, Ordering};

use cp_core::page_state::Operation;

/// The size of the memfd, in bytes.
pub const COUNTERS_BYTES: usize = 4096;

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is counted. The discriminant is the index in the page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter { $($(#[$doc])* $variant,)* }

        impl Counter {
            /// All of them, in the order of the page.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name by which `cpctl counters` shows it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// DIAGNOSE X'08' executed.
    Diag8Calls = "diag08_calls",
    /// DIAGNOSE X'0C' executed.
    Diag0cCalls = "diag0c_calls",
    /// DIAGNOSE X'10' executed, whatever its outcome.
    Diag10Calls = "diag10_calls",
    /// Pages given back to the host by DIAGNOSE X'10'.
    PagesReleased = "pages_released",
    /// DIAGNOSE X'10' that ended in a program interruption.
    Diag10Errors = "diag10_errors",
    /// DIAGNOSE X'64' executed.
    Diag64Calls = "diag64_calls",
    /// DIAGNOSE X'DC' executed.
    DiagDcCalls = "diagdc_calls",
    /// DIAGNOSE X'1F4' executed.
    Diag1f4Calls = "diag1f4_calls",
    /// DIAGNOSE X'204' executed.
    Diag204Calls = "diag204_calls",
    /// DIAGNOSE X'2FC' executed.
    Diag2fcCalls = "diag2fc_calls",
    /// DIAGNOSE with a code that CP does not know.
    DiagUnknown = "diag_unknown",
    /// IUCV instructions executed.
    IucvCalls = "iucv_calls",
    /// IUCV interrupts that became pending.
    IucvInterruptsQueued = "iucv_interrupts_queued",
    /// IUCV interrupts that a CPU took.
    IucvInterrupts = "iucv_interrupts",
    /// IUCV interrupts retracted before a CPU took them.
    IucvInterruptsRetracted = "iucv_interrupts_retracted",
    /// System resets.
    Resets = "resets",
    /// ESSA instructions executed, whatever their outcome.
    EssaCalls = "essa_calls",
    /// ESSA with operation request code 0: the state was asked for.
    EssaGet = "essa_get",
    /// ESSA 1: set stable.
    EssaStable = "essa_stable",
    /// ESSA 2: set unused.
    EssaUnused = "essa_unused",
    /// ESSA 3: set volatile.
    EssaVolatile = "essa_volatile",
    /// ESSA 4: set potentially volatile.
    EssaPotentiallyVolatile = "essa_potentially_volatile",
    /// ESSA 5: set stable and resident.
    EssaStableResident = "essa_stable_resident",
    /// ESSA 6: set stable if not discarded.
    EssaStableIfNotDiscarded = "essa_stable_if_not_discarded",
    /// ESSA 7: set stable and no translation table.
    EssaStableNoDat = "essa_stable_nodat",
    /// ESSA that ended in a program interruption.
    EssaErrors = "essa_errors",
    /// Unused pages whose frame the host took.
    UnusedTaken = "unused_taken",
    /// Volatile pages that the host discarded.
    VolatileTaken = "volatile_taken",
    /// Block-volatility interruptions: a CPU touched a discarded page.
    BlockVolatility = "block_volatility",
    /// Not a count: all IUCV interrupts with smaller numbers have been taken or retracted. `cpd` reads it before a
    /// message is sent, since one that lives on only in its interrupt counts against the message limit until then.
    IucvOldestPending = "iucv_oldest_pending",
    /// DIAGNOSE X'258' executed.
    Diag258Calls = "diag258_calls",
    /// Initial page-fault interruptions: a CPU touched a page that is paged out, and did not wait.
    PfaultInits = "pfault_inits",
    /// Completion interruptions that a CPU took: the page is there.
    PfaultCompletions = "pfault_completions",
    /// Initial interruptions that have no completion, since the guest was reset.
    PfaultsForgotten = "pfaults_forgotten",
}

impl From<Operation> for Counter {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Get => Self::EssaGet,
            Operation::SetStable => Self::EssaStable,
            Operation::SetUnused => Self::EssaUnused,
            Operation::SetVolatile => Self::EssaVolatile,
            Operation::SetPotentiallyVolatile => Self::EssaPotentiallyVolatile,
            Operation::SetStableResident => Self::EssaStableResident,
            Operation::SetStableIfNotDiscarded => Self::EssaStableIfNotDiscarded,
            Operation::SetStableNoDat => Self::EssaStableNoDat,
        }
    }
}

const WORDS: usize = COUNTERS_BYTES / size_of::<u64>();

/// The page, as the guest's library maps it.
#[repr(C, align(4096))]
#[derive(Debug)]
pub struct CountersPage([AtomicU64; WORDS]);

impl CountersPage {
    /// A page of zeroes, for tests and for a library whose memfd is not mapped yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Counts `n` more.
    pub fn add(&self, counter: Counter, n: u64) {
        self.0[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// Raises what is not a count to `value`, if it is not there already: whoever comes late changes nothing.
    pub fn raise(&self, counter: Counter, value: u64) {
        self.0[counter as usize].fetch_max(value, Ordering::Relaxed);
    }

    /// The value of a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
}

impl Default for CountersPage {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes the counters out of a copy of the page; those beyond its end are 0.
#[must_use]
pub fn read(page: &[u8]) -> Vec<(Counter, u64)> {
    let (words, _) = page.as_chunks();
    let words = words
        .iter()
        .map(|&word| u64::from_ne_bytes(word))
        .chain(std::iter::repeat(0));
    Counter::ALL.iter().copied().zip(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_a_page_and_holds_all() {
        assert_eq!(size_of::<CountersPage>(), COUNTERS_BYTES);
        assert!(Counter::ALL.len() <= WORDS);
        assert!(
            Counter::ALL
                .iter()
                .enumerate()
                .all(|(index, &counter)| counter as usize == index)
        );
    }

    #[test]
    fn what_is_counted_is_read() {
        let page = CountersPage::new();
        page.add(Counter::Diag10Calls, 1);
        page.add(Counter::PagesReleased, 512);
        let copy: Vec<u8> = page
            .0
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .collect();
        let read = read(&copy);
        assert_eq!(read.len(), Counter::ALL.len());
        for (counter, value) in read {
            assert_eq!(value, page.get(counter), "{}", counter.name());
        }
        assert_eq!(page.get(Counter::PagesReleased), 512);
        page.raise(Counter::IucvOldestPending, 7);
        page.raise(Counter::IucvOldestPending, 5);
        assert_eq!(page.get(Counter::IucvOldestPending), 7);
    }

    #[test]
    fn a_short_page_reads_as_zero() {
        assert!(read(&[1, 2, 3]).iter().all(|&(_, value)| value == 0));
    }
}
