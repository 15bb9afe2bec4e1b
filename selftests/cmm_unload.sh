#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Unloading gives all memory back, whatever goes on meanwhile.
. "$(dirname "$0")/lib.sh"

start() {
	tidy_memory
	before=$(available)
	all=$((before / PAGE_KIB))
}

# All pages are back with the guest. What else runs may hold a little.
all_is_back() {
	! loaded || fail "the module is loaded"
	[ ! -e "$VM/cmm_pages" ] || fail "its files are there"
	same nr_balloon_pages "$(vmstat nr_balloon_pages)" 0
	wait_until 20 available_again ||
		fail "of $before KiB available before, $(available) are back"
}

available_again() {
	tidy_memory
	[ "$(available)" -ge $((before - 4096)) ]
}

full_balloon() {
	start
	must_load
	set_cmm pages $((all * 6 / 10))
	set_cmm timed_pages $((all / 10))
	settle pages $((all * 6 / 10))
	settle timed_pages $((all / 10))
	must_unload
	all_is_back
}

while_it_inflates() {
	start
	for nr in 1 2 3 4 5; do
		must_load
		set_cmm pages $((all * 7 / 10))
		[ "$nr" -gt 2 ] && sleep 0.0$nr
		must_unload
	done
	all_is_back
}

while_it_deflates() {
	start
	for nr in 1 2 3; do
		must_load
		set_cmm pages $((all * 6 / 10))
		settle pages $((all * 6 / 10))
		set_cmm pages 0
		must_unload
	done
	all_is_back
}

while_it_drains() {
	start
	must_load
	set_cmm timed_pages 20000
	settle timed_pages 20000
	set_cmm timeout "100 1"
	must_unload
	sleep 1.5
	all_is_back
}

while_it_waits_at_the_floor() {
	beyond_c "there is no floor"
	start
	must_load
	set_cmm pages $((all * 10))
	steady pages
	must_unload
	all_is_back
}

# Compaction holds balloon pages isolated while they move.
while_compaction_runs() {
	start
	repeat sh -c 'echo 1 >/proc/sys/vm/compact_memory'
	for nr in 1 2 3 4; do
		must_load
		set_cmm pages $((all * 4 / 10))
		settle pages $((all * 4 / 10))
		# Holes for compaction to fill.
		set_cmm pages $((all * 3 / 10))
		settle pages $((all * 3 / 10))
		must_unload
	done
	stop_repeating
	all_is_back
}

while_messages_arrive() {
	[ -n "$ME" ] || skip "needs z/VM"
	start
	# shellcheck disable=SC2016
	repeat sh -c 'vmcp smsg $0 CMM SHRINK 3000; vmcp smsg $0 CMM RELEASE 10
		vmcp smsg $0 CMM NONSENSE' "$ME"
	for nr in 1 2 3 4 5 6 7 8 9 10; do
		must_load sender="$ME"
		wait_until 20 cmm_is pages 3000 || fail "no message arrives"
		must_unload
	done
	stop_repeating
	all_is_back
	# Nobody listens: CP and the guest still take messages.
	must_load sender="$ME"
	smsg CMM SHRINK 77
	settle pages 77
	must_unload
}

while_its_files_are_used() {
	start
	repeat sh -c "cat $VM/cmm_*; echo 500 >$VM/cmm_pages; echo '1 1' >$VM/cmm_timeout"
	for nr in 1 2 3 4 5 6 7 8 9 10; do
		must_load
		must_unload
	done
	stop_repeating
	all_is_back
}

while_a_file_is_open() {
	must_load
	exec 9<"$VM/cmm_pages"
	must_unload
	if cat <&9 2>/dev/null | grep -q .; then
		fail "the file is read after the module has gone"
	fi
	exec 9<&-
	[ ! -e "$VM/cmm_pages" ] || fail "the file is there"
}

require_module
grep -q z/VM /proc/sysinfo && require_zvm
run full_balloon while_it_inflates while_it_deflates while_it_drains while_it_waits_at_the_floor \
	while_compaction_runs while_messages_arrive while_its_files_are_used while_a_file_is_open
