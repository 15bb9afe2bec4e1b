// SPDX-License-Identifier: GPL-2.0
/*
 * Meets a page whose content the hypervisor has taken without a right to:
 *
 *   discarded touch    reads its own page
 *   discarded write    has the kernel read it, to write it to a file
 *   discarded truncate has the kernel clear a part of it, in a file
 *
 * Prints the page's frame number, and goes on when /tmp/taken is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096UL

static int wait_until_taken(void *page)
{
	uint64_t entry;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY);
	lseek(fd, (uintptr_t)page / PAGE * sizeof(entry), SEEK_SET);
	if (read(fd, &entry, sizeof(entry)) != sizeof(entry))
		return -1;
	close(fd);
	/* What follows is about the kernel's page alone. */
	printf("%lu\n", (unsigned long)(entry & ((1ULL << 55) - 1)));
	fflush(stdout);
	while (access("/tmp/taken", F_OK))
		usleep(10000);
	return 0;
}

int main(int argc, char **argv)
{
	const char *how = argc == 2 ? argv[1] : "";
	int fd = open("/tmp/discarded", O_RDWR | O_CREAT | O_TRUNC, 0600);
	int shared = !strcmp(how, "truncate");
	char *page;

	if (fd < 0 || ftruncate(fd, PAGE)) {
		perror("/tmp/discarded");
		return 1;
	}
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
		    shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, shared ? fd : -1, 0);
	if (page == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	memset(page, 'x', PAGE);
	if (wait_until_taken(page))
		return 1;
	if (!strcmp(how, "touch"))
		return *(volatile char *)page != 'x';
	if (!strcmp(how, "write")) {
		printf("%ld %d\n", (long)write(fd, page, PAGE), errno);
		return 0;
	}
	if (shared)
		return ftruncate(fd, 100) != 0;
	fprintf(stderr, "usage: discarded touch|write|truncate\n");
	return 2;
}
