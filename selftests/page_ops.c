// SPDX-License-Identifier: GPL-2.0
/*
 * Does one thing over and over, whose instructions are counted from outside:
 *
 *   page_ops alloc NUMBER        a page is allocated, mapped and freed
 *   page_ops read NUMBER FILE    4 KiB are read from the page cache
 *   page_ops fault NUMBER FILE   a page of the page cache is mapped, with those around it,
 *                                loaded from, and unmapped
 *   page_ops fork NUMBER         a child executes this program, which ends
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096
/* So few that they stay within the lists of free pages of one CPU. */
#define BATCH	32

static int alloc_pages(long number)
{
	char *pages = mmap(NULL, BATCH * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return -1;
	for (long i = 0; i < number; i += BATCH) {
		for (int at = 0; at < BATCH * PAGE; at += PAGE)
			*(volatile char *)(pages + at) = 1;
		if (syscall(__NR_madvise, pages, BATCH * PAGE, MADV_DONTNEED))
			return -1;
	}
	return 0;
}

static int read_pages(long number, const char *file)
{
	static char page[PAGE];
	int fd = open(file, O_RDONLY);

	for (long i = 0; i < number; i++) {
		if (syscall(__NR_pread64, fd, page, PAGE, 0) != PAGE)
			return -1;
	}
	return 0;
}

static int fault_pages(long number, const char *file)
{
	char *pages = mmap(NULL, BATCH * PAGE, PROT_READ, MAP_SHARED, open(file, O_RDONLY), 0);

	if (pages == MAP_FAILED)
		return -1;
	for (long i = 0; i < number; i += BATCH) {
		for (int at = 0; at < BATCH * PAGE; at += PAGE)
			(void)*(volatile char *)(pages + at);
		if (syscall(__NR_madvise, pages, BATCH * PAGE, MADV_DONTNEED))
			return -1;
	}
	return 0;
}

static int fork_children(long number, char *program)
{
	char *const words[] = { program, "alloc", "0", NULL };

	for (long i = 0; i < number; i++) {
		int status;
		pid_t child = fork();

		if (child < 0)
			return -1;
		if (!child) {
			execve("/proc/self/exe", words, environ);
			_exit(1);
		}
		if (waitpid(child, &status, 0) < 0 || status)
			return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int failed;

	if (argc == 3 && !strcmp(argv[1], "alloc")) {
		failed = alloc_pages(atol(argv[2]));
	} else if (argc == 4 && !strcmp(argv[1], "read")) {
		failed = read_pages(atol(argv[2]), argv[3]);
	} else if (argc == 4 && !strcmp(argv[1], "fault")) {
		failed = fault_pages(atol(argv[2]), argv[3]);
	} else if (argc == 3 && !strcmp(argv[1], "fork")) {
		failed = fork_children(atol(argv[2]), argv[0]);
	} else {
		fprintf(stderr, "usage: page_ops alloc|fork NUMBER | read|fault NUMBER FILE\n");
		return 2;
	}
	if (failed)
		perror("page_ops");
	return failed != 0;
}
