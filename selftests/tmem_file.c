// SPDX-License-Identifier: GPL-2.0
/*
 * Changes a file whose pages are in tmem in every way there is, and looks whether
 * what is read afterwards is what must be there.
 *
 *   tmem_file FOLDER CASE...    each by its name, or all that the file system can do
 *   tmem_file FOLDER put        makes a file of which all is in tmem, in version 1,
 *                               and prints where it is on the disk
 *   tmem_file FOLDER overwrite  makes it version 2 and has its page cache reclaimed
 *   tmem_file FOLDER fly        makes it version 2 by direct I/O; while that waits
 *                               for its slow disk, all of version 1 goes to tmem,
 *                               and a page is read
 *   tmem_file FOLDER look       compares it with version 2
 *   tmem_file FOLDER parts      has tmem forget some pages and compares it with version 1
 *   tmem_file FOLDER verified   compares it with version 1, which fs-verity checks:
 *                               nothing comes from tmem, or goes there
 *
 * A case makes a file whose content tells its version, has its page cache
 * reclaimed (MADV_PAGEOUT), so that all of it is in tmem, changes it, and compares
 * it with a model, twice: as it is then, page by page, and after it was in tmem once
 * more. Each time it is known how many pages must come from there. Ends with the
 * number of cases that failed.
 *
 * Shadow entries of reclaimed pages hide places that look whether a file has no
 * page cache at all: in a case with "bare" in its name the inode is evicted from
 * memory first, and the new one has none.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <asm/statfs.h>
#include <linux/aio_abi.h>
#include <linux/ext4.h>
#include <linux/fadvise.h>
#include <linux/falloc.h>
#include <linux/fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mman.h>

#define PAGE 4096UL
#define PAGES 64UL
#define SIZE (PAGES * PAGE)
#define SMALL 16	/* files of one page */

static unsigned char model[2 * SIZE] __attribute__((aligned(PAGE)));
static unsigned char seen[2 * SIZE] __attribute__((aligned(PAGE)));
static size_t model_size;
static char path[200], other[200], small_path[220];
static const char *name;
static int fd;

static void fail(const char *what)
{
	printf("tmem_file: %s: %s: errno %d\n", name, what, errno);
	exit(100);
}

#include "must.h"

static void all(long done, size_t size, const char *what)
{
	if (must(done, what) != (long)size)
		fail(what);
}

/* Content that no other page of no other version has. */
static void stamp(unsigned char *at, size_t size, unsigned int version)
{
	for (size_t i = 0; i < size / sizeof(uint64_t); i++)
		((uint64_t *)at)[i] = (uint64_t)version << 32 | (uintptr_t)(at + i * 8 - model);
}

static void write_pages(size_t first, size_t nr, unsigned int version, int flags)
{
	unsigned char *at = model + first * PAGE;
	struct iovec vector = { at, nr * PAGE };

	stamp(at, nr * PAGE, version);
	if (model_size < (first + nr) * PAGE)
		model_size = (first + nr) * PAGE;
	all(syscall(__NR_pwritev2, fd, &vector, 1, first * PAGE, 0, flags), nr * PAGE, "write");
}

static void sync_file(void)
{
	must(syscall(__NR_fsync, fd), "fsync");
}

/* Whether none of it is in the page cache. */
static bool gone(void *at, size_t size)
{
	static unsigned char present[2 * PAGES];
	size_t pages = (size + PAGE - 1) / PAGE;

	must(syscall(__NR_mincore, at, size, present), "mincore");
	for (size_t i = 0; i < pages; i++)
		if (present[i] & 1)
			return false;
	return true;
}

static void write_text(const char *file, const char *text)
{
	int to = must(open(file, O_WRONLY), file);

	must(write(to, text, strlen(text)), file);
	close(to);
}

/* What tmem has counted: puts, hits and so on. */
static long counted(const char *what)
{
	char text[64];
	int from;

	snprintf(text, sizeof(text), "/sys/kernel/debug/tmem/cache/%s", what);
	from = must(open(text, O_RDONLY), text);
	text[must(read(from, text, sizeof(text) - 1), what)] = 0;
	close(from);
	return atol(text);
}

