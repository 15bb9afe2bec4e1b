// SPDX-License-Identifier: GPL-2.0
/*
 * Writes a number to a file, waits until the file reads as that number, and
 * prints how long that took, in nanoseconds: how a balloon is timed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	long long start = now();
	char text[32];
	int fd, len;

	if (argc != 3) {
		fprintf(stderr, "usage: settle FILE NUMBER\n");
		return 2;
	}
	fd = open(argv[1], O_WRONLY);
	if (fd < 0 || write(fd, argv[2], strlen(argv[2])) < 0) {
		perror(argv[1]);
		return 1;
	}
	close(fd);
	do {
		fd = open(argv[1], O_RDONLY);
		len = read(fd, text, sizeof(text) - 1);
		close(fd);
		if (len <= 0)
			return 1;
		text[len] = '\0';
	} while (atol(text) != atol(argv[2]));
	printf("%lld\n", now() - start);
	return 0;
}
