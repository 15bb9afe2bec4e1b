// SPDX-License-Identifier: GPL-2.0
/*
 * What a shell cannot do with a file whose page cache may be volatile:
 *
 *   page_hint_file states HOW FILE  how many pages of it are volatile after the
 *                                   next sweeps, as "V of ALL", while it is used:
 *                                   idle    by nobody
 *                                   dirty   each page was written to
 *                                   mapped  into this process
 *                                   locked  in memory of this process
 *                                   held    by a pipe
 *   page_hint_file volatile         how many pages there are that are volatile
 *   page_hint_file nowait FILE      writes out what can be read without waiting
 *   page_hint_file poke FILE        writes one byte in each page through a mapping
 *   page_hint_file touch FILE       loads from each page through a mapping, for 12 s
 *   page_hint_file scatter FILE     reads each page into a folio of its own
 *   page_hint_file verity FILE      lets fs-verity check it from now on
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
#include <unistd.h>
#include <linux/fadvise.h>
#include <linux/fsverity.h>
#include <linux/mman.h>

#define PAGE 4096UL
#define MOST 4096	/* pages of a file */

/* /proc/kpageflags */
#define COMPOUND_TAIL (1ULL << 16)
#define VOLATILE (1ULL << 41)		/* KPF_ARCH_2 */

#define SWEEP "/proc/sys/vm/page_hint_age"
#define LAST_SWEEP "/sys/kernel/debug/page_hint/last_sweep"

static char text[16384];

static void fail(const char *what)
{
	fprintf(stderr, "page_hint_file: %s: errno %d\n", what, errno);
	exit(1);
}

#include "must.h"

static uint64_t number_at(int fd, uint64_t index)
{
	uint64_t number;

	if (syscall(__NR_pread64, fd, &number, sizeof(number), index * sizeof(number)) !=
	    sizeof(number))
		fail("a table of page frames");
	return number;
}

/* The head of a folio has the mark for all of it. */
static bool is_volatile(int flags, uint64_t frame)
{
	while (number_at(flags, frame) & COMPOUND_TAIL)
		frame--;
	return number_at(flags, frame) & VOLATILE;
}

static size_t count_volatile(int flags, const uint64_t *frames, size_t pages)
{
	bool folio = false;
	size_t n = 0;

	for (size_t i = 0; i < pages; i++) {
		bool same = i && frames[i] == frames[i - 1] + 1 &&
			    number_at(flags, frames[i]) & COMPOUND_TAIL;

		if (!same)
			folio = is_volatile(flags, frames[i]);
		n += folio;
	}
	return n;
}

static void write_text(const char *path, const char *what)
{
	int fd = must(open(path, O_WRONLY), path);

	must(write(fd, what, strlen(what)), path);
	close(fd);
}

static long sweeps(void)
{
	int fd = must(open(LAST_SWEEP, O_RDONLY), LAST_SWEEP);
	long n = must(read(fd, text, sizeof(text) - 1), LAST_SWEEP);

	close(fd);
	text[n] = '\0';
	return atol(text + strlen("sweeps "));
}

/* Two sweeps from start to end. */
static void sweep_twice(void)
{
	for (int i = 0; i < 2; i++) {
		long before = sweeps();

		write_text(SWEEP, "0");
		for (int tries = 0; sweeps() == before; tries++) {
			if (tries == 3000)
				fail("there is no sweep");
			usleep(10000);
		}
	}
}