static void *map(size_t size, int prot)
{
	void *at = mmap(NULL, size, prot, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

static long pages_of(size_t size)
{
	return (size + PAGE - 1) / PAGE;
}

/* Has the page cache reclaimed, and if they are wanted there, all pages put. */
static void reclaim(bool wanted)
{
	void *at = map(model_size, PROT_READ);

	for (int tries = 0; tries < 100; tries++) {
		long before = counted("puts");

		for (size_t i = 0; i < model_size; i += PAGE)
			(void)*((volatile unsigned char *)at + i);
		must(syscall(__NR_madvise, at, model_size, MADV_PAGEOUT), "MADV_PAGEOUT");
		if (gone(at, model_size) &&
		    (!wanted || counted("puts") - before >= pages_of(model_size))) {
			munmap(at, model_size);
			return;
		}
		/* Folios may wait in the batch of another processor: this has all drained. */
		write_text("/proc/sys/vm/compact_memory", "1");
	}
	fail(wanted ? "not all of it goes to tmem" : "the page cache does not go");
}

/* What is clean goes to tmem. */
static void page_out(void)
{
	sync_file();
	reclaim(true);
}

static void get_hint(uint64_t *hint)
{
	must(syscall(__NR_fcntl, fd, F_GET_RW_HINT, hint), "F_GET_RW_HINT");
}

/* Whether the inode is a new one: this is in memory only. */
static bool is_new(void)
{
	uint64_t hint;

	get_hint(&hint);
	return hint == RWH_WRITE_LIFE_NOT_SET;
}

static void mark(void)
{
	uint64_t hint = RWH_WRITE_LIFE_LONG;

	must(syscall(__NR_fcntl, fd, F_SET_RW_HINT, &hint), "F_SET_RW_HINT");
}

static void reopen(int flags)
{
	close(fd);
	fd = must(open(path, O_RDWR | flags), path);
}

/* Has the inode evicted from memory: it does not stay there if DAX is to be switched. */
static void evict(void)
{
	struct fsxattr attributes;

	mark();
	must(ioctl(fd, FS_IOC_FSGETXATTR, &attributes), "FS_IOC_FSGETXATTR");
	attributes.fsx_xflags ^= FS_XFLAG_DAX;
	must(ioctl(fd, FS_IOC_FSSETXATTR, &attributes), "FS_IOC_FSSETXATTR");
	reopen(0);
	if (!is_new())
		fail("the inode is not evicted");
}

static void start(void)
{
	unlink(path);
	fd = must(open(path, O_RDWR | O_CREAT, 0600), path);
	model_size = 0;
	memset(model, 0, sizeof(model));
	write_pages(0, PAGES, 1, 0);
	page_out();
}

static bool same(void)
{
	size_t size = must(syscall(__NR_pread64, fd, seen, sizeof(seen), 0), "read");

	for (size_t i = 0; i < size && size == model_size; i++)
		if (seen[i] != model[i]) {
			printf("%s: STALE at %lu: %lx, not %lx\n", name, (unsigned long)i,
			       ((unsigned long *)seen)[i / 8], ((unsigned long *)model)[i / 8]);
			return false;
		}
	if (size != model_size)
		printf("%s: %lu bytes, not %lu\n", name, (unsigned long)size,
		       (unsigned long)model_size);
	return size == model_size;
}

/* As same(), and so many pages come from tmem. */
static bool look(long least, long most)
{
	long before = counted("hits"), hits;
	bool good = same();

	hits = counted("hits") - before;
	if (hits >= least && hits <= most)
		return good;
	printf("%s: %ld pages came from tmem, not %ld to %ld\n", name, hits, least, most);
	return false;
}

static void advise(size_t at, size_t size, int advice)
{
	must(syscall(__NR_fadvise64, fd, at, size, advice), "fadvise");
}

static void resize(size_t size)
{
	must(syscall(__NR_ftruncate, fd, size), "ftruncate");
	if (size < model_size)
		memset(model + size, 0, model_size - size);
	model_size = size;
}

static void allocate(int mode, size_t at, size_t size)
{
	must(syscall(__NR_fallocate, fd, mode, at, size), "fallocate");
}

/* --- the cases ---------------------------------------------------------------- */

static void nothing(void) { }

/* What is not there is read between what is. */
static void gaps(void)
{
	for (size_t i = 0; i < PAGES; i += 3)
		advise(i * PAGE, PAGE, POSIX_FADV_DONTNEED);
}

static void advise_all(void)
{
	advise(0, 0, POSIX_FADV_DONTNEED);
}

static void drop(void)
{
	write_text("/proc/sys/vm/drop_caches", "1");
}

static int open_small(size_t i, int flags)
{
	snprintf(small_path, sizeof(small_path), "%s.%lu", path, (unsigned long)i);
	return must(open(small_path, O_RDWR | flags, 0600), small_path);
}

/* The shrinker evicts inodes without page cache. Those of small files go at once. */
static void shrink(void)
{
	int file = fd, files[SMALL], left = 0;
	size_t size = model_size;
	long before;

	for (size_t i = 0; i < SMALL; i++) {
		files[i] = open_small(i, O_CREAT | O_TRUNC);
		all(syscall(__NR_pwrite64, files[i], model + i * PAGE, PAGE, 0), PAGE, "write");
	}
	syscall(__NR_sync);
	model_size = PAGE;
	for (size_t i = 0; i < SMALL; i++) {
		fd = files[i];
		reclaim(true);
		mark();
		close(fd);
	}
	syscall(__NR_sync);
	/* What was just used gets a second chance. */
	for (int i = 0; i < 4; i++)
		write_text("/proc/sys/vm/drop_caches", "2");
	before = counted("hits");
	for (size_t i = 0; i < SMALL; i++) {
		fd = open_small(i, 0);
		left += !is_new();
		all(syscall(__NR_pread64, fd, seen, PAGE, 0), PAGE, "read");
		if (memcmp(seen, model + i * PAGE, PAGE))
			fail("a small file has changed");
		close(fd);
		unlink(small_path);
	}
	fd = file;
	model_size = size;
	if (left > SMALL / 2)
		fail("inodes are not evicted");
	if (counted("hits") - before != SMALL)
		fail("not all small files come from tmem");
}

static void truncate_all(void)
{
	resize(0);
	resize(SIZE);
}

static void truncate_bare(void)
{
	evict();
	truncate_all();
}

static void truncate_part(void)
{
	resize(10 * PAGE + 100);
	resize(SIZE);
}

/* What is written behind the end of a file is not there when it grows. */
static void grow(void)
{
	size_t end = 10 * PAGE + 100;
	unsigned char *at;

	resize(end);
	at = map(end, PROT_READ | PROT_WRITE);
	memset(at + end, 'x', 1000);
	munmap(at, end);
	page_out();
	resize(SIZE);
}

static void extend(void)
{
	allocate(0, SIZE, 8 * PAGE);
	model_size += 8 * PAGE;
}

static void punch(void)
{
	size_t at = 3 * PAGE + 512, size = 9 * PAGE;

	allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, size);
	memset(model + at, 0, size);
}

static void punch_bare(void)
{
	evict();
	punch();
}

static void zero_range(void)
{
	size_t at = 5 * PAGE + 512, size = 7 * PAGE;

	allocate(FALLOC_FL_ZERO_RANGE, at, size);
	memset(model + at, 0, size);
}

static void collapse(void)
{
	allocate(FALLOC_FL_COLLAPSE_RANGE, 4 * PAGE, 8 * PAGE);
	memmove(model + 4 * PAGE, model + 12 * PAGE, SIZE - 12 * PAGE);
	model_size -= 8 * PAGE;
}

static void insert(void)
{
	allocate(FALLOC_FL_INSERT_RANGE, 4 * PAGE, 8 * PAGE);
	memmove(model + 12 * PAGE, model + 4 * PAGE, SIZE - 4 * PAGE);
	memset(model + 4 * PAGE, 0, 8 * PAGE);
	model_size += 8 * PAGE;
}

static void direct(void)
{
	reopen(O_DIRECT);
	write_pages(8, 16, 2, 0);
	reopen(0);
}

static void direct_bare(void)
{
	evict();
	direct();
}

/* A folio that is overwritten as a whole is not got. */
static void overwrite_and_advise(void)
{
	write_pages(0, PAGES, 2, 0);
	sync_file();
	advise_all();
}

static void overwrite_and_drop(void)
{
	write_pages(0, PAGES, 2, 0);
	sync_file();
	drop();
}

static void overwrite_and_evict(void)
{
	write_pages(0, PAGES, 2, 0);
	sync_file();
	evict();
}

static void overwrite_and_page_out(void)
{
	write_pages(0, PAGES, 2, 0);
	page_out();
}

/* Part of a page: what is not written comes from the file. */
static void overwrite_part(void)
{
	size_t at = 6 * PAGE + 512;

	memset(model + at, 'x', 1000);
	all(syscall(__NR_pwrite64, fd, model + at, 1000, at), 1000, "write");
	page_out();
}

static void uncached(void)
{
	write_pages(0, PAGES, 2, RWF_DONTCACHE);
	sync_file();
	/* It is dropped at the end of the first read at the latest. */
	same();
}

static void mapped(void)
{
	unsigned char *at = map(SIZE, PROT_READ | PROT_WRITE);

	stamp(model, SIZE, 2);
	memcpy(at, model, SIZE);
	munmap(at, SIZE);
	page_out();
}

/* One word in each page: the others come from tmem. */
static void poke(void)
{
	unsigned char *at = map(SIZE, PROT_READ | PROT_WRITE);

	for (size_t i = 512; i < SIZE; i += PAGE) {
		stamp(model + i, sizeof(uint64_t), 2);
		memcpy(at + i, model + i, sizeof(uint64_t));
	}
	munmap(at, SIZE);
	page_out();
}

/* A new file may get the inode of an old one. */
static void reused_inode(void)
{
	struct stat before, after;

	must(fstat(fd, &before), "fstat");
	close(fd);
	must(unlink(path), "unlink");
	for (int tries = 0; tries < 200; tries++) {
		fd = must(open(path, O_RDWR | O_CREAT, 0600), path);
		must(fstat(fd, &after), "fstat");
		if (after.st_ino == before.st_ino)
			break;
		close(fd);
		unlink(path);
		/* xfs frees it a little later. */
		usleep(10000);
	}
	if (after.st_ino != before.st_ino)
		fail("no inode is used again");
	memset(model, 0, sizeof(model));
	model_size = 0;
	/* One page is in tmem, so that the others are asked for. */
	write_pages(0, 1, 2, 0);
	page_out();
	resize(SIZE);
}

/* The content of another file takes the place of this one's. */
static int open_other(void)
{
	int from;

	unlink(other);
	from = must(open(other, O_RDWR | O_CREAT, 0600), other);
	stamp(model + 16 * PAGE, 16 * PAGE, 3);
	all(syscall(__NR_pwrite64, from, model + 16 * PAGE, 16 * PAGE, 0), 16 * PAGE, "write");
	must(syscall(__NR_fsync, from), "fsync");
	return from;
}

static void copy_range(void)
{
	long to = 16 * PAGE, at = 0;
	int from = open_other();

	all(syscall(__NR_copy_file_range, from, &at, fd, &to, 16 * PAGE, 0), 16 * PAGE,
	    "copy_file_range");
	close(from);
}

static void splice(void)
{
	off_t at = 0, to = 16 * PAGE;
	int from = open_other(), ends[2];

	must(pipe(ends), "pipe");
	while (at < (off_t)(16 * PAGE)) {
		long more = must(syscall(__NR_splice, from, &at, ends[1], NULL, 16 * PAGE - at, 0),
				 "splice");

		all(syscall(__NR_splice, ends[0], NULL, fd, &to, more, 0), more, "splice");
	}
	close(ends[0]);
	close(ends[1]);
	close(from);
}

static void reflink(void)
{
	int from = open_other();
	struct file_clone_range range = {
		.src_fd = from, .src_length = 16 * PAGE, .dest_offset = 16 * PAGE,
	};

	must(ioctl(fd, FICLONERANGE, &range), "FICLONERANGE");
	/* They share it until one is written to. */
	memset(seen, 'x', PAGE);
	all(syscall(__NR_pwrite64, from, seen, PAGE, 0), PAGE, "write");
	must(syscall(__NR_fsync, from), "fsync");
	close(from);
}

static long dedupe_at(int from, size_t at)
{
	/* A header and one place. */
	uint64_t words[(sizeof(struct file_dedupe_range) +
			sizeof(struct file_dedupe_range_info)) / sizeof(uint64_t)] = { 0 };
	struct file_dedupe_range *range = (void *)words;

	range->src_length = 16 * PAGE;
	range->dest_count = 1;
	range->info[0].dest_fd = fd;
	range->info[0].dest_offset = at;
	must(ioctl(from, FIDEDUPERANGE, range), "FIDEDUPERANGE");
	return range->info[0].status;
}

/* The file system itself compares what there is now. */
static void dedupe(void)
{
	int from = open_other();

	reopen(O_DIRECT);
	all(syscall(__NR_pwrite64, fd, model + 16 * PAGE, 16 * PAGE, 16 * PAGE), 16 * PAGE,
	    "write");
	reopen(0);
	if (dedupe_at(from, 16 * PAGE) != FILE_DEDUPE_RANGE_SAME)
		fail("what is the same is not the same");
	if (dedupe_at(from, 0) != FILE_DEDUPE_RANGE_DIFFERS)
		fail("what differs does not differ");
	close(from);
}

/* As in xfs_fs.h, which is not for programs. */
struct xfs_exchange_range {
	int32_t file1_fd;
	uint32_t pad;
	uint64_t file1_offset, file2_offset, length, flags;
};

#define XFS_IOC_EXCHANGE_RANGE _IOW('X', 129, struct xfs_exchange_range)

static void exchange(void)
{
	int from = open_other();
	struct xfs_exchange_range range = {
		.file1_fd = from, .file2_offset = 16 * PAGE, .length = 16 * PAGE,
	};

	must(ioctl(fd, XFS_IOC_EXCHANGE_RANGE, &range), "XFS_IOC_EXCHANGE_RANGE");
	close(from);
}

static void exchange_first(void)
{
	int from = open_other();
	struct xfs_exchange_range range = {
		.file1_fd = fd, .file1_offset = 16 * PAGE, .length = 16 * PAGE,
	};

	must(ioctl(from, XFS_IOC_EXCHANGE_RANGE, &range), "XFS_IOC_EXCHANGE_RANGE");
	close(from);
}

static void move_extent(int orig, size_t orig_page, int donor, size_t donor_page)
{
	struct move_extent move = {
		.donor_fd = donor, .orig_start = orig_page, .donor_start = donor_page, .len = 16,
	};

	must(ioctl(orig, EXT4_IOC_MOVE_EXT, &move), "EXT4_IOC_MOVE_EXT");
	if (move.moved_len != 16)
		fail("not all of it is moved");
}

/* The blocks are exchanged; the content of one file stays, that of the other does not. */
static void move_to(void)
{
	int from = open_other();

	move_extent(from, 0, fd, 16);
	/* The blocks that it got are as good as new. */
	memset(model + 16 * PAGE, 0, 16 * PAGE);
	close(from);
}

static void move_from(void)
{
	int from = open_other();

	move_extent(fd, 16, from, 0);
	stamp(model + 16 * PAGE, 16 * PAGE, 1);
	close(from);
}

/* Its blocks go to the inode of the boot loader, and come back. */
static void swap_boot(void)
{
	must(ioctl(fd, EXT4_IOC_SWAP_BOOT, 0), "EXT4_IOC_SWAP_BOOT");
	resize(0);
	write_pages(0, PAGES, 2, 0);
	page_out();
	must(ioctl(fd, EXT4_IOC_SWAP_BOOT, 0), "EXT4_IOC_SWAP_BOOT");
	stamp(model, SIZE, 1);
}

static void set_generation(int generation)
{
	must(ioctl(fd, FS_IOC_SETVERSION, &generation), "FS_IOC_SETVERSION");
}

/* An inode has another generation for a time: only without checksums of metadata. */
static void generation(void)
{
	int now;

	must(ioctl(fd, FS_IOC_GETVERSION, &now), "FS_IOC_GETVERSION");
	set_generation(now + 1);
	reopen(O_DIRECT);
	write_pages(0, PAGES, 2, 0);
	reopen(0);
	set_generation(now);
}

enum { EXT4 = 1, XFS = 2, BOTH = EXT4 | XFS };

static const struct {
	const char *name;
	void (*change)(void);
	int on;			/* file systems */
	long least, most;	/* pages that come from tmem then */
} cases[] = {
	{ "read", nothing, BOTH, 64, 64 },
	{ "gaps", gaps, BOTH, 42, 42 },
	{ "advise", advise_all, BOTH, 0, 0 },
	{ "drop", drop, BOTH, 0, 0 },
	{ "evict", evict, BOTH, 64, 64 },
	{ "shrink", shrink, BOTH, 64, 64 },
	{ "truncate", truncate_all, BOTH, 0, 0 },
	{ "truncate-bare", truncate_bare, BOTH, 0, 0 },
	{ "truncate-part", truncate_part, BOTH, 10, 10 },
	{ "grow", grow, BOTH, 10, 11 },
	{ "extend", extend, BOTH, 64, 64 },
	{ "punch", punch, BOTH, 54, 54 },
	{ "punch-bare", punch_bare, BOTH, 54, 54 },
	{ "zero-range", zero_range, BOTH, 56, 56 },
	{ "collapse", collapse, BOTH, 3, 4 },
	{ "insert", insert, BOTH, 3, 4 },
	{ "direct", direct, BOTH, 48, 48 },
	{ "direct-bare", direct_bare, BOTH, 48, 48 },
	{ "overwrite-advise", overwrite_and_advise, BOTH, 0, 0 },
	{ "overwrite-drop", overwrite_and_drop, BOTH, 0, 0 },
	{ "overwrite-evict", overwrite_and_evict, BOTH, 0, 0 },
	{ "overwrite-page-out", overwrite_and_page_out, BOTH, 64, 64 },
	{ "overwrite-part", overwrite_part, BOTH, 64, 64 },
	{ "uncached", uncached, BOTH, 0, 0 },
	{ "mapped", mapped, BOTH, 64, 64 },
	{ "poke", poke, BOTH, 64, 64 },
	{ "reused-inode", reused_inode, BOTH, 0, 1 },
	{ "copy-range", copy_range, BOTH, 48, 48 },
	{ "splice", splice, BOTH, 48, 48 },
	{ "reflink", reflink, XFS, 48, 48 },
	{ "dedupe", dedupe, XFS, 32, 48 },
	{ "exchange", exchange, XFS, 48, 48 },
	{ "exchange-first", exchange_first, XFS, 48, 48 },
	{ "move-to", move_to, EXT4, 48, 48 },
	{ "move-from", move_from, EXT4, 48, 48 },
	{ "swap-boot", swap_boot, EXT4, 0, 0 },
	{ "generation", generation, 0, 0, 0 },
};

/* Where all of the file is on the disk, in one piece. */
static uint64_t place(void)
{
	uint64_t words[(sizeof(struct fiemap) + sizeof(struct fiemap_extent)) /
		       sizeof(uint64_t)] = { 0 };
	struct fiemap *extents = (void *)words;

	extents->fm_length = SIZE;
	extents->fm_extent_count = 1;
	must(ioctl(fd, FS_IOC_FIEMAP, extents), "FS_IOC_FIEMAP");
	if (extents->fm_mapped_extents != 1 || extents->fm_extents[0].fe_length != SIZE)
		fail("the file is not in one piece");
	return extents->fm_extents[0].fe_physical;
}

/* Version 2 is under way while others read version 1 and have it put. */
static void fly(void)
{
	struct iocb write = {
		.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uintptr_t)model,
		.aio_nbytes = SIZE,
	}, *writes[] = { &write };
	struct timespec now = { 0 };
	aio_context_t context = 0;
	struct io_event event;
	int direct = must(open(path, O_RDWR | O_DIRECT), path);

	write.aio_fildes = direct;
	stamp(model, SIZE, 1);
	model_size = SIZE;
	/* The next write waits until the disk is allowed to do more. */
	all(syscall(__NR_pwrite64, direct, model, SIZE, 0), SIZE, "write");
	stamp(model, SIZE, 2);
	must(syscall(__NR_io_setup, 1, &context), "io_setup");
	must(syscall(__NR_io_submit, context, 1, writes), "io_submit");
	reclaim(true);
	if (must(syscall(__NR_io_getevents, context, 0, 1, &event, &now), "io_getevents"))
		fail("the write came to its end too early");
	/* Not from tmem, which has version 1 until all is invalidated. */
	advise(0, 0, POSIX_FADV_RANDOM);
	all(syscall(__NR_pread64, fd, seen, PAGE, 0), PAGE, "read");
	/* Whoever finds no page cache when the write ends may not take that for all there is. */
	advise(0, PAGE, POSIX_FADV_DONTNEED);
	must(syscall(__NR_io_getevents, context, 1, 1, &event, NULL), "io_getevents");
	all(event.res, SIZE, "write");
	close(direct);
}

