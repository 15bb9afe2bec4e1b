/* SPDX-License-Identifier: GPL-2.0 */
/* Cells of 512 bytes, whose content follows from a stamp; that of stamp 0 is zeroes. */
#include <stdint.h>

#define CELL 512UL

/* The word i of a cell. */
static inline uint64_t cell_word(uint32_t stamp, unsigned int i)
{
	return stamp ? ((uint64_t)stamp << 6 | i) * 0x9e3779b97f4a7c15ULL : 0;
}
