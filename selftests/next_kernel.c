// SPDX-License-Identifier: GPL-2.0
/*
 * Hands this machine to another kernel:
 *
 *   next_kernel load KERNEL INITRD OPTIONS   which runs when told to
 *   next_kernel crash KERNEL INITRD OPTIONS  which runs when this one panics
 *   next_kernel run                          now
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kexec.h>
#include <linux/reboot.h>

static int load(char **names, unsigned long flags)
{
	int kernel = open(names[0], O_RDONLY), initrd = open(names[1], O_RDONLY);

	if (kernel < 0 || initrd < 0)
		return -1;
	return syscall(__NR_kexec_file_load, kernel, initrd, strlen(names[2]) + 1, names[2], flags);
}

int main(int argc, char *argv[])
{
	const char *verb = argc > 1 ? argv[1] : "";
	int result;

	if (argc == 5 && !strcmp(verb, "load")) {
		result = load(argv + 2, 0);
	} else if (argc == 5 && !strcmp(verb, "crash")) {
		result = load(argv + 2, KEXEC_FILE_ON_CRASH);
	} else if (argc == 2 && !strcmp(verb, "run")) {
		result = reboot(LINUX_REBOOT_CMD_KEXEC);
	} else {
		fprintf(stderr, "usage: next_kernel load|crash KERNEL INITRD OPTIONS | run\n");
		return 2;
	}
	if (result) {
		fprintf(stderr, "next_kernel: %s: errno %d\n", verb, errno);
		return 1;
	}
	return 0;
}
