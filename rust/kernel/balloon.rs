// SPDX-License-Identifier: GPL-2.0

//! Balloon pages: memory that a driver has given to the hypervisor.
