// SPDX-License-Identifier: GPL-2.0
/*
 * Works on files and on memory in every way there is, and knows what each byte
 * must be: for page states under which the hypervisor takes pages at random.
 *
 *   page_hint_torture [-s SECONDS] [-r SEED] [-a MIB] FS:DEVICE...
 *
 * mounts each device, which must be empty, and lets workers work on it, each with
 * files of its own. One of erofs is only read: its folders 0 and 1 have files of
 * 4 MiB, 0 to 4, whose cells have the stamps 1, 2 and so on, from one file to the
 * next. One more worker has MIB of memory. A shaker drops caches, compacts, splits
 * huge pages, takes memory, and switches volatile page cache off and on; another
 * one sweeps, and a third one makes file systems read-only for a moment. After each
 * round everything is unmounted, mounted and looked at.
 *
 * A file consists of cells of 512 bytes. Each has a stamp, from which its content
 * follows; stamp 0 is zeroes. No stamp is used twice by a worker, so a cell that
 * is lost, stale or in a wrong place is found. The stamps that a file must have
 * are in memory that a worker shares with its companion, who reads the same files
 * at the same time, and believes what it read if no stamp changed meanwhile.
 *
 * Those who shake, sweep and mount come first: there are many who work.
 *
 * Ends with 0 if there were no differences. The first one ends it. Says how often
 * each thing was done, also if it never was.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/fadvise.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include "cells.h"

#define PAGE 4096UL
#define CELLS_A_PAGE (PAGE / CELL)
#define WORDS (CELL / sizeof(uint64_t))
#define FILES 5			/* of each worker */
#define FILE_CELLS 8192U	/* 4 MiB */
#define MOST 512U		/* cells of one operation */
#define FILE_SYSTEMS 4
#define WORKERS 2		/* for each file system */
#define ROUND 15		/* seconds */
#define DROP 5			/* seconds between two times that all caches are dropped */
#define DEEDS 64
#define EARLY 512		/* pages of memory */
#define FIRST (-10)		/* nice */

#define fallthrough __attribute__((__fallthrough__))

#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_SEQ_CST)

struct file {
	uint32_t generation;		/* odd while the file changes its shape */
	uint32_t cells;			/* its size */
	uint32_t name;
	uint32_t now[FILE_CELLS];	/* the stamps */
	uint32_t next[FILE_CELLS];	/* what is being written, else as now */
};

struct worker {
	uint32_t stamps;
	struct file files[FILES];
};

/* How often something was done. */
struct deed {
	const char *name;
	uint64_t times;
};

struct shared {
	uint32_t stop;
	uint32_t failed;
	uint32_t quiet;			/* file systems that nobody shall write to */
	struct deed deeds[DEEDS];
	uint64_t operations;
	uint64_t cells;			/* that were looked at */
	uint64_t companion_cells;
	struct worker workers[FILE_SYSTEMS * WORKERS];
};

struct file_system {
	const char *type, *device;
	char where[32];
	bool read_only;
};

static struct file_system systems[FILE_SYSTEMS];
static int nr_systems;
static struct shared *shared;
static struct worker *me;
static char folder[64];
static bool read_only;
static uint32_t quiet_bit;		/* of the file system, in `quiet` */
static uint64_t random_state;
static unsigned char *buffer;
static const char *doing = "nothing";
static pid_t children[FILE_SYSTEMS * WORKERS * 2 + 4];
static int nr_children;
static size_t memory_size = 64 << 20;

/* --- small things ------------------------------------------------------------ */

