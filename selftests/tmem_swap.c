// SPDX-License-Identifier: GPL-2.0
/*
 * What a shell cannot do with memory that is swapped out:
 *
 *   tmem_swap out FILE      has all of a file in a tmpfs swapped out
 *   tmem_swap lost MIB GO   has memory of its own swapped out, prints "out", waits
 *                           until there is a file GO, and then must find that all of
 *                           its pages are lost: system calls do not get them, and who
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

static void fail(const char *what)
{
	fprintf(stderr, "tmem_swap: %s: errno %d\n", what, errno);
	exit(1);
}

static long must(long result, const char *what)
{
	if (result < 0)
		fail(what);
	return result;
}

static unsigned char *map(size_t size, int flags, int fd)
{
	unsigned char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	if (at == MAP_FAILED)
		fail("mmap");
	return at;
}

/* Whether none of it is in memory, not even in the swap cache. */
static bool gone(void *at, size_t size)
{
	static unsigned char present[64 * MIB / PAGE];

	must(syscall(__NR_mincore, at, size, present), "mincore");
	for (size_t i = 0; i < size / PAGE; i++)
		if (present[i] & 1)
			return false;
	return true;
}

static void swap_out(void *at, size_t size)
{
	int compact = must(open("/proc/sys/vm/compact_memory", O_WRONLY), "compact_memory");

	for (int tries = 0; tries < 100; tries++) {
		must(syscall(__NR_madvise, at, size, MADV_PAGEOUT), "MADV_PAGEOUT");
		if (gone(at, size)) {
			close(compact);
			return;
		}
		/* Folios may wait in the batch of another processor: this has all drained. */
		must(write(compact, "1", 1), "compact_memory");
	}
	fail("it does not go");
}

static void swap_file_out(const char *file)
{
	struct stat about;
	int fd = must(open(file, O_RDWR), file);
	unsigned char *at;

	must(fstat(fd, &about), file);
	at = map(about.st_size, MAP_SHARED, fd);
	/* Reclaim by advice takes what is mapped. */
	for (off_t i = 0; i < about.st_size; i += PAGE)
		(void)*(volatile unsigned char *)(at + i);
	swap_out(at, about.st_size);
}

static void lose(size_t size, const char *go)
{
	unsigned char *at = map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct stat about;
	int ends[2], status;
	pid_t child;

	for (size_t i = 0; i < size; i += PAGE)
		*(size_t *)(at + i) = i ^ 0x5a;
	swap_out(at, size);
	printf("out\n");
	fflush(stdout);
	while (stat(go, &about))
		usleep(20000);

	must(pipe(ends), "pipe");
	for (size_t i = 0; i < size; i += PAGE)
		if (write(ends[1], at + i, PAGE) != -1 || errno != EFAULT)
			fail("a page is not lost");
	child = must(fork(), "fork");
	if (!child)
		exit(*(volatile unsigned char *)at);
	must(waitpid(child, &status, 0), "waitpid");
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGBUS)
		fail("no SIGBUS");
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "out"))
		swap_file_out(argv[2]);
	else if (argc == 4 && !strcmp(argv[1], "lost"))
		lose(atol(argv[2]) * MIB, argv[3]);
	else
		return 2;
	return 0;
}
