// SPDX-License-Identifier: GPL-2.0

//! Tables of files below `/proc/sys`.
