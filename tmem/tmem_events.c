// SPDX-License-Identifier: GPL-2.0
/*
 * Tracepoints can only be made in C.
 */
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "tmem_events.h"
