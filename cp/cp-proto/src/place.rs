// SPDX-License-Identifier: GPL-2.0

use std::env;
use std::path::PathBuf;

/// Where `cpd` listens unless told otherwise: `$XDG_RUNTIME_DIR/coopmem/cp.sock`; `None` if that is not set.
#[must_use]
pub fn default_socket() -> Option<PathBuf> {
    let directory = env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty())?;
    Some(PathBuf::from(directory).join("coopmem/cp.sock"))
}
