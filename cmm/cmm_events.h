/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of the balloon, below events/cmm of tracefs.
 *
 * Page counts are of 4 KiB pages. Pools and causes are numbered as in
 * ledger.rs.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM cmm
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE cmm_events
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH ../drivers/s390/coopmem/cmm

#if !defined(_CMM_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _CMM_EVENTS_H

#include <linux/tracepoint.h>

#define cmm_show_pool(pool)				\
	__print_symbolic(pool,				\
			 { 0, "fixed" },		\
			 { 1, "timed" },		\
			 { 2, "own" })

#define cmm_show_cause(cause)				\
	__print_symbolic(cause,				\
			 { 0, "floor" },		\
			 { 1, "exhausted" },		\
			 { 2, "hypervisor" },		\
			 { 3, "isolated" })

/* A request was taken: what the pools shall hold from now on */
TRACE_EVENT(cmm_target,
	TP_PROTO(unsigned long fixed, unsigned long timed),
	TP_ARGS(fixed, timed),
	TP_STRUCT__entry(
		__field(unsigned long, fixed)
		__field(unsigned long, timed)
	),
	TP_fast_assign(
		__entry->fixed = fixed;
		__entry->timed = timed;
	),
	TP_printk("fixed=%lu timed=%lu", __entry->fixed, __entry->timed)
);

/* A batch of pages was given to the hypervisor, in so many runs of frames */
TRACE_EVENT(cmm_inflate,
	TP_PROTO(unsigned int pool, unsigned long pages, unsigned long runs),
	TP_ARGS(pool, pages, runs),
	TP_STRUCT__entry(
		__field(unsigned int, pool)
		__field(unsigned long, pages)
		__field(unsigned long, runs)
	),
	TP_fast_assign(
		__entry->pool = pool;
		__entry->pages = pages;
		__entry->runs = runs;
	),
	TP_printk("pool=%s pages=%lu runs=%lu", cmm_show_pool(__entry->pool),
		  __entry->pages, __entry->runs)
);

/* A batch of pages was given back to the guest */
TRACE_EVENT(cmm_deflate,
	TP_PROTO(unsigned int pool, unsigned long pages),
	TP_ARGS(pool, pages),
	TP_STRUCT__entry(
		__field(unsigned int, pool)
		__field(unsigned long, pages)
	),
	TP_fast_assign(
		__entry->pool = pool;
		__entry->pages = pages;
	),
	TP_printk("pool=%s pages=%lu", cmm_show_pool(__entry->pool),
		  __entry->pages)
);

/* The target cannot be met for the time being */
TRACE_EVENT(cmm_pause,
	TP_PROTO(unsigned int cause),
	TP_ARGS(cause),
	TP_STRUCT__entry(
		__field(unsigned int, cause)
	),
	TP_fast_assign(
		__entry->cause = cause;
	),
	TP_printk("cause=%s", cmm_show_cause(__entry->cause))
);

/* The guest ran out of memory: pages were given back, targets lowered */
TRACE_EVENT(cmm_give_back,
	TP_PROTO(unsigned long pages, unsigned long fixed, unsigned long timed),
	TP_ARGS(pages, fixed, timed),
	TP_STRUCT__entry(
		__field(unsigned long, pages)
		__field(unsigned long, fixed)
		__field(unsigned long, timed)
	),
	TP_fast_assign(
		__entry->pages = pages;
		__entry->fixed = fixed;
		__entry->timed = timed;
	),
	TP_printk("pages=%lu fixed=%lu timed=%lu", __entry->pages,
		  __entry->fixed, __entry->timed)
);

#endif /* _CMM_EVENTS_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
