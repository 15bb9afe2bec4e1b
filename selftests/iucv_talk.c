// SPDX-License-Identifier: GPL-2.0
/*
 * Talks over an AF_IUCV socket with a program in another guest.
 *
 *   iucv_talk listen  stream|packet NAME [COUNT]
 *   iucv_talk connect stream|packet USER NAME BYTES
 *   iucv_talk hold    stream|packet USER NAME
 *
 * "connect" sends BYTES, and the listener sends as many back, different ones.
 * Each side knows what must come and says how much came and with which sum.
 * The listener serves COUNT connections (1), each until its peer closes it.
 * "hold" connects, and then does nothing until it is killed.
 *
 * Packets have sizes of all kinds, and must arrive in these sizes.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

/* Not in the headers for programs: linux/socket.h, net/iucv/af_iucv.h */
#define AF_IUCV 32
#define SOCK_STREAM 1
#define SOCK_SEQPACKET 5
#define MSG_EOR 0x80
#define MSG_NOSIGNAL 0x4000

struct sockaddr_iucv {
	uint16_t family;
	uint16_t port;
	uint32_t addr;
	char nodeid[8];
	char user_id[8];
	char name[8];
};

/* Those of at most 7 bytes travel in the parameter list of IUCV */
static const unsigned int packet_sizes[] = { 1, 7, 8, 100, 4096, 4097, 32000 };
#define LARGEST 32000

static char data[LARGEST + 1];

/* What one side says: a sequence of bytes that both sides know */
struct speech {
	uint32_t state;
	uint32_t sum;
	unsigned long done;
	unsigned int packet;
};

static void speech_init(struct speech *s, uint32_t seed)
{
	*s = (struct speech){ .state = seed, .sum = 2166136261u };
}

static uint8_t speech_byte(struct speech *s)
{
	uint8_t byte;

	s->state ^= s->state << 13;
	s->state ^= s->state >> 17;
	s->state ^= s->state << 5;
	byte = s->state >> 11;
	s->sum = (s->sum ^ byte) * 16777619u;
	s->done++;
	return byte;
}

/* The size of the next packet */
static unsigned int speech_packet(struct speech *s, unsigned long left)
{
	unsigned int nr = sizeof(packet_sizes) / sizeof(packet_sizes[0]);
	unsigned int size = packet_sizes[s->packet++ % nr];

	return size < left ? size : left;
}

static int fail(const char *what)
{
	printf("%s: errno %d\n", what, errno);
	return -1;
}

static int say(int fd, struct speech *s, unsigned long bytes)
{
	while (s->done < bytes) {
		unsigned int size = speech_packet(s, bytes - s->done), i;

		for (i = 0; i < size; i++)
			data[i] = speech_byte(s);
		if (syscall(__NR_sendto, fd, data, (long)size,
			    MSG_EOR | MSG_NOSIGNAL, 0L, 0) != (long)size)
			return fail("send");
	}
	printf("sent %lu sum %x\n", s->done, s->sum);
	return 0;
}

/*
 * Gives 0 at the end. A receiver that waits while its peer closes is told
 * ENOTCONN, one that comes later 0: the socket is no longer connected.
 */
static long receive(int fd, void *buffer, long size)
{
	long got = syscall(__NR_recvfrom, fd, buffer, size, 0, 0L, 0L);

	return got < 0 && errno == ENOTCONN ? 0 : got;
}

/* Gives 1 if the peer closed before it said anything */
static int hear(int fd, struct speech *s, unsigned long bytes, int type)
{
	while (s->done < bytes) {
		long got = receive(fd, data, sizeof(data)), i;
		unsigned int size = speech_packet(s, bytes - s->done);

		if (got < 0)
			return fail("receive");
		if (!got && !s->done)
			return 1;
		if (!got || (type == SOCK_SEQPACKET && got != size)) {
			printf("receive: %ld bytes instead of %u, after %lu\n", got, size, s->done);
			return -1;
		}
		for (i = 0; i < got; i++) {
			if ((uint8_t)data[i] != speech_byte(s)) {
				printf("receive: byte %lu is wrong\n", s->done - 1);
				return -1;
			}
		}
	}
	printf("received %lu sum %x\n", s->done, s->sum);
	return 0;
}

