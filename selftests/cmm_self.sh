#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The guest gives up unasked what it does not need, and takes it back when it does.
. "$(dirname "$0")/lib.sh"

ALL=$(($(meminfo MemTotal) / PAGE_KIB))

start() {
	beyond_c "it has no pool of its own"
	killed=$(vmstat oom_kill)
	must_load
	tidy_memory
	same cmm_self "$(cmm self)" 0
	set_cmm self 2
	same cmm_self "$(cmm self)" 2
}

own_is_more_than() {
	[ "$(debug self_pages)" -gt "$1" ]
}

own_is_less_than() {
	[ "$(debug self_pages)" -lt "$1" ]
}

half_is_given() {
	wait_until 60 own_is_more_than $((ALL / 2)) ||
		fail "only $(debug self_pages) of $ALL pages were given up, $(debug state)"
}

# The pool grows by an eighth of what is missing each second.
comes_to_rest() {
	half_is_given
	wait_until 90 rests || fail "the guest's own pool does not come to rest"
}

rests() {
	before=$(debug self_pages)
	sleep 3
	[ $(($(debug self_pages) - before)) -lt 256 ]
}

what_is_not_needed_is_given() {
	start
	half_is_given
	same cmm_pages "$(cmm pages)" 0
	floor=$(($(debug floor) * PAGE_KIB))
	# What runs meanwhile takes some of it.
	at_least "MemAvailable, KiB," "$(meminfo MemAvailable)" $((floor - 8192))
	set_cmm self 0
	wait_until 20 own_is_less_than 1 || fail "$(debug self_pages) pages are still held"
	! logged "cmm: holding" || fail "the log tells of a target that nobody has asked for"
}

what_is_needed_comes_back() {
	start
	comes_to_rest
	before=$(debug self_pages)
	"$HERE/hog" 96 >"$WORK/hog" 2>&1 </dev/null &
	hog=$!
	echo $hog >>"$WORK/jobs"
	wait_until 60 grep -q holding "$WORK/hog" || fail "the hog got no memory"
	# What the floor does not serve.
	wait_until 20 own_is_less_than $((before - 24576 + $(debug floor) + 1024)) ||
		fail "of $before pages $(debug self_pages) are still held"
	# Long before memory runs out.
	same oom_given_back "$(debug oom_given_back)" 0
	kill -0 $hog 2>/dev/null || fail "the hog was killed"
	same "oom_kill" "$(vmstat oom_kill)" "$killed"
}

requests_come_first() {
	start
	half_is_given
	set_cmm pages $((ALL / 4))
	settle pages $((ALL / 4))
	wait_until 20 own_is_less_than $((ALL * 3 / 4)) || fail "the guest's own pool makes no room"
	set_cmm pages 0
	settle pages 0
}

bad_switches() {
	start
	for text in 3 -1 x ''; do
		! echo "$text" >"$VM/cmm_self" 2>/dev/null || fail "cmm_self accepts '$text'"
		same cmm_self "$(cmm self)" 2
	done
}

require_module
run what_is_not_needed_is_given what_is_needed_comes_back requests_come_first bad_switches