static uint64_t random64(void)
{
	random_state += 0x9e3779b97f4a7c15ULL;
	uint64_t z = random_state;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* A number below n. */
static unsigned int any(unsigned int n)
{
	return n ? random64() % n : 0;
}

static void say(const char *format, ...)
{
	char line[400];
	va_list list;
	int len;

	va_start(list, format);
	len = vsnprintf(line, sizeof(line), format, list);
	va_end(list);
	if (len > (int)sizeof(line) - 1)
		len = sizeof(line) - 1;
	write(1, line, len);
}

static void give_up(void)
{
	STORE(shared->failed, 1);
	STORE(shared->stop, 1);
	exit(1);
}

/* For what can only fail if something is wrong. */
static long must(long result, const char *what)
{
	if (result < 0) {
		say("torture: %s: %s: %s: errno %d\n", folder, doing, what, errno);
		give_up();
	}
	return result;
}

static void *map(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	void *memory = mmap(at, size, prot, flags, fd, offset);

	if (memory == MAP_FAILED)
		must(-1, "mmap");
	return memory;
}

static void *memory(size_t size, int sharing)
{
	return map(NULL, size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
}

static void madvise(void *at, size_t size, int advice)
{
	/* Advice that cannot be followed is none that is needed. */
	_syscall(__NR_madvise, at, size, advice);
}

static bool file_says(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool done = fd >= 0 && write(fd, text, strlen(text)) > 0;

	if (fd >= 0)
		close(fd);
	return done;
}

/* Counts what was done. All processes have the names at the same places. */
static void did(const char *name, uint64_t times)
{
	for (struct deed *deed = shared->deeds; deed < shared->deeds + DEEDS; deed++) {
		const char *none = NULL;

		__atomic_compare_exchange_n(&deed->name, &none, name, false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		if (!strcmp(deed->name, name)) {
			__atomic_fetch_add(&deed->times, times, __ATOMIC_RELAXED);
			return;
		}
	}
}

/*
 * One kind after the other, so that few operations leave none out; workers begin
 * with different ones.
 */
static unsigned int in_turn(unsigned int *turn, unsigned int kinds)
{
	return ((me - shared->workers) * 2 + (*turn)++) % kinds;
}

/* --- cells ------------------------------------------------------------------- */

static void fill(void *cells, const uint32_t *stamps, unsigned int n)
{
	uint64_t *at = cells;

	for (; n; n--, stamps++)
		for (unsigned int i = 0; i < WORDS; i++)
			*at++ = cell_word(*stamps, i);
}

/* The first cell that is not what its stamp says, or n. */
static unsigned int differs(const void *cells, const uint32_t *stamps, unsigned int n)
{
	const uint64_t *at = cells;

	for (unsigned int cell = 0; cell < n; cell++)
		for (unsigned int i = 0; i < WORDS; i++)
			if (*at++ != cell_word(stamps[cell], i))
				return cell;
	return n;
}

/* The inverse of cell_word(stamp, 0). */
static uint32_t stamp_of(const void *cell)
{
	return *(const uint64_t *)cell * 0xf1de83e19937733dULL >> 6;
}

static void expect(const void *cells, const uint32_t *stamps, unsigned int first, unsigned int n)
{
	unsigned int bad = differs(cells, stamps, n);
	const unsigned char *cell = (const unsigned char *)cells + bad * CELL;

	__atomic_fetch_add(&shared->cells, n, __ATOMIC_RELAXED);
	if (bad == n)
		return;
	say("torture: DIFFERENCE %s, %s: cell %u of %u+%u: stamp %x (%lx %lx), not %x\n",
	    folder, doing, first + bad, first, n, stamp_of(cell), ((uint64_t *)cell)[0],
	    ((uint64_t *)cell)[1], stamps[bad]);
	give_up();
}

/* --- files ------------------------------------------------------------------- */

static int open_file(const struct file *file, int flags)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%u", folder, LOAD(file->name));
	if (read_only)
		flags &= ~O_RDWR;
	else
		flags |= O_CREAT;
	return open(path, flags, 0600);
}

static int must_open(const struct file *file, int flags)
{
	int fd;

	/* The file system may be read-only for a moment. */
	while ((fd = open_file(file, flags)) < 0 && errno == EROFS)
		usleep(1000);
	return must(fd, "open");
}

static void begin_shape(struct file *file)
{
	STORE(file->generation, file->generation + 1);
}

static void set_stamps(struct file *file, unsigned int at, const uint32_t *stamps, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		file->now[at + i] = file->next[at + i] = stamps ? stamps[i] : 0;
}

static void end_shape(struct file *file, unsigned int cells)
{
	file->cells = cells;
	STORE(file->generation, file->generation + 1);
}

/* Fills the buffer with new content for cells that are written. */
static void begin_write(struct file *file, unsigned int at, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		STORE(file->next[at + i], ++me->stamps);
	fill(buffer, file->next + at, n);
}

static void end_write(struct file *file, unsigned int at, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		STORE(file->now[at + i], file->next[at + i]);
}

static void all(long done, unsigned int n, const char *what)
{
	must(done, what);
	if (done != (long)(n * CELL)) {
		say("torture: %s: %s: %s: %ld bytes, not %lu\n", folder, doing, what, done,
		    n * CELL);
		give_up();
	}
}

/* A range of cells of a file, at page borders if a file system wants that. */
static unsigned int range(unsigned int cells, unsigned int *n, bool pages)
{
	unsigned int step = pages ? CELLS_A_PAGE : 1, at;

	if (cells < step) {
		*n = 0;
		return 0;
	}
	at = any(cells / step) * step;
	*n = (any((any(4) ? MOST / 8 : MOST) / step) + 1) * step;
	if (at + *n > cells)
		*n = (cells - at) / step * step;
	return at;
}

/* The file's pages that have a range, mapped; *cells is where the range is. */
static void *map_range(int fd, unsigned int at, unsigned int n, int prot, int flags,
		       unsigned char **cells, size_t *size)
{
	off_t start = at * CELL & ~(PAGE - 1);
	unsigned char *pages;

	*size = (at + n) * CELL - start;
	pages = map(NULL, *size, prot, flags, fd, start);
	*cells = pages + (at * CELL - start);
	return pages;
}

enum { BUFFERED, DIRECT, MAPPED, UNCACHED, WRITE_KINDS };

static const char * const write_names[] = { "write", "O_DIRECT write", "mmap write",
	"uncached write" };

static void write_some(struct file *file)
{
	static unsigned int turn;
	unsigned int kind = in_turn(&turn, WRITE_KINDS), n, at, cells = file->cells;
	int fd;

	/* Often beyond the end. */
	at = kind == MAPPED ? range(cells, &n, false) :
	     range(any(2) ? FILE_CELLS : cells, &n, kind == DIRECT);
	if (!n)
		return;
	fd = must_open(file, O_RDWR | (kind == DIRECT ? O_DIRECT : 0));
	if (at + n > cells)
		begin_shape(file);
	begin_write(file, at, n);
	doing = write_names[kind];
	if (kind == MAPPED) {
		unsigned char *to;
		size_t size;
		void *pages;

		pages = map_range(fd, at, n, PROT_READ | PROT_WRITE, MAP_SHARED, &to, &size);
		memcpy(to, buffer, n * CELL);
		if (!any(8))
			must(syscall(__NR_msync, pages, size, MS_SYNC), "msync");
		munmap(pages, size);
	} else {
		struct { void *base; size_t size; } part = { buffer, n * CELL };
		long done = -1;

		if (kind == UNCACHED)
			done = syscall(__NR_pwritev2, fd, &part, 1, at * CELL, 0, RWF_DONTCACHE);
		if (done < 0)
			done = syscall(__NR_pwrite64, fd, buffer, n * CELL, at * CELL);
		all(done, n, "pwrite");
	}
	end_write(file, at, n);
	if (at + n > cells)
		end_shape(file, at + n);
	close(fd);
	did(doing, 1);
}

/* Reads through a pipe, whose pages are those of the page cache. */
static long spliced(int fd, off_t at, unsigned char *to, size_t size)
{
	size_t done = 0;
	int ends[2];

	must(pipe(ends), "pipe");
	while (done < size) {
		long more = syscall(__NR_splice, fd, &at, ends[1], NULL, size - done, 0);

		if (more <= 0)
			break;
		/* The host has time to take them, and the sweeper to try. */
		if (!any(8))
			usleep(any(3000));
		while (more) {
			long got = must(read(ends[0], to + done, more), "read of a pipe");

			done += got;
			more -= got;
		}
	}
	close(ends[0]);
	close(ends[1]);
	return done;
}

enum {
	READ, READ_DIRECT, READ_MAPPED, READ_PRIVATE, READ_SPLICED, READ_NOWAIT, READ_AHEAD,
	READ_UNCACHED, READ_POPULATED, READ_KINDS
};

static const char * const read_names[] = { "read", "O_DIRECT read", "mmap read", "private mmap",
	"splice", "RWF_NOWAIT read", "readahead", "uncached read", "populated mmap" };

static void read_some(const struct file *file, int fd, unsigned int kind)
{
	struct { void *base; size_t size; } part = { buffer, 0 };
	unsigned int n, at = range(file->cells, &n, false);
	unsigned char *cells = buffer;
	void *pages = NULL;
	size_t size;
	long done;

	if (!n)
		return;
	doing = read_names[kind];
	part.size = n * CELL;
	switch (kind) {
	case READ_MAPPED:
		pages = map_range(fd, at, n, PROT_READ, MAP_SHARED, &cells, &size);
		if (!any(4))
			madvise(pages, size, any(2) ? MADV_WILLNEED : MADV_COLLAPSE);
		break;
	case READ_POPULATED:
		pages = map_range(fd, at, n, PROT_READ, MAP_SHARED | MAP_POPULATE, &cells, &size);
		break;
	case READ_PRIVATE:
		pages = map_range(fd, at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE, &cells, &size);
		break;
	case READ_SPLICED:
		all(spliced(fd, at * CELL, buffer, n * CELL), n, "splice");
		break;
	case READ_NOWAIT:
	case READ_UNCACHED:
		done = syscall(__NR_preadv2, fd, &part, 1, at * CELL, 0,
			       kind == READ_NOWAIT ? RWF_NOWAIT : RWF_DONTCACHE);
		if (done < 0 && errno != EAGAIN && errno != EOPNOTSUPP)
			must(-1, "preadv2");
		/* What is not there without waiting is not given. */
		n = done < 0 ? 0 : done / CELL;
		break;
	case READ_AHEAD:
		must(syscall(__NR_readahead, fd, at * CELL, n * CELL), "readahead");
		fallthrough;
	default:
		all(syscall(__NR_pread64, fd, buffer, n * CELL, at * CELL), n, "pread");
	}
	expect(cells, file->now + at, at, n);
	if (kind == READ_PRIVATE) {
		/* What is written there is nobody else's. */
		memset(cells, 0xa5, n * CELL);
		all(syscall(__NR_pread64, fd, buffer, n * CELL, at * CELL), n, "pread");
		expect(buffer, file->now + at, at, n);
		for (unsigned int i = 0; i < n * CELL; i++)
			if (cells[i] != 0xa5) {
				say("torture: DIFFERENCE %s: private copy\n", folder);
				give_up();
			}
	}
	if (pages) {
		if (!any(4))
			madvise(pages, size, MADV_PAGEOUT);
		munmap(pages, size);
	}
	did(read_names[kind], 1);
}

static void read_mine(struct file *file)
{
	unsigned int kind = any(READ_KINDS);
	int fd = must_open(file, O_RDONLY | (kind == READ_DIRECT ? O_DIRECT : 0));

	read_some(file, fd, kind);
	close(fd);
}

enum {
	COPY_RANGE, COPY_SENDFILE, COPY_FROM_MAP, COPY_DIRECT_FROM_MAP, COPY_INTO_MAP,
	COPY_DIRECT_INTO_MAP, COPY_KINDS
};

static const char * const copy_names[] = { "copy_file_range", "sendfile", "write from mmap",
	"O_DIRECT write from mmap", "read into mmap", "O_DIRECT read into mmap" };

static void copy_some(struct file *from, struct file *to)
{
	static unsigned int turn;
	unsigned int kind = in_turn(&turn, COPY_KINDS), n, at, there;
	bool into = kind == COPY_INTO_MAP || kind == COPY_DIRECT_INTO_MAP;
	bool direct = kind == COPY_DIRECT_FROM_MAP || kind == COPY_DIRECT_INTO_MAP;
	unsigned char *cells;
	off_t here, target;
	size_t size, left;
	long done;
	void *pages;
	int in, out;

	/* The same page in both would be read and written at once. */
	if (from == to)
		return;
	at = range(from->cells, &n, true);
	there = any(FILE_CELLS / CELLS_A_PAGE) * CELLS_A_PAGE;
	if (!n || there + n > FILE_CELLS || (into && there + n > to->cells))
		return;
	doing = copy_names[kind];
	in = must_open(from, O_RDWR | (kind == COPY_DIRECT_INTO_MAP ? O_DIRECT : 0));
	out = must_open(to, O_RDWR | (kind == COPY_DIRECT_FROM_MAP ? O_DIRECT : 0));
	begin_shape(to);
	here = at * CELL;
	target = there * CELL;
	left = n * CELL;
	switch (kind) {
	case COPY_RANGE:
	case COPY_SENDFILE:
		if (kind == COPY_SENDFILE)
			must(lseek(out, target, SEEK_SET), "lseek");
		for (; left; left -= done) {
			done = kind == COPY_RANGE ?
				syscall(__NR_copy_file_range, in, &here, out, &target, left, 0) :
				syscall(__NR_sendfile, out, in, &here, left);
			if (must(done, doing) == 0)
				break;
		}
		all(n * CELL - left, n, doing);
		break;
	default:
		pages = map_range(into ? out : in, into ? there : at, n, PROT_READ | PROT_WRITE,
				  MAP_SHARED, &cells, &size);
		done = into ? syscall(__NR_pread64, in, cells, n * CELL, here) :
			      syscall(__NR_pwrite64, out, cells, n * CELL, target);
		all(done, n, doing);
		munmap(pages, size);
	}
	set_stamps(to, there, from->now + at, n);
	end_shape(to, there + n > to->cells ? there + n : to->cells);
	if (direct && !any(4))
		must(syscall(__NR_fsync, out), "fsync");
	close(in);
	close(out);
	did(copy_names[kind], 1);
}

enum { TRUNCATE, EXTEND, PUNCH, ZERO, COLLAPSE, INSERT, ALLOCATE, RENAME, RECREATE, SHAPES };
static const char * const shape_names[] = { "truncate", "extend", "punch", "zero range",
	"collapse range", "insert range", "allocate", "rename", "recreate" };

static void shape(struct file *file)
{
	static unsigned int turn;
	unsigned int kind = in_turn(&turn, SHAPES), n, at, cells = file->cells;
	int fd = must_open(file, O_RDWR);
	bool done = true;
	int mode;

	doing = shape_names[kind];
	at = range(cells, &n, kind == COLLAPSE || kind == INSERT);
	begin_shape(file);
	switch (kind) {
	case TRUNCATE:
		must(ftruncate(fd, at * CELL), doing);
		set_stamps(file, at, NULL, cells - at);
		cells = at;
		break;
	case EXTEND:
		cells += any(FILE_CELLS - cells + 1);
		must(ftruncate(fd, cells * CELL), doing);
		break;
	case PUNCH:
	case ZERO:
		mode = FALLOC_FL_KEEP_SIZE | (kind == PUNCH ? FALLOC_FL_PUNCH_HOLE :
					      FALLOC_FL_ZERO_RANGE);
		done = n;
		if (!done)
			break;
		must(syscall(__NR_fallocate, fd, mode, at * CELL, n * CELL), doing);
		set_stamps(file, at, NULL, n);
		break;
	case COLLAPSE:
		done = n && at + n < cells;
		if (!done)
			break;
		must(syscall(__NR_fallocate, fd, FALLOC_FL_COLLAPSE_RANGE, at * CELL, n * CELL),
		     doing);
		memmove(file->now + at, file->now + at + n, (cells - at - n) * sizeof(uint32_t));
		set_stamps(file, cells - n, NULL, n);
		memcpy(file->next, file->now, sizeof(file->now));
		cells -= n;
		break;
	case INSERT:
		done = n && cells + n <= FILE_CELLS;
		if (!done)
			break;
		must(syscall(__NR_fallocate, fd, FALLOC_FL_INSERT_RANGE, at * CELL, n * CELL),
		     doing);
		memmove(file->now + at + n, file->now + at, (cells - at) * sizeof(uint32_t));
		set_stamps(file, at, NULL, n);
		memcpy(file->next, file->now, sizeof(file->now));
		cells += n;
		break;
	case ALLOCATE:
		must(syscall(__NR_fallocate, fd, FALLOC_FL_KEEP_SIZE, 0, FILE_CELLS * CELL), doing);
		break;
	case RENAME: {
		char old[96], new[96];

		snprintf(old, sizeof(old), "%s/%u", folder, file->name);
		snprintf(new, sizeof(new), "%s/%u", folder, file->name + FILES);
		must(syscall(__NR_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0), doing);
		STORE(file->name, file->name + FILES);
		break;
	}
	case RECREATE: {
		char old[96];

		snprintf(old, sizeof(old), "%s/%u", folder, file->name);
		must(unlink(old), "unlink");
		/* Its content is still there for who has it open. */
		read_some(file, fd, any(2) ? READ : READ_MAPPED);
		set_stamps(file, 0, NULL, cells);
		cells = 0;
		close(fd);
		fd = must_open(file, O_RDWR);
		break;
	}
	}
	end_shape(file, cells);
	close(fd);
	did(shape_names[kind], done);
}

enum { FORGET, WILL_NEED, DATASYNC, SYNC_RANGE, SYNC, ADVICES };

static const char * const advice_names[] = { "POSIX_FADV_DONTNEED", "POSIX_FADV_WILLNEED",
	"fdatasync", "sync_file_range", "fsync" };

static void advise(struct file *file)
{
	int fd = must_open(file, O_RDWR);
	static unsigned int turn;
	unsigned int kind = in_turn(&turn, ADVICES), n, at = range(file->cells, &n, false);
	long done;

	doing = advice_names[kind];
	switch (kind) {
	case FORGET:
	case WILL_NEED:
		done = syscall(__NR_fadvise64, fd, at * CELL, n * CELL,
			       kind == FORGET ? POSIX_FADV_DONTNEED : POSIX_FADV_WILLNEED);
		break;
	case DATASYNC:
		done = syscall(__NR_fdatasync, fd);
		break;
	case SYNC_RANGE:
		done = syscall(__NR_sync_file_range, fd, at * CELL, n * CELL, 7);
		break;
	default:
		done = syscall(__NR_fsync, fd);
	}
	must(done, doing);
	close(fd);
	did(doing, 1);
}

/* --- those who work ---------------------------------------------------------- */

static bool going_on(void)
{
	return !LOAD(shared->stop);
}

static void work(void)
{
	while (going_on()) {
		struct file *file = &me->files[any(FILES)];
		bool reads = read_only || LOAD(shared->quiet) & quiet_bit;
		unsigned int what = reads ? 30 : any(100);

		if (what < 25)
			write_some(file);
		else if (what < 62)
			read_mine(file);
		else if (what < 75)
			copy_some(file, &me->files[any(FILES)]);
		else if (what < 85)
			shape(file);
		else if (what < 93)
			advise(file);
		else
			usleep(any(10000));
		__atomic_fetch_add(&shared->operations, 1, __ATOMIC_RELAXED);
	}
}

/* Reads what another one works on. */
static void accompany(void)
{
	static uint32_t stamps[MOST];

	doing = "read by the companion";
	while (going_on()) {
		const struct file *file = &me->files[any(FILES)];
		uint32_t generation = LOAD(file->generation);
		unsigned int n, at = range(LOAD(file->cells), &n, false);
		bool same = !(generation & 1);
		char path[96];
		long done;
		int fd;

		for (unsigned int i = 0; i < n && same; i++) {
			stamps[i] = LOAD(file->now[at + i]);
			same = stamps[i] == LOAD(file->next[at + i]);
		}
		usleep(any(4000));
		if (!n || !same)
			continue;
		snprintf(path, sizeof(path), "%s/%u", folder, LOAD(file->name));
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		done = any(4) ? syscall(__NR_pread64, fd, buffer, n * CELL, at * CELL) :
				spliced(fd, at * CELL, buffer, n * CELL);
		close(fd);
		for (unsigned int i = 0; i < n && same; i++)
			same = LOAD(file->next[at + i]) == stamps[i];
		if (!same || LOAD(file->generation) != generation)
			continue;
		all(done, n, "pread");
		expect(buffer, stamps, at, n);
		did(doing, 1);
		__atomic_fetch_add(&shared->companion_cells, n, __ATOMIC_RELAXED);
	}
}

enum { FORGET_MEMORY, PAGE_OUT, MAP_AGAIN, FORK, REMEMBER, MEMORY_KINDS };

static const char * const memory_names[] = { "MADV_DONTNEED", "MADV_PAGEOUT", "a new mapping",
	"fork", "look at memory" };

static void look_at_page(const unsigned char *page, const uint32_t *stamps, unsigned int i)
{
	expect(page, stamps + i, i, 1);
	expect(page + PAGE - CELL, stamps + i, i, 1);
}

static void renew_page(unsigned char *page, uint32_t *stamp, uint32_t new)
{
	*stamp = new;
	fill(page, stamp, 1);
	fill(page + PAGE - CELL, stamp, 1);
}

/* Anonymous memory: pages with a cell each at their ends. */
static void remember(void)
{
	unsigned int pages = memory_size / PAGE;
	uint32_t *stamps = memory(pages * sizeof(uint32_t), MAP_PRIVATE), last = 0;
	unsigned char *all_of_it = memory(memory_size, MAP_PRIVATE);

	snprintf(folder, sizeof(folder), "memory");
	madvise(all_of_it, memory_size / 2, MADV_HUGEPAGE);
	/* What is swapped out now has left memory by the end, however little is done until then. */
	for (unsigned int i = 0; i < EARLY; i++)
		renew_page(all_of_it + i * PAGE, stamps + i, ++last);
	madvise(all_of_it, EARLY * PAGE, MADV_PAGEOUT);
	while (going_on()) {
		unsigned int n = any(256) + 1, at = any(pages - n);
		unsigned char *first = all_of_it + at * PAGE;
		unsigned int kind = any(8);
		pid_t child = -1;
		int status;

		kind = kind < REMEMBER ? kind : REMEMBER;
		doing = memory_names[kind];
		switch (kind) {
		case FORGET_MEMORY:
			madvise(first, n * PAGE, MADV_DONTNEED);
			memset(stamps + at, 0, n * sizeof(*stamps));
			break;
		case PAGE_OUT:
			madvise(first, n * PAGE, MADV_PAGEOUT);
			break;
		case MAP_AGAIN:
			map(first, n * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			memset(stamps + at, 0, n * sizeof(*stamps));
			break;
		case FORK:
			child = must(fork(), "fork");
			fallthrough;
		default:
			for (unsigned int i = at; i < at + n; i++) {
				unsigned char *page = all_of_it + i * PAGE;

				look_at_page(page, stamps, i);
				renew_page(page, stamps + i, ++last);
			}
		}
		if (!child)
			exit(0);
		if (child > 0 && (must(waitpid(child, &status, 0), "waitpid"), status)) {
			say("torture: a child of the memory ended with %x\n", status);
			give_up();
		}
		did(doing, 1);
		__atomic_fetch_add(&shared->operations, 1, __ATOMIC_RELAXED);
	}
	/* What was swapped out comes back. */
	doing = "look at all memory";
	for (unsigned int i = 0; i < pages && !LOAD(shared->failed); i++)
		look_at_page(all_of_it + i * PAGE, stamps, i);
}

enum { DROP_PAGES, DROP_ALL, COMPACT, SPLIT, STABLE, HOG, SYNC_ALL, SHAKES };

static const char * const shake_names[] = { "drop_caches 1", "drop_caches 3", "compact_memory",
	"split_huge_pages", "no page cache volatile", "take memory", "sync" };

static void shake(void)
{
	static const char * const files[][2] = {
		[DROP_PAGES] = { "/proc/sys/vm/drop_caches", "1" },
		[DROP_ALL] = { "/proc/sys/vm/drop_caches", "3" },
		[COMPACT] = { "/proc/sys/vm/compact_memory", "1" },
		[SPLIT] = { "/sys/kernel/debug/split_huge_pages", "1" },
		[STABLE] = { "/proc/sys/vm/page_hint_volatile", "0" },
	};
	static const unsigned char often[] = { COMPACT, HOG, SPLIT, SYNC_ALL, STABLE };
	time_t dropped = time(NULL);
	unsigned int drops = any(2), shakes = any(sizeof(often));

	/* No word in the log for each of the many times. */
	file_says("/proc/sys/vm/drop_caches", "4");
	while (going_on()) {
		unsigned int deed = often[shakes++ % sizeof(often)];
		unsigned char *hog;

		usleep(20000 + any(200000));
		/* Seldom: it leaves nothing that could be reclaimed. */
		if (time(NULL) - dropped >= DROP) {
			dropped = time(NULL);
			deed = drops++ % 2 ? DROP_ALL : DROP_PAGES;
		}
		if (deed == HOG) {
			hog = memory(memory_size / 2, MAP_PRIVATE);
			for (size_t at = 0; at < memory_size / 2; at += PAGE)
				hog[at] = 1;
			munmap(hog, memory_size / 2);
		} else if (deed == SYNC_ALL) {
			syscall(__NR_sync);
		} else if (deed == STABLE && !file_says("/proc/sys/vm/page_hint_mapped", "0")) {
			continue;
		} else if (!file_says(files[deed][0], files[deed][1])) {
			continue;
		}
		did(shake_names[deed], 1);
		file_says("/proc/sys/vm/page_hint_volatile", "1");
		file_says("/proc/sys/vm/page_hint_mapped", "1");
	}
}

/* Without an age, each folio that can be volatile soon is. */
static void sweep(void)
{
	while (going_on()) {
		if (!file_says("/proc/sys/vm/page_hint_age", "0"))
			return;
		usleep(20000);
	}
}

enum { READ_ONLY, BUSY, WRITABLE, REMOUNTS };

static const char * const remount_names[] = { "remount ro", "remount ro of a busy one",
	"remount rw" };

/*
 * Makes one file system after the other read-only, and writable again soon. Those
 * who work on it only read meanwhile; one who writes still keeps it busy.
 */
static void remount(void)
{
	const unsigned long ro = MS_REMOUNT | MS_RDONLY;

	while (going_on()) {
		unsigned int i = any(nr_systems);
		const struct file_system *fs = &systems[i];

		usleep(500000 + any(1000000));
		doing = fs->where;
		STORE(shared->quiet, 1U << i);
		for (int tries = 0; tries < 20; tries++) {
			long done = mount(fs->device, fs->where, fs->type, ro, NULL);

			if (done < 0 && errno != EBUSY)
				must(done, "remount ro");
			did(remount_names[done ? BUSY : READ_ONLY], 1);
			if (!done)
				break;
			usleep(20000);
		}
		usleep(50000);
		if (!fs->read_only) {
			must(mount(fs->device, fs->where, fs->type, MS_REMOUNT, NULL),
			     "remount rw");
			did(remount_names[WRITABLE], 1);
		}
		STORE(shared->quiet, 0);
	}
}

/* --- rounds ------------------------------------------------------------------ */

/* Makes a worker's files those that this process works on. */
static void enter(int number)
{
	const struct file_system *fs = &systems[number / WORKERS];

	me = &shared->workers[number];
	read_only = fs->read_only;
	quiet_bit = 1U << number / WORKERS;
	snprintf(folder, sizeof(folder), "%s/%d", fs->where, number % WORKERS);
}

/* Starts a child that does something until the round ends. */
static void start(void (*role)(void), int nice)
{
	pid_t child = must(fork(), "fork");

	if (!child) {
		must(syscall(__NR_setpriority, 0, 0, nice), "setpriority");
		random_state += (uint64_t)getpid() << 32;
		role();
		exit(0);
	}
	children[nr_children++] = child;
}

static void mount_all(void)
{
	for (int i = 0; i < nr_systems; i++) {
		struct file_system *fs = &systems[i];

		doing = fs->device;
		mkdir(fs->where, 0700);
		must(mount(fs->device, fs->where, fs->type, fs->read_only ? MS_RDONLY : 0, NULL),
		     "mount");
		for (unsigned int n = 0; n < WORKERS && !fs->read_only; n++) {
			snprintf(folder, sizeof(folder), "%s/%u", fs->where, n);
			mkdir(folder, 0700);
		}
	}
}

static void unmount_all(void)
{
	for (int i = 0; i < nr_systems; i++) {
		doing = systems[i].device;
		must(syscall(__NR_umount2, systems[i].where, 0), "umount");
	}
}

/* Everything, once: after a round, when the files are mounted again. */
static void look_at_all(void)
{
	for (int i = 0; i < nr_systems * WORKERS; i++) {
		enter(i);
		for (int f = 0; f < FILES; f++) {
			const struct file *file = &me->files[f];
			int fd = must_open(file, O_RDONLY);

			doing = "read after a round";
			for (unsigned int at = 0, n; at < file->cells; at += n) {
				n = file->cells - at < MOST ? file->cells - at : MOST;
				all(syscall(__NR_pread64, fd, buffer, n * CELL, at * CELL), n,
				    "pread");
				expect(buffer, file->now + at, at, n);
			}
			close(fd);
		}
	}
}

static void one_round(unsigned int seconds)
{
	int status;

	STORE(shared->stop, 0);
	nr_children = 0;
	for (int i = 0; i < nr_systems * WORKERS; i++) {
		enter(i);
		start(work, 0);
		start(accompany, 0);
	}
	start(remember, 0);
	start(shake, FIRST);
	start(sweep, FIRST);
	start(remount, FIRST);
	for (unsigned int i = 0; i < seconds * 10 && going_on(); i++)
		usleep(100000);
	STORE(shared->stop, 1);
	while (nr_children--) {
		must(waitpid(children[nr_children], &status, 0), "waitpid");
		/* A signal is a failure that nobody reports. */
		if (status & 0x7f) {
			say("torture: a worker died of signal %d\n", status & 0x7f);
			STORE(shared->failed, 1);
		}
	}
}

/* All there is to do, so that it is known what was not done. */
static void nothing_done(void)
{
	static const struct { const char * const *names; unsigned int n; } kinds[] = {
		{ write_names, WRITE_KINDS }, { read_names, READ_KINDS },
		{ copy_names, COPY_KINDS }, { shape_names, SHAPES }, { advice_names, ADVICES },
		{ memory_names, MEMORY_KINDS }, { shake_names, SHAKES },
		{ remount_names, REMOUNTS },
	};

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (unsigned int n = 0; n < kinds[i].n; n++)
			did(kinds[i].names[n], 0);
}

static int usage(void)
{
	say("usage: page_hint_torture [-s SECONDS] [-r SEED] [-a MIB] FS:DEVICE...\n");
	return 2;
}

int main(int argc, char *argv[])
{
	unsigned int seconds = 30, left;
	char *colon;

	shared = memory(sizeof(*shared), MAP_SHARED);
	buffer = memory(MOST * CELL, MAP_PRIVATE);
	random_state = 1;
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-' && i + 1 < argc) {
			unsigned int value = atoi(argv[i + 1]);

			switch (argv[i++][1]) {
			case 's':
				seconds = value;
				continue;
			case 'r':
				random_state = value;
				continue;
			case 'a':
				memory_size = (size_t)value << 20;
				continue;
			}
		}
		colon = strchr(argv[i], ':');
		if (!colon || nr_systems == FILE_SYSTEMS)
			return usage();
		*colon = '\0';
		systems[nr_systems].type = argv[i];
		systems[nr_systems].device = colon + 1;
		systems[nr_systems].read_only = !strcmp(argv[i], "erofs");
		snprintf(systems[nr_systems].where, sizeof(systems[0].where), "/mnt/torture%d",
			 nr_systems);
		nr_systems++;
	}
	for (int i = 0; i < nr_systems * WORKERS; i++) {
		for (int f = 0; f < FILES; f++) {
			struct file *file = &shared->workers[i].files[f];

			file->name = f;
			if (!systems[i / WORKERS].read_only)
				continue;
			file->cells = FILE_CELLS;
			for (unsigned int at = 0; at < FILE_CELLS; at++)
				file->now[at] = file->next[at] = f * FILE_CELLS + at + 1;
		}
	}

	nothing_done();
	/* Clean pages are what it is about. */
	file_says("/proc/sys/vm/dirty_writeback_centisecs", "20");
	file_says("/proc/sys/vm/dirty_expire_centisecs", "20");
	for (left = seconds; left && !LOAD(shared->failed);) {
		unsigned int now = left < ROUND * 2 ? left : ROUND;

		mount_all();
		one_round(now);
		if (!LOAD(shared->failed)) {
			unmount_all();
			mount_all();
			look_at_all();
		}
		unmount_all();
		left -= now;
	}
	for (const struct deed *deed = shared->deeds; deed->name; deed++)
		say("torture: did %s: %lu\n", deed->name, deed->times);
	say("torture: %lu operations, %lu cells looked at, %lu of them by companions, %s\n",
	    shared->operations, shared->cells, shared->companion_cells,
	    LOAD(shared->failed) ? "FAILED" : "no differences");
	return LOAD(shared->failed);
}
