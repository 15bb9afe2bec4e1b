// SPDX-License-Identifier: GPL-2.0
/*
 * Uses a file that this process has mapped in one of the ways there are to come
 * to the content of mapped pages, after the hypervisor took all of them:
 *
 *   page_hint_mapped WAY FILE SCRATCH
 *
 * maps FILE, loads from each page, stops, and uses the file when it is continued.
 * The file consists of cells of 512 bytes with the stamps 1, 2 and so on, as those
 * of page_hint_torture.c. Says "the same" and ends with 0 if all was as it must be.
 * SCRATCH is a file to write to.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/elf.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/ptrace.h>
#include <linux/uio.h>
#include "cells.h"

#define PAGE 4096UL
#define WORDS (PAGE / sizeof(uint64_t))
#define CELLS (PAGE / CELL)
#define MOST 1024	/* pages of a file */
#define A_TIME 16	/* pages that go through a pipe at once */

static const char *way, *scratch;
static uint64_t *mapped, buffer[A_TIME * WORDS];
static size_t pages;
static int file;

static void fail(const char *what)
{
	printf("page_hint_mapped %s: %s: errno %d\n", way, what, errno);
	exit(1);
}

#include "must.h"

static uint64_t word(size_t page, size_t i)
{
	return cell_word(page * CELLS + i / 64 + 1, i % 64);
}

/* From the word `first` of a page on, since one may have been changed. */
static void same(const uint64_t *found, size_t page, size_t first)
{
	for (size_t i = first; i < WORDS; i++) {
		if (found[i] != word(page, i)) {
			printf("page_hint_mapped %s: page %lu, word %lu is %lx and not %lx\n", way,
			       (unsigned long)page, (unsigned long)i, (unsigned long)found[i],
			       (unsigned long)word(page, i));
			exit(1);
		}
	}
}

static void all_the_same(const uint64_t *found)
{
	for (size_t page = 0; page < pages; page++)
		same(found + page * WORDS, page, 0);
}

static int create(int flags)
{
	return must(open(scratch, O_RDWR | O_CREAT | O_TRUNC | flags, 0600), scratch);
}

static void file_is_the_same(int fd, off_t start)
{
	for (size_t page = 0; page < pages; page++) {
		if (syscall(__NR_pread64, fd, buffer, PAGE, start + page * PAGE) != PAGE)
			fail("pread");
		same(buffer, page, 0);
	}
	close(fd);
}

static void child_succeeds(pid_t child)
{
	int status;

	must(waitpid(child, &status, 0), "waitpid");
	if (status) {
		printf("page_hint_mapped %s: a child ended with %x\n", way, status);
		exit(1);
	}
}

static void map_it(int prot, int sharing)
{
	mapped = mmap(NULL, pages * PAGE, prot, sharing, file, 0);
	if (mapped == MAP_FAILED)
		fail("mmap");
	all_the_same(mapped);
}

/* --- ways to prepare ---------------------------------------------------------- */

static void map_shared(void)
{
	map_it(PROT_READ | PROT_WRITE, MAP_SHARED);
}

