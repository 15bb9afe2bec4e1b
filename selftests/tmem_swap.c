// SPDX-License-Identifier: GPL-2.0
/*
 * Has memory of its own swapped out, prints "out", waits until there is a file GO,
 * and looks what became of it:
 *
 *   tmem_swap kept MIB GO   all of it is as it was
 *   tmem_swap lost MIB GO   all pages are lost: system calls do not get them, and who
 *                           touches one dies by SIGBUS
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/mman.h>

#define MIB (1024UL * 1024)
#define PAGE 4096UL
#define MOST (64 * MIB)

static unsigned char *memory, present[MOST / PAGE];
static size_t size;

static void fail(const char *what)
{
	fprintf(stderr, "tmem_swap: %s: errno %d\n", what, errno);
	exit(1);
}

#include "must.h"

/* Whether none of it is in memory, not even in the swap cache. */
static bool gone(void)
{
	must(syscall(__NR_mincore, memory, size, present), "mincore");
	for (size_t i = 0; i < size / PAGE; i++)
		if (present[i] & 1)
			return false;
	return true;
}

static void swap_out(void)
{
	int compact = must(open("/proc/sys/vm/compact_memory", O_WRONLY), "compact_memory");

	for (int tries = 0; tries < 100; tries++) {
		/* Only what is mapped is reclaimed by advice. */
		for (size_t i = 0; i < size; i += PAGE)
			(void)*(volatile unsigned char *)(memory + i);
		must(syscall(__NR_madvise, memory, size, MADV_PAGEOUT), "MADV_PAGEOUT");
		if (gone()) {
			close(compact);
			return;
		}
		/* Folios may wait in the batch of another processor: this has all drained. */
		must(write(compact, "1", 1), "compact_memory");
		/* Or they are just being written. */
		usleep(20000);
	}
	fail("it does not go");
}

/* Content that no other page and no other process has. */
static size_t content(size_t at)
{
	return (size_t)getpid() << 32 | at;
}

static void look(void)
{
	for (size_t i = 0; i < size; i += PAGE)
		if (*(volatile size_t *)(memory + i) != content(i))
			fail("STALE");
}

static void look_in_vain(void)
{
	int ends[2], status;
	pid_t child;

	must(pipe(ends), "pipe");
	for (size_t i = 0; i < size; i += PAGE)
		if (write(ends[1], memory + i, PAGE) != -1 || errno != EFAULT)
			fail("a page is not lost");
	child = must(fork(), "fork");
	if (!child)
		exit(*(volatile unsigned char *)memory);
	must(waitpid(child, &status, 0), "waitpid");
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGBUS)
		fail("no SIGBUS");
}

int main(int argc, char **argv)
{
	struct stat about;
	bool lost;

	if (argc != 4)
		return 2;
	lost = !strcmp(argv[1], "lost");
	size = atol(argv[2]) * MIB;
	if (size > MOST)
		return 2;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	for (size_t i = 0; i < size; i += PAGE)
		*(size_t *)(memory + i) = content(i);
	swap_out();
	printf("out\n");
	fflush(stdout);
	while (stat(argv[3], &about))
		usleep(20000);
	if (lost)
		look_in_vain();
	else
		look();
	return 0;
}
