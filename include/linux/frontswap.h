/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_FRONTSWAP_H
#define _LINUX_FRONTSWAP_H

/*
 * Frontswap: pages that are swapped out go to a backend, which keeps them until
 * their swap slots are freed, in place of being written there. What the backend
 * does not take is written to its slots as ever.
 *
 * One bit a slot says that the backend has the page, and that what is in the
 * slot itself is old. It is changed while the slot's folio is locked in the swap
 * cache, or when the slot is freed.
 *
 * A get removes the page from the backend, so that there are never two of it,
 * and leaves the folio dirty. A page that the backend has lost is an I/O error.
 */

#include <linux/jump_label.h>
#include <linux/mm.h>
#include <linux/swapops.h>

#ifdef CONFIG_FRONTSWAP

/* True while there may be a backend. */
DECLARE_STATIC_KEY_FALSE(frontswap_enabled);

int frontswap_swapon(unsigned int type, unsigned long nr_pages);
void frontswap_swapoff(unsigned int type);
unsigned long frontswap_next(unsigned int type, unsigned long offset);
long frontswap_shrink(long nr);
bool __frontswap_put(struct folio *folio, unsigned int type,
		     unsigned long offset);
bool __frontswap_get(struct folio *folio, unsigned int type,
		     unsigned long offset);
void __frontswap_flush(unsigned int type, unsigned long offset,
		       unsigned int nr_pages);

static inline bool frontswap_is_enabled(void)
{
	return static_branch_unlikely(&frontswap_enabled);
}

/**
 * frontswap_put() - Give a folio to the backend.
 * @folio: The folio, locked and in the swap cache. The backend has no page of
 *	its slots.
 *
 * Context: Does not sleep.
 * Return: True if the backend has all of it, false if it has nothing.
 */
static inline bool frontswap_put(struct folio *folio)
{
	return frontswap_is_enabled() &&
	       __frontswap_put(folio, swp_type(folio->swap),
			       swp_offset(folio->swap));
}

/**
 * frontswap_get() - Get a folio from the backend.
 * @folio: The folio, locked, in the swap cache and not uptodate.
 *
 * The folio is uptodate and dirty then, unless the backend has lost it.
 *
 * Context: Does not sleep.
 * Return: False if the folio is in its slots.
 */
static inline bool frontswap_get(struct folio *folio)
{
	return frontswap_is_enabled() &&
	       __frontswap_get(folio, swp_type(folio->swap),
			       swp_offset(folio->swap));
}

/**
 * frontswap_flush() - Forget what the backend has of some slots.
 * @entry: The first slot.
 * @nr_pages: How many.
 *
 * Context: Any but hard interrupts. Does not sleep.
 */
static inline void frontswap_flush(swp_entry_t entry, unsigned int nr_pages)
{
	if (frontswap_is_enabled())
		__frontswap_flush(swp_type(entry), swp_offset(entry), nr_pages);
}

/**
 * frontswap_flush_folio() - Forget what the backend has of a folio's slots.
 * @folio: The folio, locked and in the swap cache.
 *
 * Context: Does not sleep.
 */
static inline void frontswap_flush_folio(struct folio *folio)
{
	if (frontswap_is_enabled())
		frontswap_flush(folio->swap, folio_nr_pages(folio));
}

#else /* !CONFIG_FRONTSWAP */

static inline int frontswap_swapon(unsigned int type, unsigned long nr_pages)
{
	return 0;
}

static inline void frontswap_swapoff(unsigned int type) { }
static inline bool frontswap_is_enabled(void) { return false; }
static inline bool frontswap_put(struct folio *folio) { return false; }
static inline bool frontswap_get(struct folio *folio) { return false; }
static inline void frontswap_flush(swp_entry_t entry, unsigned int nr_pages) { }
static inline void frontswap_flush_folio(struct folio *folio) { }

#endif /* CONFIG_FRONTSWAP */

#endif /* _LINUX_FRONTSWAP_H */
