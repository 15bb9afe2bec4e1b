// SPDX-License-Identifier: GPL-2.0
/*
 * Counts what page frames are used for, by kind, from /proc/kpageflags, and
 * prints a line for each kind. Frames that are free or volatile are left out:
 * what remains is what a guest keeps to itself.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <linux/kernel-page-flags.h>

/* Those of include/linux/kernel-page-flags.h. */
#define KPF_RESERVED	32
#define KPF_PRIVATE	35
#define KPF_ARCH_2	41

#define BIT(nr)		(1UL << (nr))

/* The first one that fits is the kind: all of @set, nothing of @clear. */
static const struct kind {
	const char *name;
	unsigned long set, clear;
} kinds[] = {
	{ NULL, BIT(KPF_NOPAGE) },
	{ NULL, BIT(KPF_BUDDY) },
	{ "reserved", BIT(KPF_RESERVED) },
	{ "slab", BIT(KPF_SLAB) },
	{ "page tables", BIT(KPF_PGTABLE) },
	{ "balloon", BIT(KPF_OFFLINE) },
	{ "swap cache, dirty", BIT(KPF_ANON) | BIT(KPF_SWAPCACHE) | BIT(KPF_DIRTY) },
	{ "swap cache, clean", BIT(KPF_ANON) | BIT(KPF_SWAPCACHE) },
	{ "anonymous", BIT(KPF_ANON) },
	{ "tmpfs", BIT(KPF_LRU) | BIT(KPF_SWAPBACKED) },
	{ NULL, BIT(KPF_LRU) | BIT(KPF_ARCH_2) },
	{ "file, mapped, dirty", BIT(KPF_LRU) | BIT(KPF_MMAP) | BIT(KPF_DIRTY) },
	{ "file, mapped", BIT(KPF_LRU) | BIT(KPF_MMAP) },
	{ "block device metadata", BIT(KPF_LRU) | BIT(KPF_PRIVATE), BIT(KPF_UPTODATE) },
	{ "file, private data", BIT(KPF_LRU) | BIT(KPF_PRIVATE) },
	{ "file, not up to date", BIT(KPF_LRU), BIT(KPF_UPTODATE) },
	{ "file, dirty", BIT(KPF_LRU) | BIT(KPF_DIRTY) },
	{ "file, clean", BIT(KPF_LRU) },
	/* Other kernel memory cannot be told from what waits in per-CPU lists. */
	{ NULL, 0 },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

int main(void)
{
	static unsigned long flags[4096], counts[KINDS];
	int fd = open("/proc/kpageflags", O_RDONLY);
	size_t kind;
	ssize_t len;

	if (fd < 0) {
		perror("page_kinds: /proc/kpageflags");
		return 1;
	}
	while ((len = read(fd, flags, sizeof(flags))) > 0) {
		for (size_t i = 0; i < len / sizeof(flags[0]); i++) {
			for (kind = 0; (flags[i] & kinds[kind].set) != kinds[kind].set ||
				       flags[i] & kinds[kind].clear; kind++)
				;
			counts[kind]++;
		}
	}
	for (kind = 0; kind < KINDS; kind++) {
		if (kinds[kind].name)
			printf("%lu %s\n", counts[kind], kinds[kind].name);
	}
	return len < 0;
}
