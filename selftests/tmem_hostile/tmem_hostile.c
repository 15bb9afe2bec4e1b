// SPDX-License-Identifier: GPL-2.0
/*
 * Asks for transcendent memory as nobody should: blocks that are malformed, at
 * the boundaries of what is allowed, or random.
 *
 *   insmod tmem_hostile.ko storage=BYTES [blocks=N] [seed=N]
 *
 * What is due for each is told by a model made from
 * Documentation/arch/s390/coopmem/tmem-hypercall.rst: which return codes are
 * allowed, what the block holds afterwards, and what is in each frame of an
 * arena, the only frames that a get may reach. @storage is the size of the
 * guest. The module does not load if anything is wrong.
 *
 * The guest must have no other user of transcendent memory, and the
 * hypervisor room for some hundred pages.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <asm/asm-extable.h>
#include <asm/cpcmd.h>
#include <asm/lowcore.h>

static ulong storage;
module_param(storage, ulong, 0);
MODULE_PARM_DESC(storage, "size of the guest's storage, in bytes");

static uint blocks = 100000;
module_param(blocks, uint, 0);
MODULE_PARM_DESC(blocks, "how many random blocks to try");

static ulong seed = 1;
module_param(seed, ulong, 0);
MODULE_PARM_DESC(seed, "what they are made from");

enum { QUERY, POOL_CREATE, POOL_DESTROY, BATCH, STATS };
enum { PUT = 1, GET, GET_KEEP, FLUSH_RANGE, FLUSH_OBJECT };
enum { PERSISTENT = 1, EPHEMERAL };
enum { STOP_ON_ERROR = 1 };

/* Return codes; a set of them has their bits. */
enum {
	OK, MISS, REJECTED, AGAIN,
	BAD_POOL = 0x10, BAD_ADDR, BAD_LEN, BAD_FLAGS, BAD_OP, BAD_VERSION, BAD_EPOCH, DENIED,
};

/* Program interruptions. */
enum { NO_INTERRUPTION, ADDRESSING = 5, SPECIFICATION };

#define MAX_NR		63
#define MAX_PAGES	256
#define TO_THE_END	U32_MAX
#define NO_LIMIT	U64_MAX
#define ALL_POOLS	U32_MAX
#define MAX_POOLS	16

struct header {
	u32 magic;
	u16 version;
	u16 hdr_len;
	u16 ent_len;
	u16 nr;
	u16 done;
	u16 flags;
	u64 epoch;
	u64 rsvd[5];
};

struct entry {
	u16 op;
	u16 rc;
	u32 pool;
	u64 oid[3];
	u64 index;
	u64 addr;
	u32 nr_pages;
	u32 flags;
	u64 cookie;
};

struct pool_record {
	u32 pool;
	u32 flags;
	u16 page_shift;
	u16 rsvd1;
	u32 rsvd2;
	u64 quota;
	char label[16];
	u64 rsvd3[3];
};

struct stats_record {
	u32 pool;
	u32 rsvd;
	u64 pages;
	u64 rest[6];
};

struct block {
	struct header header;
	union {
		struct entry entries[MAX_NR];
		struct pool_record pool;
		struct stats_record stats;
		u16 query[32];
	};
};

static_assert(sizeof(struct block) == PAGE_SIZE);

/* The block, what it was before the call, and what it must be after it. */
static struct block *block, *before, *due;

/* Frames and the page that is in each. Gets reach those in the middle. */
#define ARENA_ORDER	4
#define ARENA		(1u << ARENA_ORDER)
static u8 *arena;
static u32 frames[ARENA];
#define FIRST		4
#define LAST		(ARENA - FIRST)

/*
 * The pages under the handles of two pools: of four objects, those at both ends
 * of the indexes. 0 is none.
 */
#define OBJECTS		4
#define INDEXES		64
struct pool {
	u32 id;
	u32 pages[OBJECTS][2 * INDEXES];
};

static struct pool pools[2];
static u64 epoch;
static u32 last_page;
static struct rnd_state rnd;
static unsigned long done_blocks, wrong;

static u32 random(u32 below)
{
	return prandom_u32_state(&rnd) % below;
}

