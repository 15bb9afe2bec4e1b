#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# CMM SHRINK makes the balloon as large as it says, up and down.
. "$(dirname "$0")/lib.sh"

takes_exactly_what_is_asked() {
	must_load sender="$ME"
	smsg CMM SHRINK 20000
	settle pages 20000
	sleep 1
	same cmm_pages "$(cmm pages)" 20000
	same cmm_timed_pages "$(cmm timed_pages)" 0
}

takes_the_memory_and_gives_it_back() {
	must_load sender="$ME"
	tidy_memory
	free=$(free)
	available=$(available)
	smsg CMM SHRINK 20000
	settle pages 20000
	taken=$(((free - $(free)) / PAGE_KIB))
	at_least "fall of free memory, pages," $taken 18000
	at_most "fall of free memory, pages," $taken 22000
	taken=$(((available - $(available)) / PAGE_KIB))
	at_least "fall of available memory, pages," $taken 18000
	smsg CMM SHRINK 0
	settle pages 0
	at_least "free memory after SHRINK 0, KiB," "$(free)" $((free - 4096))
}

target_is_absolute() {
	must_load sender="$ME"
	for target in 5000 12000 3000 3001 3000 0 1; do
		smsg CMM SHRINK $target
		settle pages $target
	done
}

last_of_many_counts() {
	must_load sender="$ME"
	for target in 9000 100 8000 200 7000 300 6000 400 5000 1234; do
		smsg CMM SHRINK $target
	done
	settle pages 1234
	sleep 1
	same cmm_pages "$(cmm pages)" 1234
}

numbers_are_as_in_c() {
	must_load sender="$ME"
	smsg CMM SHRINK 0x100
	settle pages 256
	smsg CMM SHRINK 0100
	settle pages 64
	smsg "CMM   SHRINK    7  "
	settle pages 7
}

other_targets_are_left_alone() {
	must_load sender="$ME"
	smsg CMM RELEASE 500
	settle timed_pages 500
	smsg CMM SHRINK 1000
	settle pages 1000
	smsg CMM SHRINK 0
	settle pages 0
	same cmm_timed_pages "$(cmm timed_pages)" 500
}

releases_ranges_not_pages() {
	beyond_c "one DIAGNOSE X'10' a page"
	must_load sender="$ME"
	tidy_memory
	echo 1 >/proc/sys/vm/compact_memory
	before=$(diagnoses 010)
	smsg CMM SHRINK 40000
	settle pages 40000
	issued=$(($(diagnoses 010) - before))
	echo "$issued times DIAGNOSE X'10' for 40000 pages"
	at_least "DIAGNOSE X'10'" $issued 1
	at_most "DIAGNOSE X'10'" $issued 2000
}

kernel_knows_balloon_pages() {
	beyond_c "not in nr_balloon_pages"
	must_load sender="$ME"
	smsg CMM SHRINK 3000
	settle pages 3000
	smsg CMM RELEASE 2000
	settle timed_pages 2000
	same nr_balloon_pages "$(vmstat nr_balloon_pages)" 5000
}

require_zvm
require_module
run takes_exactly_what_is_asked takes_the_memory_and_gives_it_back target_is_absolute \
	last_of_many_counts numbers_are_as_in_c other_targets_are_left_alone \
	releases_ranges_not_pages kernel_knows_balloon_pages
