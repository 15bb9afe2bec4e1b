#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# When the guest runs out of memory, the balloon gives back before anybody is killed.
. "$(dirname "$0")/lib.sh"

ALL=$(($(meminfo MemTotal) / PAGE_KIB))

# Runs a hog of more memory, by so many MiB, than there is without the balloon's.
hog_beyond() {
	mib=$(($(meminfo MemAvailable) / 1024 + $1))
	"$HERE/hog" $mib 1 >"$WORK/hog" 2>&1 </dev/null &
	hog=$!
	echo $hog >>"$WORK/jobs"
	wait $hog
	status=$?
	echo "the hog of $mib MiB ended with $status ($(cat "$WORK/hog"))"
}

hog_survives() {
	must_load
	killed=$(vmstat oom_kill)
	tidy_memory
	full=$((ALL * 8 / 10))
	set_cmm pages $full
	settle pages $full
	hog_beyond 64
	same "status of the hog" "$status" 0
	same oom_kill "$(vmstat oom_kill)" "$killed"
	left=$(cmm pages)
	echo "$left of $full pages left in the balloon"
	at_most "pages in the balloon" "$left" $((full - 256))
	at_least "pages in the balloon" "$left" 0
}

targets_fall_until_the_next_request() {
	must_load
	tidy_memory
	full=$((ALL * 8 / 10))
	set_cmm pages $full
	settle pages $full
	set_cmm timed_pages 1000
	settle timed_pages 1000
	hog_beyond 64
	same "status of the hog" "$status" 0
	steady pages
	left=$(cmm pages)
	at_most "pages in the balloon" "$left" $((full - 256))
	# Timed pages go first.
	same cmm_timed_pages "$(cmm timed_pages)" 0
	sleep 2
	same "cmm_pages later" "$(cmm pages)" "$left"
	set_cmm pages $full
	settle pages $full
}

notifier_is_counted() {
	beyond_c "nothing is counted"
	must_load
	tidy_memory
	full=$((ALL * 8 / 10))
	set_cmm pages $full
	settle pages $full
	same "pages given back" "$(debug oom_given_back)" 0
	hog_beyond 32
	steady pages
	same "pages given back" "$(debug oom_given_back)" $((full - $(cmm pages)))
	same "target" "$(debug target)" "$(cmm pages)"
}

# An empty balloon saves nobody: the kernel must then do what it does without.
nothing_to_give() {
	must_load
	tidy_memory
	echo 1000 >/proc/self/oom_score_adj
	hog_beyond 64
	echo 0 >/proc/self/oom_score_adj
	same "status of the hog" "$status" 137
	same cmm_pages "$(cmm pages)" 0
}

require_module
[ -x "$HERE/hog" ] || skip_all "hog is not built"
[ "$(meminfo SwapTotal)" = 0 ] || skip_all "with swap nobody runs out of memory"
run hog_survives targets_fall_until_the_next_request notifier_is_counted nothing_to_give