static u64 random64(void)
{
	return (u64)prandom_u32_state(&rnd) << 32 | prandom_u32_state(&rnd);
}

#define one_of(...)							\
({									\
	const u64 those[] = { __VA_ARGS__ };				\
	those[random(ARRAY_SIZE(those))];				\
})

/* Something is not as it must be; the first cases are told. */
#define is_wrong(fmt, ...)						\
do {									\
	if (wrong++ < 20)						\
		pr_err("block %lu: " fmt "\n", done_blocks, ##__VA_ARGS__); \
} while (0)

/* The content of a page: that of each second one cannot be compressed. */
static u64 word(u32 page, unsigned int place)
{
	if (page % 2)
		return (page * 0x9e3779b97f4a7c15 + place) * 0xbf58476d1ce4e5b9;
	return (u64)page << 32 | page;
}

static u64 *frame(unsigned int number)
{
	return (u64 *)(arena + number * PAGE_SIZE);
}

static void fill(unsigned int number, u32 page)
{
	for (unsigned int place = 0; place < PAGE_SIZE / 8; place++)
		frame(number)[place] = word(page, place);
	frames[number] = page;
}

static void check_arena(void)
{
	for (unsigned int number = 0; number < ARENA; number++) {
		for (unsigned int place = 0; place < PAGE_SIZE / 8; place++) {
			if (frame(number)[place] == word(frames[number], place))
				continue;
			is_wrong("frame %u does not hold page %u: %#llx at %u", number,
				 frames[number], frame(number)[place], 8 * place);
			fill(number, frames[number]);
			break;
		}
	}
}

/* The number of the frame in the arena, or more than there are. */
static u64 frame_of(u64 addr)
{
	return (addr - virt_to_phys(arena)) >> PAGE_SHIFT;
}

static struct pool *pool_of(u32 id)
{
	for (unsigned int number = 0; number < ARRAY_SIZE(pools); number++) {
		if (pools[number].id == id)
			return &pools[number];
	}
	return NULL;
}

/* Where the model has a handle; NULL if nothing is ever put there. */
static u32 *page_at(struct pool *pool, const u64 oid[3], u64 index)
{
	u32 *pages = pool->pages[oid[0] + 2 * oid[2]];

	if (oid[0] > 1 || oid[1] || oid[2] > 1)
		return NULL;
	if (index < INDEXES)
		return &pages[index];
	if (index >= -(u64)INDEXES)
		return &pages[2 * INDEXES - 1 - ~index];
	return NULL;
}

static u64 count(struct pool *pool)
{
	u64 pages = 0;

	for (unsigned int object = 0; object < OBJECTS; object++) {
		for (unsigned int place = 0; place < 2 * INDEXES; place++)
			pages += pool->pages[object][place] != 0;
	}
	return pages;
}

/* Empties the handles from @index to @last. */
static void empty(struct pool *pool, const u64 oid[3], u64 index, u64 last)
{
	for (unsigned int place = 0; place < 2 * INDEXES; place++) {
		u64 each = place < INDEXES ? place : place - 2ull * INDEXES;

		if (each >= index && each <= last) {
			u32 *page = page_at(pool, oid, each);

			if (page)
				*page = 0;
		}
	}
}

/* DIAGNOSE X'1F4' with two of the registers 2 to 4, the first two of which are a pair. */
#define diagnose(rx, ry, r2, r3, r4, rc)				\
({									\
	int interrupted = 1;						\
									\
	asm volatile("	lgr	%%r2,%[in2]\n"				\
		     "	lgr	%%r3,%[in3]\n"				\
		     "	lgr	%%r4,%[in4]\n"				\
		     "	diag	%%r" #rx ",%%r" #ry ",0x1f4\n"		\
		     "0:	lhi	%[pgm],0\n"			\
		     "1:	lgr	%[out],%%r3\n"			\
		     EX_TABLE(0b, 1b)					\
		     : [pgm] "+d" (interrupted), [out] "=&d" (*(rc))	\
		     : [in2] "d" (r2), [in3] "d" (r3), [in4] "d" (r4)	\
		     : "2", "3", "4", "cc", "memory");			\
	interrupted;							\
})

enum how { RIGHT, ODD_RX, RY_IS_RX, RY_IN_PAIR };

/* Issues it; gives the program interruption that it ends in. */
static int issue(enum how how, u64 address, u64 subcode, u64 *rc)
{
	unsigned long flags;
	int interrupted, code;

	/* No other interruption overwrites the code of this one. */
	local_irq_save(flags);
	switch (how) {
	case ODD_RX:
		interrupted = diagnose(3, 4, address, address, subcode, rc);
		break;
	case RY_IS_RX:
		interrupted = diagnose(2, 2, address, subcode, subcode, rc);
		break;
	case RY_IN_PAIR:
		interrupted = diagnose(2, 3, address, subcode, subcode, rc);
		break;
	default:
		interrupted = diagnose(2, 4, address, 0, subcode, rc);
	}
	code = get_lowcore()->pgm_code;
	local_irq_restore(flags);
	done_blocks++;
	return interrupted ? code : NO_INTERRUPTION;
}

/* An instruction that ends in an interruption changes nothing. */
static void interrupts(enum how how, u64 address, u64 subcode, int wanted)
{
	u64 rc;
	int got;

	*before = *block;
	got = issue(how, address, subcode, &rc);
	if (got != wanted)
		is_wrong("interruption %d, not %d: case %d, address %#llx, subcode %#llx", got,
			 wanted, how, address, subcode);
	if (memcmp(block, before, PAGE_SIZE))
		is_wrong("an interruption changed the block");
	check_arena();
}

/* The return code that a header is due, and OK if all is well with it. */
static u16 header_rc(const struct header *header, unsigned int function)
{
	unsigned int most = function == BATCH ? MAX_NR : 1;

	if (header->magic != 0x544d454d || (function != QUERY && header->version != 1))
		return BAD_VERSION;
	if (header->hdr_len != 64 || header->ent_len != 64 || !header->nr || header->nr > most ||
	    header->done >= header->nr)
		return BAD_LEN;
	if (header->flags & ~(function == BATCH ? STOP_ON_ERROR : 0))
		return BAD_FLAGS;
	for (unsigned int place = 0; place < ARRAY_SIZE(header->rsvd); place++) {
		if (header->rsvd[place])
			return BAD_FLAGS;
	}
	if (function != QUERY && header->epoch != epoch)
		return BAD_EPOCH;
	return OK;
}

/* Of which return codes an entry is due one; none if nothing is wrong with it. */
static u32 entry_rcs(const struct entry *entry)
{
	bool get = entry->op == GET || entry->op == GET_KEEP, put = entry->op == PUT;
	bool range = entry->op == FLUSH_RANGE, object = entry->op == FLUSH_OBJECT;
	u64 bytes = (u64)entry->nr_pages << PAGE_SHIFT;
	struct pool *pool = pool_of(entry->pool);
	u32 rcs = 0;

	if (!put && !get && !range && !object)
		rcs |= BIT(BAD_OP);
	if (!pool)
		rcs |= BIT(BAD_POOL);
	if (entry->flags)
		rcs |= BIT(BAD_FLAGS);
	if (put || get) {
		if (!entry->nr_pages || entry->nr_pages > MAX_PAGES ||
		    entry->index + entry->nr_pages - 1 < entry->index)
			rcs |= BIT(BAD_LEN);
		if (!IS_ALIGNED(entry->addr, PAGE_SIZE) || entry->addr > storage ||
		    bytes > storage - entry->addr)
			rcs |= BIT(BAD_ADDR);
	}
	if (range || object) {
		if (object ? entry->index || entry->nr_pages : !entry->nr_pages)
			rcs |= BIT(BAD_LEN);
		if (entry->addr)
			rcs |= BIT(BAD_ADDR);
	}
	if (get && pool && entry->nr_pages && entry->nr_pages <= MAX_PAGES) {
		for (u64 page = 0; page < entry->nr_pages; page++) {
			u32 *there = page_at(pool, entry->oid, entry->index + page);

			if (!there || !*there)
				rcs |= BIT(MISS);
		}
	}
	return rcs;
}

/* What an entry does that is answered as it should be. */
static void carry_out(const struct entry *entry, u32 rcs)
{
	u64 last = entry->index + entry->nr_pages - 1;
	struct pool *pool = pool_of(entry->pool);

	if (!pool || rcs & BIT(BAD_OP))
		return;
	switch (entry->op) {
	case PUT:
		/* Rule 1. */
		if (entry->nr_pages)
			empty(pool, entry->oid, entry->index, last < entry->index ? U64_MAX : last);
		if (rcs)
			return;
		for (u64 page = 0; page < entry->nr_pages; page++) {
			u32 *there = page_at(pool, entry->oid, entry->index + page);

			*there = frames[frame_of(entry->addr) + page];
		}
		return;
	case GET:
	case GET_KEEP:
		/* Rule 2. */
		if (rcs)
			return;
		for (u64 page = 0; page < entry->nr_pages; page++) {
			u32 *there = page_at(pool, entry->oid, entry->index + page);

			frames[frame_of(entry->addr) + page] = *there;
		}
		if (entry->op == GET)
			empty(pool, entry->oid, entry->index, last);
		return;
	case FLUSH_RANGE:
		if (entry->nr_pages == TO_THE_END || last < entry->index)
			last = U64_MAX;
		if (!rcs)
			empty(pool, entry->oid, entry->index, last);
		return;
	case FLUSH_OBJECT:
		if (!rcs)
			empty(pool, entry->oid, 0, U64_MAX);
	}
}

/* Judges the entries of a batch; what is due is in @due. */
static u16 judge_batch(void)
{
	struct header *header = &due->header;
	unsigned int place;

	for (place = header->done; place < header->nr; place++) {
		struct entry *entry = &due->entries[place];
		u32 rcs = entry_rcs(entry);
		u16 rc = block->entries[place].rc;

		if (rcs ? rc >= 32 || !(rcs & BIT(rc)) : rc != OK)
			is_wrong("entry %u: %#x, due %#x: op %u in %#x at %#llx, %#llx + %u, %#x",
				 place, rc, rcs, entry->op, entry->pool, entry->index, entry->addr,
				 entry->nr_pages, entry->flags);
		carry_out(entry, rcs);
		entry->rc = rc;
		if (rcs && header->flags & STOP_ON_ERROR) {
			header->done = place;
			return rc;
		}
	}
	header->done = place;
	return OK;
}

/* The same for the records of other functions. */
static u32 create_rcs(const struct pool_record *record)
{
	u32 rcs = 0;

	if ((record->flags != PERSISTENT && record->flags != EPHEMERAL) || record->pool ||
	    record->rsvd1 || record->rsvd2 || memchr_inv(record->rsvd3, 0, sizeof(record->rsvd3)))
		rcs |= BIT(BAD_FLAGS);
	if (record->page_shift != 12 || (record->flags == EPHEMERAL && record->quota))
		rcs |= BIT(BAD_LEN);
	return rcs;
}

static u32 destroy_rcs(const struct pool_record *record)
{
	struct pool_record name = { .pool = record->pool };
	u32 rcs = 0;

	if (memcmp(record, &name, sizeof(name)))
		rcs |= BIT(BAD_FLAGS) | BIT(BAD_LEN);
	if (!pool_of(record->pool))
		rcs |= BIT(BAD_POOL);
	return rcs;
}

static u32 stats_rcs(const struct stats_record *record)
{
	u32 rcs = 0;

	if (record->rsvd)
		rcs |= BIT(BAD_FLAGS);
	if (record->pool != ALL_POOLS && !pool_of(record->pool))
		rcs |= BIT(BAD_POOL);
	return rcs;
}

static void judge_stats(void)
{
	struct stats_record *record = &due->stats;
	struct pool *pool = pool_of(record->pool);

	record->pages = pool ? count(pool) : count(&pools[0]) + count(&pools[1]);
	/* Of the rest nothing can be told from here. */
	memcpy(record->rest, block->stats.rest, sizeof(record->rest));
}

static void judge_query(void)
{
	static const u16 answer[32] = { 1, 1, MAX_NR, MAX_POOLS, 0, MAX_PAGES, 0, 1 };

	due->header.epoch = block->header.epoch;
	if (epoch && block->header.epoch != epoch)
		is_wrong("the epoch is another one");
	epoch = block->header.epoch;
	memcpy(due->query, answer, sizeof(answer));
}

/* Issues the block with a function, and judges what becomes of it. Gives the return code. */
static u64 call(unsigned int function)
{
	u64 rc, due_rc, calls = 0;
	int interruption;
	u32 rcs = 0;

	*before = *block;
	do {
		interruption = issue(RIGHT, virt_to_phys(block), function, &rc);
		if (interruption) {
			is_wrong("interruption %d, function %u", interruption, function);
			return AGAIN;
		}
	} while (function == BATCH && rc == AGAIN && calls++ < 100);

	*due = *before;
	due_rc = header_rc(&before->header, function);
	if (due_rc) {
		rcs = BIT(due_rc);
	} else if (function == BATCH) {
		due_rc = judge_batch();
		rcs = due_rc ? BIT(due_rc) : 0;
	} else if (function == QUERY) {
		judge_query();
	} else if (function == POOL_CREATE) {
		rcs = create_rcs(&before->pool);
		if (!rcs) {
			due->pool.pool = block->pool.pool;
			due->pool.quota = before->pool.quota ?: NO_LIMIT;
		}
	} else if (function == POOL_DESTROY) {
		rcs = destroy_rcs(&before->pool);
	} else {
		rcs = stats_rcs(&before->stats);
		if (!rcs)
			judge_stats();
	}
	if (rcs ? rc >= 32 || !(rcs & BIT(rc)) : rc != OK)
		is_wrong("function %u has return code %#llx, due is one of %#x", function, rc, rcs);
	for (unsigned int place = 0; place < PAGE_SIZE / 8; place++) {
		u64 is = ((u64 *)block)[place], should_be = ((u64 *)due)[place];

		if (is != should_be)
			is_wrong("function %u leaves %#llx in the block at %u, not %#llx", function,
				 is, 8 * place, should_be);
	}
	check_arena();
	return rc;
}

/* A block with nothing wrong in its header, and nothing in it. */
static struct block *fresh(unsigned int nr)
{
	memset(block, 0, PAGE_SIZE);
	block->header = (struct header) {
		.magic = 0x544d454d, .version = 1, .hdr_len = 64, .ent_len = 64, .nr = nr,
		.epoch = epoch,
	};
	return block;
}

/* Makes an entry with nothing wrong in it: a put of one page. */
static void put_one(struct entry *entry)
{
	*entry = (struct entry) {
		.op = PUT, .rc = 0xeeee, .pool = pools[0].id, .addr = virt_to_phys(frame(FIRST)),
		.nr_pages = 1, .cookie = 0x636f6f6b6965,
	};
}

static u32 create(unsigned int kind)
{
	fresh(1)->pool = (struct pool_record) {
		.flags = kind, .page_shift = 12, .label = "hostile",
	};
	return call(POOL_CREATE) == OK ? block->pool.pool : 0;
}

/* A pool that the model does not know. */
static void destroy_unknown(u32 id)
{
	u32 known = pools[0].id;

	pools[0].id = id;
	fresh(1)->pool.pool = id;
	call(POOL_DESTROY);
	pools[0].id = known;
	/* Once it is gone, its number means nothing. */
	fresh(1)->pool.pool = id;
	call(POOL_DESTROY);
}

/* Each operation with the second entry of the block, after a put. */
static void try_operations(void)
{
	struct entry changed = block->entries[1], *put = block->entries;

	for (unsigned int op = 0; op <= FLUSH_OBJECT + 1; op++) {
		put_one(fresh(2)->entries);
		block->entries[1] = changed;
		block->entries[1].op = op;
		/* What is right for a put is not for a flush. */
		if (op >= FLUSH_RANGE && changed.addr == put->addr)
			block->entries[1].addr = 0;
		if (op == FLUSH_OBJECT && changed.nr_pages == put->nr_pages)
			block->entries[1].nr_pages = 0;
		call(BATCH);
	}
}

#define try_entry(part, value)						\
do {									\
	put_one(&fresh(2)->entries[1]);					\
	block->entries[1].part = value;					\
	try_operations();						\
} while (0)

/* Each function with the header of the block, and nothing that is good for any of them. */
static void try_functions(void)
{
	struct header header = block->header;

	for (unsigned int function = QUERY; function <= STATS; function++) {
		put_one(fresh(1)->entries);
		block->entries[0].op = U16_MAX;
		block->header = header;
		call(function);
	}
}

#define try_header(part, value)						\
do {									\
	fresh(1)->header.part = value;					\
	try_functions();						\
} while (0)

static void boundaries(void)
{
	const u64 real = virt_to_phys(block);
	u32 pool;

	/* Around the instruction. */
	put_one(fresh(1)->entries);
	interrupts(ODD_RX, real, BATCH, SPECIFICATION);
	interrupts(RY_IS_RX, real, BATCH, SPECIFICATION);
	interrupts(RY_IN_PAIR, real, BATCH, SPECIFICATION);
	interrupts(RIGHT, real, STATS + 1, SPECIFICATION);
	interrupts(RIGHT, real, 1ull << 32, SPECIFICATION);
	interrupts(RIGHT, real, U64_MAX, SPECIFICATION);
	for (unsigned int offset = 1; offset < PAGE_SIZE; offset <<= 1)
		interrupts(RIGHT, real + offset, BATCH, SPECIFICATION);
	interrupts(RIGHT, real + PAGE_SIZE - 1, BATCH, SPECIFICATION);
	interrupts(RIGHT, storage, BATCH, ADDRESSING);
	interrupts(RIGHT, 1ull << 32 << 20, BATCH, ADDRESSING);
	interrupts(RIGHT, U64_MAX & PAGE_MASK, BATCH, ADDRESSING);

	/* The header. */
	try_header(magic, 0);
	try_header(magic, 0x4d454d54);
	try_header(version, 0);
	try_header(version, 2);
	try_header(version, U16_MAX);
	try_header(hdr_len, 0);
	try_header(hdr_len, 63);
	try_header(hdr_len, U16_MAX);
	try_header(ent_len, 0);
	try_header(ent_len, 65);
	try_header(nr, 0);
	try_header(nr, 2);
	try_header(nr, MAX_NR);
	try_header(nr, MAX_NR + 1);
	try_header(nr, U16_MAX);
	try_header(done, 1);
	try_header(done, U16_MAX);
	try_header(flags, STOP_ON_ERROR);
	try_header(flags, 2);
	try_header(flags, 0x8000);
	for (unsigned int place = 0; place < 5; place++)
		try_header(rsvd[place], 1ull << 13 * place);
	try_header(epoch, 0);
	try_header(epoch, epoch + 1);
	try_header(epoch, ~epoch);

	/* Entries. */
	try_entry(pool, 0);
	try_entry(pool, pools[0].id + 1);
	try_entry(pool, pools[0].id ^ 0x10000);
	try_entry(pool, pools[1].id);
	try_entry(pool, U32_MAX);
	try_entry(index, U64_MAX);
	try_entry(index, INDEXES - 1);
	try_entry(addr, virt_to_phys(frame(FIRST)) + 8);
	try_entry(addr, storage);
	try_entry(addr, storage + PAGE_SIZE);
	try_entry(addr, 1ull << 63);
	try_entry(addr, U64_MAX & PAGE_MASK);
	try_entry(addr, U64_MAX);
	try_entry(nr_pages, 0);
	try_entry(nr_pages, MAX_PAGES + 1);
	try_entry(nr_pages, 1u << 20);
	try_entry(nr_pages, 1u << 31);
	try_entry(nr_pages, U32_MAX - 1);
	try_entry(nr_pages, U32_MAX);
	try_entry(flags, 1);
	try_entry(flags, 1u << 31);
	try_entry(oid[2], 1);

	/* Frames and indexes of which only the last one is too much. */
	for (unsigned int op = PUT; op <= GET_KEEP; op++) {
		put_one(fresh(2)->entries);
		block->entries[0].addr = storage - PAGE_SIZE;
		block->entries[0].nr_pages = 2;
		block->entries[0].op = op;
		put_one(&block->entries[1]);
		block->entries[1].index = U64_MAX;
		block->entries[1].nr_pages = 2;
		block->entries[1].op = op;
		call(BATCH);
	}

	/* Pools: as many as there are, and none of them is another guest's. */
	for (pool = 0; pool < 64; pool++) {
		fresh(1)->pool.pool = (pool % 16) | (pool / 16) << 16;
		if (!pool_of(block->pool.pool))
			call(POOL_DESTROY);
	}
	fresh(1)->pool = (struct pool_record) { .pool = pools[0].id, .flags = PERSISTENT };
	call(POOL_DESTROY);
	for (unsigned int kind = 0; kind < 4; kind++) {
		pool = create(kind);
		if (pool)
			destroy_unknown(pool);
	}
}

/* Now and then something else. */
#define perhaps(what, ...)						\
do {									\
	if (!random(12))						\
		what = one_of(__VA_ARGS__);				\
} while (0)

static struct entry random_entry(void)
{
	unsigned int nr = one_of(1, 1, 1, 2, 3, 7);
	unsigned int number = FIRST + random(LAST - FIRST - nr + 1);
	struct entry entry = {
		.op = one_of(PUT, PUT, PUT, GET, GET, GET_KEEP, FLUSH_RANGE, FLUSH_OBJECT),
		.rc = random(U16_MAX), .pool = pools[random(2)].id,
		.oid = { random(2), 0, random(2) }, .index = random(8),
		.addr = virt_to_phys(frame(number)), .nr_pages = nr, .cookie = random64(),
	};

	if (entry.op == FLUSH_RANGE || entry.op == FLUSH_OBJECT)
		entry.addr = 0;
	if (entry.op == FLUSH_OBJECT) {
		entry.index = 0;
		entry.nr_pages = 0;
	}
	if (!random(8))
		entry.index = -(u64)(1 + random(24));
	perhaps(entry.op, 0, 6, 7, U16_MAX, random(U16_MAX));
	perhaps(entry.pool, 0, U32_MAX, pools[0].id ^ 1, pools[1].id + 0x10000, random64());
	/* Nothing is ever put where the model does not see it, nor got outside of the arena. */
	if (entry.op != PUT)
		perhaps(entry.oid[1], 1, U64_MAX, random64());
	perhaps(entry.nr_pages, 0, MAX_PAGES + 1, 1u << 31, U32_MAX, U32_MAX - random(1 << 20));
	perhaps(entry.addr, 1, storage, storage - PAGE_SIZE + 1, U64_MAX & PAGE_MASK, U64_MAX,
		random64() | 1ull << 60);
	perhaps(entry.flags, 1, U32_MAX, random64());
	return entry;
}

static void random_batch(void)
{
	struct header *header = &fresh(1 + random(random(8) ? 4 : MAX_NR))->header;

	for (unsigned int place = 0; place < header->nr; place++) {
		struct entry *entry = &block->entries[place];

		*entry = random_entry();
		/* Each put has a page of its own. */
		if (entry->op == PUT && frame_of(entry->addr) < ARENA)
			fill(frame_of(entry->addr), ++last_page);
	}
	header->done = random(8) ? 0 : random(header->nr);
	header->flags = random(4) ? 0 : STOP_ON_ERROR;
}

static void random_pool(unsigned int function)
{
	struct pool_record *record = &fresh(1)->pool;

	if (function == POOL_CREATE)
		*record = (struct pool_record) { .flags = 1 + random(2), .page_shift = 12 };
	else
		record->pool = one_of(0, pools[0].id ^ 2, pools[1].id + 0x10000, random64());
	perhaps(record->flags, 0, 3, 4, random64());
	perhaps(record->page_shift, 0, 11, 13, random(U16_MAX));
	perhaps(record->quota, 1, 1ull << 52, U64_MAX, random64());
	perhaps(record->label[random(16)], 1, 0xff);
	perhaps(record->rsvd1, 1, 0x8000);
	perhaps(record->rsvd2, 1, 1u << 31);
	perhaps(record->rsvd3[random(3)], 1, U64_MAX);
}

/* A block of random bytes, perhaps with a good header; what it could get goes into the arena. */
static void random_bytes(void)
{
	struct header header = fresh(1 + random(MAX_NR))->header;

	prandom_bytes_state(&rnd, block, PAGE_SIZE);
	if (random(2))
		block->header = header;
	for (unsigned int place = 0; place < MAX_NR; place++) {
		block->entries[place].op %= 8;
		block->entries[place].addr |= 1ull << 60;
	}
}

static void spoil_header(struct header *header)
{
	perhaps(header->magic, 0, random64());
	perhaps(header->version, 0, 2, random(U16_MAX));
	perhaps(header->hdr_len, 0, 128, random(U16_MAX));
	perhaps(header->ent_len, 0, 32, random(U16_MAX));
	perhaps(header->nr, 0, MAX_NR + 1, U16_MAX, random(U16_MAX));
	perhaps(header->done, header->nr, U16_MAX, random(U16_MAX));
	perhaps(header->flags, 2, 3, U16_MAX, random(U16_MAX));
	perhaps(header->epoch, 0, epoch + 1, epoch - 1, random64());
	perhaps(header->rsvd[random(5)], 1, U64_MAX, random64());
}

static void random_block(void)
{
	unsigned int function = random(8) ? BATCH : random(STATS + 1);

	if (!random(64)) {
		put_one(fresh(1)->entries);
		interrupts(1 + random(RY_IN_PAIR), virt_to_phys(block), function, SPECIFICATION);
		interrupts(RIGHT, virt_to_phys(block) + 1 + random(PAGE_SIZE - 1), function,
			   SPECIFICATION);
		interrupts(RIGHT, storage + (random64() >> 2 & PAGE_MASK), function, ADDRESSING);
		return;
	}
	if (!random(16)) {
		random_bytes();
	} else if (function == BATCH) {
		random_batch();
	} else if (function == STATS) {
		fresh(1)->stats.pool = one_of(pools[0].id, pools[1].id, ALL_POOLS, 0, random64());
		perhaps(block->stats.rsvd, 1, U32_MAX);
	} else {
		random_pool(function);
	}
	if (!random(8))
		spoil_header(&block->header);
	if (call(function) == OK && function == POOL_CREATE)
		destroy_unknown(block->pool.pool);
}

static int attack(void)
{
	for (unsigned int number = 0; number < ARENA; number++)
		fill(number, ++last_page);
	fresh(1);
	call(QUERY);
	pools[0].id = create(PERSISTENT);
	pools[1].id = create(EPHEMERAL);
	if (!pools[0].id || !pools[1].id)
		return -EIO;
	boundaries();
	while (done_blocks < blocks && wrong < 20) {
		random_block();
		cond_resched();
	}
	for (unsigned int number = 0; number < ARRAY_SIZE(pools); number++) {
		fresh(1)->pool.pool = pools[number].id;
		call(POOL_DESTROY);
	}
	if (wrong) {
		pr_err("%lu of %lu blocks are wrong, seed %lu\n", wrong, done_blocks, seed);
		return -EIO;
	}
	pr_info("%lu blocks, all as they must be\n", done_blocks);
	return 0;
}

static int __init hostile_init(void)
{
	static const char wanted[] = "TMEM: DIAGNOSE 01F4 VERSION 1";
	char answer[64] = "";
	int rc = -ENOMEM;

	cpcmd("QUERY TMEM", answer, sizeof(answer) - 1, NULL);
	if (strncmp(answer, wanted, strlen(wanted))) {
		pr_err("there is no transcendent memory\n");
		return -ENODEV;
	}
	if (!storage || !IS_ALIGNED(storage, PAGE_SIZE)) {
		pr_err("storage= must be the size of the guest in bytes\n");
		return -EINVAL;
	}
	prandom_seed_state(&rnd, seed);
	block = (struct block *)__get_free_page(GFP_KERNEL);
	before = (struct block *)__get_free_page(GFP_KERNEL);
	due = (struct block *)__get_free_page(GFP_KERNEL);
	arena = (u8 *)__get_free_pages(GFP_KERNEL, ARENA_ORDER);
	if (block && before && due && arena)
		rc = attack();
	free_pages((unsigned long)arena, ARENA_ORDER);
	free_page((unsigned long)due);
	free_page((unsigned long)before);
	free_page((unsigned long)block);
	return rc;
}
module_init(hostile_init);

static void __exit hostile_exit(void)
{
}
module_exit(hostile_exit);

MODULE_DESCRIPTION("Malformed requests for transcendent memory");
MODULE_LICENSE("GPL");
