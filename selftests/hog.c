// SPDX-License-Identifier: GPL-2.0
/*
 * Takes memory, touches all of it, and keeps it until it is killed:
 *
 *   hog MIB [SECONDS]
 *
 * Prints "holding" when it has all of it. With SECONDS it ends after that time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1024UL * 1024)
#define PAGE 4096UL

int main(int argc, char *argv[])
{
	unsigned long size, at;
	unsigned char *memory;

	if (argc < 2 || argc > 3 || atol(argv[1]) <= 0) {
		fprintf(stderr, "usage: hog MIB [SECONDS]\n");
		return 2;
	}
	size = atol(argv[1]) * MIB;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		perror("hog: mmap");
		return 1;
	}

	/* Contents differ from page to page: they are checked in the end. */
	for (at = 0; at < size; at += PAGE)
		*(volatile unsigned long *)(memory + at) = at ^ 0x5aUL;
	printf("holding\n");
	fflush(stdout);

	do {
		sleep(argc == 3 ? atol(argv[2]) : 3600);
	} while (argc < 3);

	for (at = 0; at < size; at += PAGE) {
		if (*(volatile unsigned long *)(memory + at) != (at ^ 0x5aUL)) {
			fprintf(stderr, "hog: the content at %lu has changed\n", at);
			return 3;
		}
	}
	return 0;
}
