#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Loading, using and unloading leaves nothing behind, however often it is done.
. "$(dirname "$0")/lib.sh"

CYCLES=100
KMEMLEAK=$DEBUGFS/kmemleak

cycle() {
	must_load
	set_cmm timeout "10 1"
	set_cmm timed_pages 64
	set_cmm pages 512
	[ $(($1 % 10)) -ne 0 ] || settle pages 512
	must_unload
}

# The most that some looks at available memory show: what is being freed just now
# is on its way.
most_available() {
	best=0
	for look in 1 2 3 4 5; do
		tidy_memory
		now=$(available)
		[ "$now" -le $best ] || best=$now
		sleep 0.1
	done
	echo $best
}

memory_is_the_same_after_many_cycles() {
	for nr in $(seq 10); do
		cycle "$nr"
	done
	before=$(most_available)
	for nr in $(seq 11 $CYCLES); do
		cycle "$nr"
	done
	after=$(most_available)
	echo "available: $before KiB after 10 cycles, $after KiB after $CYCLES"
	at_least "available memory after $CYCLES cycles, KiB," "$after" $((before - 1024))
}

kmemleak_finds_nothing() {
	[ -w $KMEMLEAK ] || skip "needs CONFIG_DEBUG_KMEMLEAK"
	echo clear >$KMEMLEAK || skip "kmemleak is off"
	for nr in 1 2 3 4 5; do
		cycle "$nr"
	done
	# Only what has been lost for five seconds is reported; the second scan is for
	# what the first saw while it was being moved.
	sleep 6
	echo scan >$KMEMLEAK
	echo scan >$KMEMLEAK
	leaks=$(cat $KMEMLEAK)
	[ -z "$leaks" ] || fail "kmemleak: $leaks"
}

nothing_is_left_in_the_kernel() {
	cycle 0
	! loaded || fail "the module is loaded"
	[ ! -e "$VM/cmm_pages" ] || fail "its files are there"
	[ ! -e "$DEBUGFS/cmm" ] || fail "its counters are there"
	! grep -qx cmmthread /proc/[0-9]*/comm || fail "its thread is there"
	same nr_balloon_pages "$(vmstat nr_balloon_pages)" 0
}

require_module
run memory_is_the_same_after_many_cycles kmemleak_finds_nothing nothing_is_left_in_the_kernel
