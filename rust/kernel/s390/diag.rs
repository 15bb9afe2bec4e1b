// SPDX-License-Identifier: GPL-2.0

//! DIAGNOSE: calls to the hypervisor.
