// SPDX-License-Identifier: GPL-2.0

//! What the hypervisor says about itself.

use kernel::s390::command::command;

/// Whether the hypervisor is short of memory, or is none that tells.
///
/// z/VM's `INDICATE LOAD`, which each guest may issue, gives the rate at which pages go to paging
/// volumes and come back. May sleep.
pub(crate) fn is_short() -> bool {
    let answer = command(c"INDICATE LOAD").ok();
    let rate = answer.and_then(|answer| paging(answer.text()));
    rate.is_none_or(|rate| rate != 0)
}

/// Finds the pages a second in an answer: `PAGING-12/SEC`.
fn paging(answer: &[u8]) -> Option<u32> {
    const WORD: &[u8] = b"PAGING-";
    let word = answer
        .split(|byte| byte.is_ascii_whitespace())
        .find_map(|word| word.strip_prefix(WORD))?;
    let digits = word.strip_suffix(b"/SEC")?;
    core::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(CONFIG_COOPMEM_CMM_KUNIT_TEST)]
#[kernel::prelude::kunit_tests(cmm_load)]
mod tests {
    use super::*;

    #[test]
    fn paging_is_found() {
        let answer = b"AVGPROC-011% 02\nMDC READS-000000/SEC WRITES-000000/SEC\n\
                       PAGING-12/SEC\nQ0-00000(00000)";
        assert_eq!(paging(answer), Some(12));
        assert_eq!(paging(b"STORAGE-024% PAGING-0000/SEC STEAL-000%"), Some(0));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        let bad: [&'static [u8]; 7] = [
            b"",
            b"PAGING-12",
            b"PAGING-/SEC",
            b"PAGING--1/SEC",
            b"PAGING-1x/SEC",
            b"PAGING-99999999999/SEC",
            b"HCPCMD003E Invalid option - LOAD",
        ];
        for answer in bad {
            assert_eq!(paging(answer), None);
        }
    }
}