static void map_private(void)
{
	map_it(PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static void map_to_read(void)
{
	map_it(PROT_READ, MAP_PRIVATE);
}

static pid_t traced;

static void map_in_child(void)
{
	int status;

	map_shared();
	traced = must(fork(), "fork");
	if (!traced) {
		all_the_same(mapped);
		must(syscall(__NR_ptrace, PTRACE_TRACEME, 0, 0, 0), "PTRACE_TRACEME");
		kill(getpid(), SIGSTOP);
		exit(0);
	}
	must(waitpid(traced, &status, 0), "waitpid");
}

static void map_for_core(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = must(open("/proc/self/coredump_filter", O_WRONLY), "coredump_filter");

	/* File mappings, too. */
	must(write(fd, "0xf", 3), "coredump_filter");
	close(fd);
	fd = must(open("/proc/sys/kernel/core_pattern", O_WRONLY), "core_pattern");
	must(write(fd, scratch, strlen(scratch)), "core_pattern");
	close(fd);
	must(syscall(__NR_prlimit64, 0, RLIMIT_CORE, &all, NULL), "prlimit64");
	map_shared();
}

/* --- ways to use -------------------------------------------------------------- */

static void load(void)
{
}

static void store(void)
{
	for (size_t page = 0; page < pages; page++) {
		mapped[page * WORDS] = word(page, 0);
		same(mapped + page * WORDS, page, 0);
	}
}

static void store_privately(void)
{
	for (size_t page = 0; page < pages; page++) {
		mapped[page * WORDS] = 0;
		same(mapped + page * WORDS, page, 1);
		mapped[page * WORDS] = word(page, 0);
	}
}

static void make_writable(void)
{
	must(syscall(__NR_mprotect, mapped, pages * PAGE, PROT_READ | PROT_WRITE), "mprotect");
	store_privately();
}

static void fork_it(void)
{
	pid_t child;

	/* Its page tables are copied. */
	mapped[0] = word(0, 0);
	child = must(fork(), "fork");
	if (!child) {
		all_the_same(mapped);
		exit(0);
	}
	child_succeeds(child);
}

static void lock(void)
{
	must(syscall(__NR_mlock, mapped, pages * PAGE), "mlock");
}

static void populate(void)
{
	must(syscall(__NR_madvise, mapped, pages * PAGE, MADV_POPULATE_READ), "MADV_POPULATE_READ");
}

static void move(void)
{
	void *to = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mapped = (void *)must(syscall(__NR_mremap, mapped, pages * PAGE, pages * PAGE,
				      MREMAP_MAYMOVE | MREMAP_FIXED, to), "mremap");
}

static void write_it(void)
{
	int fd = create(0);

	if (write(fd, mapped, pages * PAGE) != (ssize_t)(pages * PAGE))
		fail("write");
	file_is_the_same(fd, 0);
}

static void write_directly(void)
{
	int fd = create(O_DIRECT);

	if (write(fd, mapped, pages * PAGE) != (ssize_t)(pages * PAGE))
		fail("write");
	close(fd);
	file_is_the_same(must(open(scratch, O_RDONLY), scratch), 0);
}

static void splice_it(void)
{
	int ends[2];

	must(pipe(ends), "pipe");
	for (size_t page = 0; page < pages; page += A_TIME) {
		struct iovec part = { mapped + page * WORDS, A_TIME * PAGE };

		if (syscall(__NR_vmsplice, ends[1], &part, 1, 0) != (long)part.iov_len)
			fail("vmsplice");
		for (size_t i = 0; i < A_TIME; i++) {
			if (read(ends[0], buffer, PAGE) != PAGE)
				fail("read");
			same(buffer, page + i, 0);
		}
	}
}

static void read_from_aside(void)
{
	for (size_t page = 0; page < pages; page++) {
		struct iovec to = { buffer, PAGE }, from = { mapped + page * WORDS, PAGE };

		if (syscall(__NR_process_vm_readv, getpid(), &to, 1, &from, 1, 0) != PAGE)
			fail("process_vm_readv");
		same(buffer, page, 0);
	}
}

static void read_memory_file(void)
{
	file_is_the_same(must(open("/proc/self/mem", O_RDONLY), "/proc/self/mem"), (off_t)mapped);
}

static void trace(void)
{
	for (size_t page = 0; page < pages; page++) {
		/* Each word is one call. */
		for (size_t i = 0; i < WORDS; i += WORDS / 4) {
			uint64_t found;

			must(syscall(__NR_ptrace, PTRACE_PEEKDATA, traced,
				     mapped + page * WORDS + i, &found), "PTRACE_PEEKDATA");
			if (found != word(page, i))
				fail("PTRACE_PEEKDATA: another word");
		}
	}
	kill(traced, SIGKILL);
	waitpid(traced, NULL, 0);
}

static void dump_core(void)
{
	pid_t child = must(fork(), "fork");
	struct elf64_hdr header;
	struct elf64_phdr part;
	int fd;

	if (!child) {
		kill(getpid(), SIGABRT);
		exit(0);
	}
	waitpid(child, NULL, 0);
	fd = must(open(scratch, O_RDONLY), scratch);
	if (read(fd, &header, sizeof(header)) != sizeof(header))
		fail("the core has no header");
	for (int i = 0; i < header.e_phnum; i++) {
		syscall(__NR_pread64, fd, &part, sizeof(part), header.e_phoff + i * sizeof(part));
		if (part.p_type == PT_LOAD && part.p_vaddr == (uintptr_t)mapped &&
		    part.p_filesz == pages * PAGE) {
			file_is_the_same(fd, part.p_offset);
			return;
		}
	}
	fail("the mapping is not in the core");
}

/* The kernel accesses the word with page faults disabled, and asks for its page before. */
static void wait_on(void)
{
	struct { int64_t s, ns; } moment = { 0, 1 };

	for (size_t page = 0; page < pages; page++) {
		uint32_t *at = (uint32_t *)(mapped + page * WORDS), value = word(page, 0) >> 32;

		if (syscall(__NR_futex, at, FUTEX_WAIT, value + 1, &moment, NULL, 0) != -1 ||
		    errno != EAGAIN)
			fail("FUTEX_WAIT finds another word");
		if (syscall(__NR_futex, at, FUTEX_WAIT, value, &moment, NULL, 0) != -1 ||
		    errno != ETIMEDOUT)
			fail("FUTEX_WAIT does not find the word");
	}
}

static void wake_and_add(void)
{
	for (size_t page = 0; page < pages; page++) {
		uint32_t *at = (uint32_t *)(mapped + page * WORDS);

		must(syscall(__NR_futex, at, FUTEX_WAKE_OP, 1, 1, at + 1,
			     FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)), "FUTEX_WAKE_OP");
	}
}

static const struct {
	const char *name;
	void (*prepare)(void);
	void (*use)(void);
} ways[] = {
	{ "load", map_shared, load },
	{ "store", map_shared, store },
	{ "store_privately", map_private, store_privately },
	{ "mprotect", map_to_read, make_writable },
	{ "fork", map_private, fork_it },
	{ "mlock", map_shared, lock },
	{ "populate", map_shared, populate },
	{ "mremap", map_shared, move },
	{ "write", map_shared, write_it },
	{ "direct", map_shared, write_directly },
	{ "vmsplice", map_shared, splice_it },
	{ "process_vm_readv", map_shared, read_from_aside },
	{ "proc_mem", map_shared, read_memory_file },
	{ "ptrace", map_in_child, trace },
	{ "core", map_for_core, dump_core },
	{ "futex_wait", map_shared, wait_on },
	{ "futex_wake_op", map_shared, wake_and_add },
};

int main(int argc, char *argv[])
{
	struct stat stat;

	if (argc == 2 && !strcmp(argv[1], "ways")) {
		for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
			printf("%s\n", ways[i].name);
		return 0;
	}
	for (size_t i = 0; argc == 4 && i < sizeof(ways) / sizeof(*ways); i++) {
		if (strcmp(argv[1], ways[i].name))
			continue;
		way = argv[1];
		scratch = argv[3];
		file = must(open(argv[2], O_RDWR), argv[2]);
		must(fstat(file, &stat), "fstat");
		pages = stat.st_size / PAGE;
		if (!pages || pages > MOST || pages % A_TIME)
			fail("the file has another size");
		ways[i].prepare();
		kill(getpid(), SIGSTOP);
		ways[i].use();
		all_the_same(mapped);
		printf("the same\n");
		return 0;
	}
	fprintf(stderr, "usage: page_hint_mapped WAY FILE SCRATCH | ways\n");
	return 2;
}