/* The length of what comes, so that the listener knows how much to expect */
static int exchange_length(int fd, unsigned long *bytes, int send)
{
	char text[16] = "";
	long done;

	if (send) {
		memcpy(text, bytes, sizeof(*bytes));
		done = syscall(__NR_sendto, fd, text, (long)sizeof(*bytes),
			       MSG_EOR | MSG_NOSIGNAL, 0L, 0);
	} else {
		done = receive(fd, text, sizeof(*bytes));
		memcpy(bytes, text, sizeof(*bytes));
	}
	if (!done)
		return 1;
	return done == (long)sizeof(*bytes) ? 0 : fail("length");
}

static void padded(char field[8], const char *text)
{
	size_t len = strlen(text);

	memset(field, ' ', 8);
	memcpy(field, text, len < 8 ? len : 8);
}

static int serve(int fd, int type)
{
	struct speech theirs, ours;
	unsigned long bytes;
	char byte;
	long got;
	int ret;

	ret = exchange_length(fd, &bytes, 0);
	if (!ret) {
		speech_init(&theirs, 1);
		speech_init(&ours, 2);
		ret = hear(fd, &theirs, bytes, type);
		if (!ret)
			ret = say(fd, &ours, bytes);
		if (ret)
			return ret;
		got = receive(fd, &byte, 1);
		if (got) {
			printf("%ld bytes instead of the end: errno %d\n", got, errno);
			return -1;
		}
	}
	if (ret < 0)
		return ret;
	printf("closed by peer\n");
	return 0;
}

static int listen_for(int fd, int type, struct sockaddr_iucv *addr, int count)
{
	struct sockaddr_iucv peer;
	int len, ret = 0, from;

	if (syscall(__NR_bind, fd, addr, (int)sizeof(*addr)))
		return fail("bind");
	if (syscall(__NR_listen, fd, 5))
		return fail("listen");
	printf("listening\n");
	fflush(stdout);
	while (count-- && !ret) {
		len = sizeof(peer);
		from = syscall(__NR_accept4, fd, &peer, &len, 0);
		if (from < 0)
			return fail("accept");
		printf("connected with %.8s\n", peer.user_id);
		fflush(stdout);
		ret = serve(from, type);
		fflush(stdout);
		close(from);
	}
	return ret;
}

static int connect_to(int fd, int type, struct sockaddr_iucv *addr, unsigned long bytes)
{
	struct speech theirs, ours;
	int ret;

	if (syscall(__NR_connect, fd, addr, (int)sizeof(*addr)))
		return fail("connect");
	printf("connected\n");
	fflush(stdout);
	if (!bytes) {
		for (;;)
			sleep(1000);
	}
	speech_init(&ours, 1);
	speech_init(&theirs, 2);
	ret = exchange_length(fd, &bytes, 1);
	if (!ret)
		ret = say(fd, &ours, bytes);
	if (!ret)
		ret = hear(fd, &theirs, bytes, type);
	return ret;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: iucv_talk listen  stream|packet NAME [COUNT]\n"
		"       iucv_talk connect stream|packet USER NAME BYTES\n"
		"       iucv_talk hold    stream|packet USER NAME\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct sockaddr_iucv addr = { .family = AF_IUCV };
	int type, fd, ret;

	if (argc < 4)
		return usage();
	if (!strcmp(argv[2], "stream"))
		type = SOCK_STREAM;
	else if (!strcmp(argv[2], "packet"))
		type = SOCK_SEQPACKET;
	else
		return usage();
	fd = syscall(__NR_socket, AF_IUCV, type, 0);
	if (fd < 0) {
		fail("socket");
		return 1;
	}
	if (!strcmp(argv[1], "listen") && argc <= 5) {
		padded(addr.user_id, "");
		padded(addr.name, argv[3]);
		ret = listen_for(fd, type, &addr, argc == 5 ? atoi(argv[4]) : 1);
	} else if (!strcmp(argv[1], "connect") && argc == 6 && atol(argv[5]) > 0) {
		padded(addr.user_id, argv[3]);
		padded(addr.name, argv[4]);
		ret = connect_to(fd, type, &addr, atol(argv[5]));
	} else if (!strcmp(argv[1], "hold") && argc == 5) {
		padded(addr.user_id, argv[3]);
		padded(addr.name, argv[4]);
		ret = connect_to(fd, type, &addr, 0);
	} else {
		return usage();
	}
	fflush(stdout);
	close(fd);
	return ret ? 1 : 0;
}
