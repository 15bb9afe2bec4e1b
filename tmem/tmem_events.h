/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of transcendent memory, below events/tmem of tracefs.
 *
 * Page counts are of 4 KiB pages.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM tmem
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE tmem_events
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH ../drivers/s390/coopmem/tmem

#if !defined(_TMEM_EVENTS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TMEM_EVENTS_H

#include <linux/tracepoint.h>
#include <linux/types.h>
#include <linux/kdev_t.h>

DECLARE_EVENT_CLASS(tmem_cache,
	TP_PROTO(unsigned int device, unsigned long long inode,
		 unsigned long long index, unsigned long pages, bool done),
	TP_ARGS(device, inode, index, pages, done),
	TP_STRUCT__entry(
		__field(unsigned int, device)
		__field(unsigned long long, inode)
		__field(unsigned long long, index)
		__field(unsigned long, pages)
		__field(bool, done)
	),
	TP_fast_assign(
		__entry->device = device;
		__entry->inode = inode;
		__entry->index = index;
		__entry->pages = pages;
		__entry->done = done;
	),
	TP_printk("dev=%u:%u ino=%llu index=%llu pages=%lu %s",
		  MAJOR(__entry->device), MINOR(__entry->device),
		  __entry->inode, __entry->index, __entry->pages,
		  __entry->done ? "done" : "not done")
);

/* Page cache was given to the hypervisor, or not taken by it */
DEFINE_EVENT(tmem_cache, tmem_cache_put,
	TP_PROTO(unsigned int device, unsigned long long inode,
		 unsigned long long index, unsigned long pages, bool done),
	TP_ARGS(device, inode, index, pages, done)
);

/* Page cache came back, or was not there */
DEFINE_EVENT(tmem_cache, tmem_cache_get,
	TP_PROTO(unsigned int device, unsigned long long inode,
		 unsigned long long index, unsigned long pages, bool done),
	TP_ARGS(device, inode, index, pages, done)
);

DECLARE_EVENT_CLASS(tmem_swap,
	TP_PROTO(unsigned int device, unsigned long long slot,
		 unsigned long pages, bool done),
	TP_ARGS(device, slot, pages, done),
	TP_STRUCT__entry(
		__field(unsigned int, device)
		__field(unsigned long long, slot)
		__field(unsigned long, pages)
		__field(bool, done)
	),
	TP_fast_assign(
		__entry->device = device;
		__entry->slot = slot;
		__entry->pages = pages;
		__entry->done = done;
	),
	TP_printk("device=%u slot=%llu pages=%lu %s", __entry->device,
		  __entry->slot, __entry->pages,
		  __entry->done ? "done" : "not done")
);

/* Swapped pages were given to the hypervisor, or not taken by it */
DEFINE_EVENT(tmem_swap, tmem_swap_put,
	TP_PROTO(unsigned int device, unsigned long long slot,
		 unsigned long pages, bool done),
	TP_ARGS(device, slot, pages, done)
);

/* Swapped pages came back, or were lost */
DEFINE_EVENT(tmem_swap, tmem_swap_get,
	TP_PROTO(unsigned int device, unsigned long long slot,
		 unsigned long pages, bool done),
	TP_ARGS(device, slot, pages, done)
);

/* The pools of page cache were given up until so many pages of it are reclaimed */
TRACE_EVENT(tmem_rest,
	TP_PROTO(unsigned long long puts, unsigned long long hits,
		 unsigned long long evicted, unsigned long long reclaims),
	TP_ARGS(puts, hits, evicted, reclaims),
	TP_STRUCT__entry(
		__field(unsigned long long, puts)
		__field(unsigned long long, hits)
		__field(unsigned long long, evicted)
		__field(unsigned long long, reclaims)
	),
	TP_fast_assign(
		__entry->puts = puts;
		__entry->hits = hits;
		__entry->evicted = evicted;
		__entry->reclaims = reclaims;
	),
	TP_printk("puts=%llu hits=%llu evicted=%llu reclaims=%llu",
		  __entry->puts, __entry->hits, __entry->evicted,
		  __entry->reclaims)
);

/* Swapped pages were brought home since there is room */
TRACE_EVENT(tmem_home,
	TP_PROTO(unsigned long pages),
	TP_ARGS(pages),
	TP_STRUCT__entry(
		__field(unsigned long, pages)
	),
	TP_fast_assign(
		__entry->pages = pages;
	),
	TP_printk("pages=%lu", __entry->pages)
);

#endif /* _TMEM_EVENTS_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
