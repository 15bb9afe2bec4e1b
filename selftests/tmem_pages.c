// SPDX-License-Identifier: GPL-2.0
/*
 * Brings pages to tmem and back, for others to count what that takes:
 *
 *   tmem_pages read FILE [single]   reads it from begin to end, in large folios or
 *                                   in single pages
 *   tmem_pages evict FILE           has its page cache reclaimed
 *   tmem_pages swap MIB ROUNDS      changes so much memory, in an order that
 *                                   repeats only after all of it, and looks whether
 *                                   it is what was written; half of each page
 *                                   cannot be compressed
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/fadvise.h>

#define PAGE	4096UL
#define MIB	(1UL << 20)
#define CHUNK	(128 * 1024)

static int read_file(const char *file, int single)
{
	static char chunk[CHUNK];
	size_t size = single ? PAGE : CHUNK;
	int fd = open(file, O_RDONLY);
	long got;

	if (fd < 0)
		return -1;
	if (single && syscall(__NR_fadvise64, fd, 0, 0, POSIX_FADV_RANDOM))
		return -1;
	while ((got = read(fd, chunk, size)) > 0)
		;
	return got;
}

static int evict(const char *file)
{
	int fd = open(file, O_RDONLY);
	struct stat st;
	void *at;

	if (fd < 0 || fstat(fd, &st))
		return -1;
	/* Only what is mapped is reclaimed. */
	at = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (at == MAP_FAILED)
		return -1;
	return syscall(__NR_madvise, at, st.st_size, MADV_PAGEOUT);
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15;
	return x ^ x >> 29;
}

/* What is in a page that was written `version` times. */
static void stamp(uint64_t *page, uint64_t number, uint64_t version)
{
	for (unsigned int i = 0; i < PAGE / sizeof(*page) / 2; i++)
		page[i] = mix(number << 32 ^ version << 16 ^ i);
}

static int swap(unsigned long size, unsigned int rounds)
{
	static uint64_t wanted[PAGE / sizeof(uint64_t)];
	unsigned long pages = size / PAGE, bad = 0;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return -1;
	for (unsigned int round = 0; round <= rounds; round++) {
		for (unsigned long i = 0; i < pages; i++) {
			/* A prime that no number of pages here is a multiple of. */
			unsigned long number = i * 1000003 % pages;
			uint64_t *page = (void *)(memory + number * PAGE);

			if (round) {
				stamp(wanted, number, round - 1);
				bad += !!memcmp(page, wanted, PAGE);
			}
			stamp(page, number, round);
		}
	}
	printf("%lu pages, %lu differences\n", pages, bad);
	return bad != 0;
}

int main(int argc, char **argv)
{
	int failed;

	if (argc == 3 && !strcmp(argv[1], "read")) {
		failed = read_file(argv[2], 0);
	} else if (argc == 4 && !strcmp(argv[1], "read") && !strcmp(argv[3], "single")) {
		failed = read_file(argv[2], 1);
	} else if (argc == 3 && !strcmp(argv[1], "evict")) {
		failed = evict(argv[2]);
	} else if (argc == 4 && !strcmp(argv[1], "swap")) {
		failed = swap(atol(argv[2]) * MIB, atoi(argv[3]));
	} else {
		fprintf(stderr, "usage: tmem_pages read FILE [single] | evict FILE |\n"
				"                  swap MIB ROUNDS\n");
		return 2;
	}
	if (failed < 0)
		perror("tmem_pages");
	return failed != 0;
}
