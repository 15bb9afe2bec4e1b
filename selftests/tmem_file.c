// SPDX-License-Identifier: GPL-2.0
/*
 * Changes a file whose pages are in tmem in every way there is, and looks whether
 * what is read afterwards is what must be there.
 *
 *   tmem_file FOLDER CASE...    each by its name, or all
 *   tmem_file FOLDER put        makes a file of which all is in tmem
 *   tmem_file FOLDER overwrite  overwrites it and has its page cache reclaimed
 *   tmem_file FOLDER look       compares it with what was written then
 *
 * A case makes a file whose content tells its version, has its page cache
 * reclaimed (MADV_PAGEOUT), so that all of it is in tmem, changes it, and compares
 * it with a model. Ends with the number of cases that failed.
 *
 * Shadow entries of reclaimed pages hide places that look whether a file has no
 * page cache at all: a case with "bare" in its name gets rid of them first.
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
#include <unistd.h>
#include <linux/fadvise.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/mman.h>

#define PAGE 4096UL
#define PAGES 64UL
#define SIZE (PAGES * PAGE)

static unsigned char model[2 * SIZE] __attribute__((aligned(PAGE)));
static unsigned char seen[2 * SIZE] __attribute__((aligned(PAGE)));
static size_t model_size;
static char path[200], other[200];
static const char *name;
static int fd;

static void fail(const char *what)
{
	printf("tmem_file: %s: %s: errno %d\n", name, what, errno);
	exit(100);
}

static long must(long result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

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

/* Has the page cache reclaimed: what is clean goes to tmem. */
static void page_out(void)
{
	void *at = mmap(NULL, model_size, PROT_READ, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	sync_file();
	for (int tries = 0; tries < 100; tries++) {
		for (size_t i = 0; i < model_size; i += PAGE)
			(void)*((volatile unsigned char *)at + i);
		must(syscall(__NR_madvise, at, model_size, MADV_PAGEOUT), "MADV_PAGEOUT");
		if (gone(at, model_size)) {
			munmap(at, model_size);
			return;
		}
		/* Folios may wait in the batch of another processor: this has all drained. */
		write_text("/proc/sys/vm/compact_memory", "1");
	}
	fail("the page cache does not go");
}

/* Reclaims shadow entries; the inode is in use. */
static void bare(void)
{
	write_text("/proc/sys/vm/drop_caches", "2");
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

static void reopen(int flags)
{
	close(fd);
	fd = must(open(path, O_RDWR | flags), path);
}

/* --- the cases ---------------------------------------------------------------- */

static void read_back(void) { }

static void truncate_all(void)
{
	resize(0);
	resize(SIZE);
}

static void truncate_bare(void)
{
	bare();
	truncate_all();
}

static void truncate_part(void)
{
	resize(10 * PAGE + 100);
	resize(SIZE);
}

static void punch(void)
{
	size_t at = 3 * PAGE + 512, size = 9 * PAGE;

	allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, size);
	memset(model + at, 0, size);
}

static void punch_bare(void)
{
	bare();
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
	bare();
	direct();
}

/* A folio that is overwritten as a whole is not got. */
static void overwrite_and_advise(void)
{
	write_pages(0, PAGES, 2, 0);
	sync_file();
	must(syscall(__NR_fadvise64, fd, 0, 0, POSIX_FADV_DONTNEED), "fadvise");
}

static void overwrite_and_drop(void)
{
	write_pages(0, PAGES, 2, 0);
	sync_file();
	write_text("/proc/sys/vm/drop_caches", "1");
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
	unsigned char *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	stamp(model, SIZE, 2);
	memcpy(at, model, SIZE);
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
	}
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

static void reflink(void)
{
	int from = open_other();
	struct file_clone_range range = {
		.src_fd = from, .src_length = 16 * PAGE, .dest_offset = 16 * PAGE,
	};

	/* Not every file system has it: there it is an ordinary write. */
	if (ioctl(fd, FICLONERANGE, &range))
		write_pages(16, 16, 3, 0);
	close(from);
}

static const struct {
	const char *name;
	void (*change)(void);
} cases[] = {
	{ "read", read_back },
	{ "truncate", truncate_all },
	{ "truncate-bare", truncate_bare },
	{ "truncate-part", truncate_part },
	{ "punch", punch },
	{ "punch-bare", punch_bare },
	{ "zero-range", zero_range },
	{ "collapse", collapse },
	{ "insert", insert },
	{ "direct", direct },
	{ "direct-bare", direct_bare },
	{ "overwrite-advise", overwrite_and_advise },
	{ "overwrite-drop", overwrite_and_drop },
	{ "overwrite-page-out", overwrite_and_page_out },
	{ "overwrite-part", overwrite_part },
	{ "uncached", uncached },
	{ "mapped", mapped },
	{ "reused-inode", reused_inode },
	{ "copy-range", copy_range },
	{ "reflink", reflink },
};

/* One step of a case in which somebody else does something between the steps. */
static int step(const char *what)
{
	name = what;
	if (!strcmp(what, "put")) {
		start();
		return 0;
	}
	fd = must(open(path, O_RDWR), path);
	if (!strcmp(what, "overwrite")) {
		write_pages(0, PAGES, 2, 0);
		page_out();
		return 0;
	}
	stamp(model, SIZE, 2);
	model_size = SIZE;
	return !same();
}

static bool wanted(int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc == 2;
}

int main(int argc, char **argv)
{
	int failed = 0;

	if (argc < 2)
		return 100;
	snprintf(path, sizeof(path), "%s/tmem_file", argv[1]);
	snprintf(other, sizeof(other), "%s/tmem_other", argv[1]);
	if (argc == 3 && (!strcmp(argv[2], "put") || !strcmp(argv[2], "overwrite") ||
			  !strcmp(argv[2], "look")))
		return step(argv[2]);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		bool good;

		name = cases[i].name;
		if (!wanted(argc, argv))
			continue;
		start();
		cases[i].change();
		good = same();
		/* And once more from where it is then. */
		page_out();
		good = same() && good;
		printf("%s: %s\n", name, good ? "ok" : "FAILED");
		failed += !good;
		close(fd);
	}
	unlink(path);
	unlink(other);
	return failed;
}