/* What is read must be checked, which nobody does with what comes from tmem. */
static bool verified(void)
{
	bool good;
	long puts;

	reclaim(false);
	puts = counted("puts");
	good = look(0, 0);
	reclaim(false);
	if (counted("puts") != puts) {
		printf("%s: %ld pages went to tmem\n", name, counted("puts") - puts);
		good = false;
	}
	return look(0, 0) && good;
}

/* One step of a case in which somebody else does something between the steps. */
static int step(const char *what)
{
	name = what;
	if (!strcmp(what, "put")) {
		start();
		printf("%lu\n", (unsigned long)place());
		return 0;
	}
	fd = must(open(path, strcmp(what, "verified") ? O_RDWR : O_RDONLY), path);
	if (!strcmp(what, "overwrite")) {
		write_pages(0, PAGES, 2, 0);
		sync_file();
		reclaim(false);
		return 0;
	}
	if (!strcmp(what, "fly")) {
		fly();
		return 0;
	}
	if (!strcmp(what, "parts")) {
		gaps();
		/* In small steps, so that readahead makes ever larger folios. */
		for (size_t i = 0; i < PAGES; i++)
			all(syscall(__NR_pread64, fd, seen, PAGE, i * PAGE), PAGE, "read");
	}
	stamp(model, SIZE, strcmp(what, "look") ? 1 : 2);
	model_size = SIZE;
	return !(strcmp(what, "verified") ? same() : verified());
}

