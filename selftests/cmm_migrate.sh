#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Balloon pages are movable: compaction and memory offlining go on working with a
# full balloon, and all pages come back afterwards.
. "$(dirname "$0")/lib.sh"

MEMORY=/sys/devices/system/memory

# Sets `block` to one that can be taken offline and put online again without a
# balloon, and `block_pages` to its size. It comes back to the movable zone, so that
# the kernel keeps away from it.
find_block() {
	block_pages=$((0x$(cat $MEMORY/block_size_bytes) / 4096))
	for block in $(ls -d $MEMORY/memory[0-9]* | sort -t y -k 5 -rV); do
		[ "$(cat "$block/online")" = 1 ] || continue
		# Three tries: pages that are in use just now are so for a moment only.
		for try in 1 2 3; do
			if echo 0 2>/dev/null >"$block/online"; then
				echo "${block##*/} (${block_pages} pages, try $try) can be offline"
				online
				return 0
			fi
		done
	done
	return 1
}

online() {
	echo online_movable >"$block/state" || fail "${block##*/} cannot be online again"
}

# A balloon of so many pages, on either of its two lists.
inflate() {
	set_cmm timed_pages $(($1 / 4))
	settle timed_pages $(($1 / 4))
	set_cmm pages $(($1 - $1 / 4))
	settle pages $(($1 - $1 / 4))
	held="$(cmm pages) $(cmm timed_pages)"
}

# The balloon is as it was, and comes back whole.
unharmed() {
	same "pages and timed pages" "$(cmm pages) $(cmm timed_pages)" "$held"
	same nr_balloon_pages "$(vmstat nr_balloon_pages)" $((${held% *} + ${held#* }))
	set_cmm pages 0
	settle pages 0
	must_unload
	same nr_balloon_pages "$(vmstat nr_balloon_pages)" 0
}

memory_goes_offline() {
	find_block || skip "no memory block can be offline (boot with movablecore=)"
	tidy_memory
	all=$(($(available) / PAGE_KIB))
	must_load
	# As much as leaves room for the block and for moving.
	inflate $((all - block_pages - 12000))
	before=$(vmstat balloon_migrate)
	echo 0 >"$block/online" || fail "${block##*/} cannot be offline with a balloon of $held"
	moved=$(($(vmstat balloon_migrate) - before))
	echo "$moved balloon pages moved"
	at_least "moved balloon pages" $moved 1
	at_least "moved pages that the driver counts" "$(debug pages_migrated)" $moved
	online
	unharmed
	at_least "available memory afterwards, pages," $(($(available) / PAGE_KIB)) $((all - 2048))
}

compaction_moves_pages() {
	must_load
	tidy_memory
	all=$(($(available) / PAGE_KIB))
	before=$(vmstat balloon_migrate)
	# Pages of a balloon that was grown and shrunk in parts are scattered.
	for nr in 1 2 3 4; do
		inflate $((all * 8 / 10))
		set_cmm pages $((all * 4 / 10))
		settle pages $((all * 4 / 10))
		held="$(cmm pages) $(cmm timed_pages)"
		echo 1 >/proc/sys/vm/compact_memory
		moved=$(($(vmstat balloon_migrate) - before))
		[ $moved -gt 0 ] && break
		set_cmm timed_pages 0
	done
	echo "$moved balloon pages moved"
	at_least "moved balloon pages" $moved 1
	same "moved pages that the driver counts" "$(debug pages_migrated)" $moved
	unharmed
}

compaction_and_requests_at_once() {
	must_load
	repeat sh -c 'echo 1 >/proc/sys/vm/compact_memory'
	for nr in 1 2 3 4 5 6; do
		set_cmm pages 40000
		set_cmm timed_pages 5000
		settle pages 40000
		set_cmm pages $((nr * 100))
		settle pages $((nr * 100))
	done
	settle timed_pages 30000
	stop_repeating
	held="600 30000"
	unharmed
}

# What moves is released to the hypervisor where it goes.
moved_pages_are_released() {
	must_load
	tidy_memory
	all=$(($(available) / PAGE_KIB))
	inflate $((all * 8 / 10))
	set_cmm pages $((all * 4 / 10))
	settle pages $((all * 4 / 10))
	moved_before=$(debug pages_migrated)
	released_before=$(diagnoses 010)
	echo 1 >/proc/sys/vm/compact_memory
	moved=$(($(debug pages_migrated) - moved_before))
	released=$(($(diagnoses 010) - released_before))
	[ $moved -gt 0 ] || skip "compaction moved nothing"
	same "DIAGNOSE X'10' for $moved pages" $released $moved
}

require_module
[ -z "$CMM_MODULE" ] || skip_all "the C driver's pages cannot be moved"
grep -q '^balloon_migrate ' /proc/vmstat || skip_all "needs CONFIG_BALLOON_MIGRATION"
run memory_goes_offline compaction_moves_pages \
	compaction_and_requests_at_once moved_pages_are_released
