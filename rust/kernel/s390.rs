// SPDX-License-Identifier: GPL-2.0

//! s390 (IBM Z): what a guest says to its hypervisor and hears from it.

pub mod command;
pub mod diag;
pub mod essa;
pub mod machine;
#[cfg(CONFIG_COOPMEM_PAGE_HINT)]
pub mod page_states;
pub mod smsg;
#[cfg(any(CONFIG_CLEANCACHE, CONFIG_FRONTSWAP))]
pub mod tmem;
#[cfg(CONFIG_VOLATILE_FOLIOS)]
pub mod volatile;
