/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_VOLATILE_FOLIO_H
#define _LINUX_VOLATILE_FOLIO_H

/*
 * Volatile folios: clean page cache that nobody maps or holds, whose content
 * the hypervisor may take when it needs the memory.
 *
 * A folio becomes volatile with its reference count frozen. Whoever takes a
 * reference in order to use the content, or to move it, makes it stable again
 * first; what the hypervisor has taken is not uptodate then.
 */

#include <linux/jump_label.h>
#include <linux/page-flags.h>

struct address_space;

#ifdef CONFIG_VOLATILE_FOLIOS

/* True from when folios may become volatile until all of them are stable. */
DECLARE_STATIC_KEY_FALSE(volatile_folios);

void __folio_make_stable(struct folio *folio);
void __folio_free_volatile(struct folio *folio);
bool __folio_evict_lost(struct folio *folio, bool fault);

static inline bool folio_test_volatile(const struct folio *folio)
{
	return static_branch_unlikely(&volatile_folios) &&
	       test_bit(PG_arch_2, &folio->flags.f);
}

/**
 * folio_make_stable() - Keep the hypervisor from taking a folio's content.
 * @folio: The folio; the caller holds a reference.
 *
 * Clears the uptodate flag if the content is gone already.
 *
 * Context: Any.
 */
static inline void folio_make_stable(struct folio *folio)
{
	if (folio_test_volatile(folio))
		__folio_make_stable(folio);
}

/**
 * folio_free_volatile() - Make the memory of a folio that is freed usable.
 * @folio: The folio, without references.
 */
static inline void folio_free_volatile(struct folio *folio)
{
	if (folio_test_volatile(folio))
		__folio_free_volatile(folio);
}

/**
 * folio_evict_lost() - Remove a folio that was lost, and those lost behind it.
 * @folio: The folio; the caller holds a reference.
 * @fault: Whether a fault needs it, or a read.
 *
 * Readahead stops at folios that are present. It can work again once the run
 * of lost ones is no longer in the page cache.
 *
 * Context: May sleep.
 * Return: True if @folio was removed, and the caller's reference dropped.
 */
static inline bool folio_evict_lost(struct folio *folio, bool fault)
{
	return static_branch_unlikely(&volatile_folios) &&
	       !folio_test_uptodate(folio) &&
	       __folio_evict_lost(folio, fault);
}

#else /* !CONFIG_VOLATILE_FOLIOS */

static inline void folio_make_stable(struct folio *folio) { }
static inline void folio_free_volatile(struct folio *folio) { }
static inline bool folio_evict_lost(struct folio *folio, bool fault)
{
	return false;
}

#endif /* CONFIG_VOLATILE_FOLIOS */

#endif /* _LINUX_VOLATILE_FOLIO_H */