static int file_system(const char *folder)
{
	struct statfs about;

	must(syscall(__NR_statfs, folder, &about), "statfs");
	return about.f_type == EXT4_SUPER_MAGIC ? EXT4 : about.f_type == XFS_SUPER_MAGIC ? XFS : 0;
}

static bool wanted(int argc, char **argv, int i, int on)
{
	for (int word = 2; word < argc; word++)
		if (!strcmp(argv[word], cases[i].name))
			return true;
	return argc == 2 && cases[i].on & on;
}

int main(int argc, char **argv)
{
	static const char * const steps[] = { "put", "overwrite", "fly", "look", "parts",
		"verified" };
	int failed = 0, on;

	if (argc < 2)
		return 100;
	snprintf(path, sizeof(path), "%s/tmem_file", argv[1]);
	snprintf(other, sizeof(other), "%s/tmem_other", argv[1]);
	for (size_t i = 0; argc == 3 && i < sizeof(steps) / sizeof(*steps); i++)
		if (!strcmp(argv[2], steps[i]))
			return step(argv[2]);
	on = file_system(argv[1]);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool good;

		if (!wanted(argc, argv, i, on))
			continue;
		name = cases[i].name;
		start();
		cases[i].change();
		/* Page by page, since a large folio does not come back if a part of it does not. */
		advise(0, 0, POSIX_FADV_RANDOM);
		good = look(cases[i].least, cases[i].most);
		advise(0, 0, POSIX_FADV_NORMAL);
		page_out();
		good = look(pages_of(model_size), pages_of(model_size)) && good;
		printf("%s: %s\n", name, good ? "ok" : "FAILED");
		failed += !good;
		close(fd);
	}
	unlink(path);
	unlink(other);
	return failed;
}
