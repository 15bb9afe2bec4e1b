#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A target beyond what the guest has: the balloon stops at the floor, says so, and
# goes on when there is memory again.
. "$(dirname "$0")/lib.sh"

ALL=$(($(meminfo MemTotal) / PAGE_KIB))

start() {
	beyond_c "there is no floor"
	killed=$(vmstat oom_kill)
	background sleep 1000
	witness=$!
	must_load
	tidy_memory
}

# Nobody was killed for the balloon.
all_alive() {
	kill -0 "$witness" 2>/dev/null || fail "a process was killed"
	same "oom_kill" "$(vmstat oom_kill)" "$killed"
	! logged "Out of memory\|invoked oom-killer" || fail "the OOM killer was called"
	[ "$(echo alive | cat)" = alive ] || fail "no process can be started"
}

floor_is_kept() {
	start
	floor=$(($(cmm floor) * PAGE_KIB))
	at_least "the floor, KiB," $floor 4096
	set_cmm pages $((ALL * 10))
	steady pages
	available=$(meminfo MemAvailable)
	echo "$(cmm pages) pages of $ALL taken, $available KiB available, the floor is $floor KiB"
	at_least "cmm_pages" "$(cmm pages)" $((ALL / 2))
	# What runs meanwhile takes some of it.
	at_least "MemAvailable, KiB," "$available" $((floor - 8192))
	all_alive
	set_cmm pages 0
	settle pages 0
}

target_is_reported_not_forgotten() {
	start
	set_cmm pages $((ALL * 10))
	steady pages
	same "target" "$(debug target)" $((ALL * 10))
	wait_until 10 logged "cmm: .* of $((ALL * 10)) pages.*floor" ||
		fail "the log does not say that the target cannot be met, and why"
	at_most "lines in the log" "$(log_since_mark | grep -c 'cmm:.*floor')" 3
	grep -q 'paused' "$DEBUGFS/cmm/state" || fail "the state is '$(debug state)'"
	all_alive
}

goes_on_when_there_is_memory() {
	start
	"$HERE/hog" 96 >"$WORK/hog" 2>&1 </dev/null &
	hog=$!
	echo $hog >>"$WORK/jobs"
	wait_until 60 grep -q holding "$WORK/hog" || fail "the hog got no memory"
	set_cmm pages $((ALL * 10))
	steady pages
	before=$(cmm pages)
	kill -0 $hog 2>/dev/null || fail "the hog was killed"
	kill $hog
	wait_until 30 more_than $((before + 16000)) ||
		fail "the balloon took only $(($(cmm pages) - before)) of the hog's 24576 pages"
	all_alive
}

more_than() {
	[ "$(cmm pages)" -gt "$1" ]
}

timed_pages_keep_it_too() {
	start
	set_cmm timed_pages $((ALL * 4))
	steady timed_pages
	at_least "cmm_timed_pages" "$(cmm timed_pages)" $((ALL / 2))
	at_least "MemAvailable, KiB," "$(meminfo MemAvailable)" $(($(cmm floor) * PAGE_KIB - 8192))
	all_alive
	must_unload
	all_alive
}

# Page cache that can be dropped is for the balloon to have.
page_cache_is_given_up() {
	modprobe loop 2>/dev/null
	mkdir "$WORK/disk"
	mount -t tmpfs none "$WORK/disk" || skip "needs tmpfs"
	# It has nothing but a hole: only what is read of it is in memory.
	truncate -s 160M "$WORK/disk/image"
	if ! loop=$(losetup -f) || ! losetup "$loop" "$WORK/disk/image"; then
		umount "$WORK/disk"
		skip "needs a loop device"
	fi
	( fill_and_take )
	status=$?
	losetup -d "$loop"
	umount "$WORK/disk"
	exit $status
}

fill_and_take() {
	start
	# While it is open its cache stays.
	exec 8<"$loop"
	dd bs=1M of=/dev/null <&8 2>/dev/null
	cached=$(meminfo Buffers)
	at_least "page cache, KiB," "$cached" 150000
	set_cmm pages $((ALL * 10))
	steady pages
	echo "of $cached KiB of page cache $(meminfo Buffers) are left"
	at_most "page cache left, KiB," "$(meminfo Buffers)" 65536
	all_alive
}

largest_target_of_all() {
	start
	set_cmm pages 9223372036854775807
	steady pages
	at_least "cmm_pages" "$(cmm pages)" $((ALL / 2))
	all_alive
	set_cmm pages 10
	settle pages 10
}

require_module
run floor_is_kept target_is_reported_not_forgotten goes_on_when_there_is_memory \
	timed_pages_keep_it_too page_cache_is_given_up largest_target_of_all