static void *map(int fd, size_t size, int prot, int flags)
{
	void *memory = mmap(NULL, size, prot, flags, fd, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	return memory;
}

static int states(const char *how, int fd, size_t pages)
{
	static uint64_t frames[MOST];
	int table = must(open("/proc/self/pagemap", O_RDONLY), "/proc/self/pagemap"), ends[2];
	int flags = must(open("/proc/kpageflags", O_RDONLY), "/proc/kpageflags");
	volatile unsigned char *memory;
	size_t volatiles = 0;
	off_t start = 0;

	memory = map(fd, pages * PAGE, PROT_READ, MAP_SHARED | MAP_POPULATE);
	/* What cannot be written has nothing to be written back. */
	syscall(__NR_fsync, fd);
	for (size_t i = 0; i < pages; i++) {
		(void)memory[i * PAGE];
		frames[i] = number_at(table, (uintptr_t)memory / PAGE + i) & ((1ULL << 55) - 1);
	}
	if (!strcmp(how, "locked"))
		must(syscall(__NR_mlock, memory, pages * PAGE), "mlock");
	else if (strcmp(how, "mapped"))
		must(munmap((void *)memory, pages * PAGE), "munmap");
	if (!strcmp(how, "dirty")) {
		write_text("/proc/sys/vm/dirty_writeback_centisecs", "0");
		for (size_t i = 0; i < pages; i++)
			must(syscall(__NR_pwrite64, fd, "x", 1, i * PAGE), "pwrite");
	} else if (!strcmp(how, "held")) {
		must(pipe(ends), "pipe");
		must(syscall(__NR_fcntl, ends[1], F_SETPIPE_SZ, 1 << 20), "F_SETPIPE_SZ");
		if (syscall(__NR_splice, fd, &start, ends[1], NULL, pages * PAGE, 0) !=
		    (long)(pages * PAGE))
			fail("splice: the pipe is too small");
	}
	/* A folio may still be held for a moment. */
	for (int tries = strcmp(how, "idle") && strcmp(how, "mapped") ? 1 : 10; tries; tries--) {
		sweep_twice();
		volatiles = count_volatile(flags, frames, pages);
		if (volatiles == pages)
			break;
	}
	printf("%lu of %lu\n", (unsigned long)volatiles, (unsigned long)pages);
	return 0;
}

static int all_volatile(void)
{
	static uint64_t some[4096];
	int flags = must(open("/proc/kpageflags", O_RDONLY), "/proc/kpageflags");
	unsigned long n = 0;
	bool folio = false;
	long size;

	while ((size = must(read(flags, some, sizeof(some)), "/proc/kpageflags")) > 0) {
		for (size_t i = 0; i < size / sizeof(*some); i++) {
			if (!(some[i] & COMPOUND_TAIL))
				folio = some[i] & VOLATILE;
			n += folio;
		}
	}
	printf("%lu\n", n);
	return 0;
}

static int put_out(const char *content, size_t size)
{
	for (size_t done = 0; done < size;)
		done += must(write(1, content + done, size - done), "write");
	return 0;
}

static int nowait(int fd, size_t size)
{
	void *memory = map(-1, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	struct iovec part = { memory, size };
	long got = syscall(__NR_preadv2, fd, &part, 1, 0, 0, RWF_NOWAIT);

	if (got < 0 && errno != EAGAIN)
		fail("preadv2");
	return put_out(memory, got < 0 ? 0 : got);
}

static int poke(int fd, size_t pages)
{
	char *memory = map(fd, pages * PAGE, PROT_WRITE, MAP_SHARED);

	for (size_t i = 0; i < pages; i++)
		memory[i * PAGE] = 'x';
	return 0;
}

static int touch(int fd, size_t pages)
{
	volatile char *memory = map(fd, pages * PAGE, PROT_READ, MAP_SHARED);

	for (int times = 0; times < 120; times++) {
		for (size_t i = 0; i < pages; i++)
			(void)memory[i * PAGE];
		usleep(100000);
	}
	return 0;
}

static int scatter(int fd, size_t pages)
{
	must(syscall(__NR_fadvise64, fd, 0, 0, POSIX_FADV_RANDOM), "fadvise");
	for (size_t i = 0; i < pages; i++)
		must(syscall(__NR_pread64, fd, text, PAGE, i * PAGE), "pread");
	return 0;
}

static int verity(int fd)
{
	struct fsverity_enable_arg how = {
		.version = 1,
		.hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
		.block_size = PAGE,
	};

	must(ioctl(fd, FS_IOC_ENABLE_VERITY, &how), "FS_IOC_ENABLE_VERITY");
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: page_hint_file states idle|dirty|mapped|locked|held FILE |\n"
		"                      volatile | nowait|poke|touch|scatter|verity FILE\n");
	return 2;
}

int main(int argc, char *argv[])
{
	const char *verb = argc > 1 ? argv[1] : "";
	bool writes = argc > 2 && (!strcmp(argv[2], "dirty") || !strcmp(verb, "poke"));
	struct stat stat;
	int fd;

	if (argc == 2 && !strcmp(verb, "volatile"))
		return all_volatile();
	if (argc != (strcmp(verb, "states") ? 3 : 4))
		return usage();
	fd = must(open(argv[argc - 1], writes ? O_RDWR : O_RDONLY), argv[argc - 1]);
	must(fstat(fd, &stat), "fstat");
	if (stat.st_size % PAGE || stat.st_size > (off_t)(MOST * PAGE)) {
		fprintf(stderr, "page_hint_file: a file of whole pages, at most %d\n", MOST);
		return 2;
	}
	if (!strcmp(verb, "states"))
		return states(argv[2], fd, stat.st_size / PAGE);
	if (!strcmp(verb, "nowait"))
		return nowait(fd, stat.st_size);
	if (!strcmp(verb, "poke"))
		return poke(fd, stat.st_size / PAGE);
	if (!strcmp(verb, "touch"))
		return touch(fd, stat.st_size / PAGE);
	if (!strcmp(verb, "scatter"))
		return scatter(fd, stat.st_size / PAGE);
	if (!strcmp(verb, "verity"))
		return verity(fd);
	return usage();
}
