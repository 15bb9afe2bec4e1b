/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_CLEANCACHE_H
#define _LINUX_CLEANCACHE_H

/*
 * Cleancache: clean page cache that is evicted goes to a backend, and comes
 * back from there in place of being read again. The backend may lose pages at
 * any time, but never returns one that is not what a read of the file gives:
 *
 * - A folio is put before it leaves the page cache, under its lock. A range is
 *   flushed after it has left. So a racing eviction has either put its folio
 *   before the flush, or finds that the folio is gone.
 * - Whatever leaves the page cache is put or flushed: a folio that was
 *   overwritten as a whole was never got, and the backend may have an older one.
 * - A put that fails leaves nothing under its key.
 * - A get removes what it returns. There is none while direct I/O is under way:
 *   what was put meanwhile may be old, and is flushed only when it ends.
 * - A folio that loses its contents while it stays in the page cache is not to be
 *   got: an older one may be there. So nothing that the backend wants becomes
 *   volatile, see linux/volatile_folio.h.
 *
 * A file system takes part with FS_CLEANCACHE. That promises that the inode
 * number names a file within its super block, that an inode is read through
 * unlock_new_inode() and evicted through truncate_inode_pages_final(), and that
 * a file does not change but through its page cache or after having invalidated
 * it.
 *
 * What the backend has of a file stays when its inode is evicted from memory, and
 * is flushed when the file is deleted, or its file system unmounted.
 */

#include <linux/folio_batch.h>
#include <linux/jump_label.h>
#include <linux/pagemap.h>
#include <linux/volatile_folio.h>

#ifdef CONFIG_CLEANCACHE

/* True while there may be a backend. */
DECLARE_STATIC_KEY_FALSE(cleancache_enabled);

unsigned long __cleancache_get(struct folio **folios, unsigned int nr);
void __cleancache_evict(struct folio *folio, bool reclaimed);
void __cleancache_flush(struct address_space *mapping, pgoff_t first,
			pgoff_t last);
void __cleancache_new_inode(struct inode *inode);
void __cleancache_evict_inode(struct address_space *mapping, bool keep);
void __cleancache_flush_fs(struct super_block *sb);

/**
 * cleancache_has() - Whether the backend may have pages of a file.
 * @mapping: The mapping of the file.
 *
 * For those who would leave out an invalidation since there is no page cache.
 */
static inline bool cleancache_has(const struct address_space *mapping)
{
	if (!static_branch_unlikely(&cleancache_enabled))
		return false;
	/* A put sets the bit before its folio leaves the page cache. */
	smp_rmb();
	return test_bit(AS_CLEANCACHE, &mapping->flags);
}

/**
 * cleancache_get() - Get the contents of a folio.
 * @folio: The folio, locked and in the page cache.
 *
 * Context: Any but hard interrupts. Does not sleep.
 * Return: True if the folio has its contents. It is not marked uptodate.
 */
static inline bool cleancache_get(struct folio *folio)
{
	return cleancache_has(folio->mapping) && __cleancache_get(&folio, 1);
}

/**
 * cleancache_get_batch() - Get the contents of folios.
 * @fbatch: The folios, of one file, each locked and in the page cache.
 *
 * Context: Any but hard interrupts. Does not sleep.
 * Return: A bit for each folio: set if it has its contents.
 */
static inline unsigned long cleancache_get_batch(struct folio_batch *fbatch)
{
	return __cleancache_get(fbatch->folios, folio_batch_count(fbatch));
}

/**
 * cleancache_evict() - Put a folio that is about to leave the page cache.
 * @folio: The folio, locked, unmapped and not in the swap cache.
 * @reclaimed: Whether it leaves because memory is needed. If not, it is
 *	flushed.
 *
 * Harmless if the folio stays after all.
 *
 * Context: Any but hard interrupts. Does not sleep.
 */
static inline void cleancache_evict(struct folio *folio, bool reclaimed)
{
	if (static_branch_unlikely(&cleancache_enabled)) {
		/* The hypervisor may have taken what is to be put. */
		folio_make_stable(folio);
		__cleancache_evict(folio, reclaimed);
	}
}

/**
 * cleancache_flush() - Forget a range of a file.
 * @mapping: The mapping of the file.
 * @first: The first index.
 * @last: The last index.
 *
 * To be called after the range has left the page cache. Nothing is to be done
 * for a mapping that is exiting: cleancache_evict_inode() comes last.
 *
 * Context: May sleep.
 */
static inline void cleancache_flush(struct address_space *mapping,
				    pgoff_t first, pgoff_t last)
{
	if (cleancache_has(mapping) && !mapping_exiting(mapping))
		__cleancache_flush(mapping, first, last);
}

/**
 * cleancache_flush_folio() - Forget a folio that is about to leave the page
 * cache.
 * @folio: The folio, locked.
 *
 * Context: May sleep.
 */
static inline void cleancache_flush_folio(struct folio *folio)
{
	cleancache_flush(folio->mapping, folio->index,
			 folio_next_index(folio) - 1);
}

/**
 * cleancache_new_inode() - Recall whether the backend may have pages of a file.
 * @inode: Its inode, which was just read.
 *
 * Context: Any but hard interrupts. Does not sleep.
 */
static inline void cleancache_new_inode(struct inode *inode)
{
	if (static_branch_unlikely(&cleancache_enabled))
		__cleancache_new_inode(inode);
}

/**
 * cleancache_evict_inode() - Keep or forget a file whose inode is evicted.
 * @mapping: Its mapping, exiting and without page cache.
 * @dropped: How many pages it had until now: these were neither put nor flushed.
 *
 * Context: May sleep.
 */
static inline void cleancache_evict_inode(struct address_space *mapping,
					  unsigned long dropped)
{
	if (cleancache_has(mapping))
		__cleancache_evict_inode(mapping,
					 !dropped && mapping->host->i_nlink);
}

/**
 * cleancache_flush_fs() - Forget all files of a file system.
 * @sb: The super block. If it has inodes, some of what they are putting may
 *	stay.
 *
 * Context: May sleep.
 */
static inline void cleancache_flush_fs(struct super_block *sb)
{
	if (static_branch_unlikely(&cleancache_enabled))
		__cleancache_flush_fs(sb);
}

#else /* !CONFIG_CLEANCACHE */

static inline bool cleancache_has(const struct address_space *mapping)
{
	return false;
}

static inline bool cleancache_get(struct folio *folio) { return false; }

static inline unsigned long cleancache_get_batch(struct folio_batch *fbatch)
{
	return 0;
}

static inline void cleancache_evict(struct folio *folio, bool reclaimed) { }
static inline void cleancache_flush(struct address_space *mapping,
				    pgoff_t first, pgoff_t last) { }
static inline void cleancache_flush_folio(struct folio *folio) { }
static inline void cleancache_new_inode(struct inode *inode) { }
static inline void cleancache_evict_inode(struct address_space *mapping,
					  unsigned long dropped) { }
static inline void cleancache_flush_fs(struct super_block *sb) { }

#endif /* CONFIG_CLEANCACHE */

#endif /* _LINUX_CLEANCACHE_H */
