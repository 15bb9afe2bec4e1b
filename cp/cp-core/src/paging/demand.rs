// SPDX-License-Identifier: GPL-2.0

//! How many frames are taken, and from whom.

/// How many ages are told apart; the last one stands for all above it.
pub const AGES: usize = 8;

/// A number of pages of each age.
pub type ByAge = [u64; AGES];

/// How full the available list is kept, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Below it, frames are taken.
    pub low: u64,
    /// Until there are so many.
    pub high: u64,
}

impl Watermarks {
    /// For a system with that many frames: a hundredth and a fiftieth, at least enough for some blocks.
    #[must_use]
    pub fn new(frames: u64) -> Self {
        let low = (frames / 100).max(64);
        Self { low, high: 2 * low }
    }

    /// How many frames to take when so many are available.
    #[must_use]
    pub const fn wanted(&self, available: u64) -> u64 {
        if available < self.low {
            self.high - available
        } else {
            0
        }
    }
}

/// Takes `wanted` pages, the oldest ones wherever they are; of the same age, in proportion to how many each guest has.
///
/// `guests` tells how many pages of each age each guest has; the result, how many of each to take.
#[must_use]
pub fn demand(wanted: u64, guests: &[ByAge]) -> Vec<ByAge> {
    let mut quotas = vec![ByAge::default(); guests.len()];
    let mut left = wanted;
    for age in (0..AGES).rev() {
        let mut there: u64 = guests.iter().map(|guest| guest[age]).sum();
        let mut take = left.min(there);
        left -= take;
        for (quota, guest) in quotas.iter_mut().zip(guests) {
            // What rounding keeps from one is asked of those that follow.
            let share = share(take, guest[age], there);
            quota[age] = share;
            take -= share;
            there -= guest[age];
        }
    }
    quotas
}

/// The age of all ephemeral pages of transcendent memory.
///
/// A frame holds two of them, compressed, and each may cost its guest a disk read; of the pages of guests, one page-in
/// brings back a block. So what guests leave alone for a moment leaves before.
const EPHEMERAL: usize = 2;

/// The frames of ephemeral pages of transcendent memory, among pages of guests: what nobody has used for longer than
/// [`EPHEMERAL`] leaves before them.
#[must_use]
pub fn ephemeral_by_age(frames: u64) -> ByAge {
    let mut ages = ByAge::default();
    ages[EPHEMERAL] = frames;
    ages
}

/// `take * part / whole`, rounded to the nearest, and never more than `part`.
fn share(take: u64, part: u64, whole: u64) -> u64 {
    let product = u128::from(take) * u128::from(part) + u128::from(whole / 2);
    product.checked_div(whole.into()).unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_nobody_uses_leaves_before_ephemeral_pages() {
        let there = [
            ephemeral_by_age(50),
            with(&[(EPHEMERAL + 1, 30), (EPHEMERAL - 1, 40)]),
        ];
        let taken = |wanted| -> Vec<u64> {
            let quotas = demand(wanted, &there);
            quotas.iter().map(|quota| quota.iter().sum()).collect()
        };
        assert_eq!(taken(30), [0, 30]);
        assert_eq!(taken(60), [30, 30]);
        assert_eq!(taken(100), [50, 50]);
    }

    fn with(pages: &[(usize, u64)]) -> ByAge {
        let mut ages = ByAge::default();
        for &(age, count) in pages {
            ages[age] = count;
        }
        ages
    }

    #[test]
    fn the_oldest_go_first_wherever_they_are() {
        let guests = [with(&[(0, 100), (7, 10)]), with(&[(0, 100), (3, 50)])];
        assert_eq!(demand(30, &guests), [with(&[(7, 10)]), with(&[(3, 20)])]);
        let all = demand(100, &guests);
        assert_eq!(all, [with(&[(7, 10), (0, 20)]), with(&[(3, 50), (0, 20)])]);
    }

    #[test]
    fn the_list_is_filled_up_once_it_is_low() {
        let marks = Watermarks::new(100_000);
        assert_eq!(
            marks,
            Watermarks {
                low: 1000,
                high: 2000
            }
        );
        assert_eq!(marks.wanted(1000), 0);
        assert_eq!(marks.wanted(999), 1001);
        assert_eq!(Watermarks::new(0).wanted(0), 128);
    }

    proptest! {
        #[test]
        fn exact_and_fair(wanted in 0..2000_u64, guests in proptest::collection::vec(proptest::array::uniform8(0..300_u64), 0..6)) {
            let quotas = demand(wanted, &guests);
            let all: u64 = guests.iter().flatten().sum();
            prop_assert_eq!(quotas.iter().flatten().sum::<u64>(), wanted.min(all));
            for age in 0..AGES {
                let there: u64 = guests.iter().map(|guest| guest[age]).sum();
                let taken: u64 = quotas.iter().map(|quota| quota[age]).sum();
                for (quota, guest) in quotas.iter().zip(&guests) {
                    prop_assert!(quota[age] <= guest[age]);
                    // Within one page of its share for each guest before it.
                    let fair = guest[age] as f64 * taken as f64 / there.max(1) as f64;
                    prop_assert!((quota[age] as f64 - fair).abs() <= guests.len() as f64);
                }
                // Younger ones only if all of this age are taken.
                if taken < there {
                    prop_assert!(quotas.iter().all(|quota| quota[..age].iter().all(|&count| count == 0)));
                }
            }
        }
    }
}
