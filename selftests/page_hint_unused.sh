#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Free pages are unused for the hypervisor, and nobody notices: what is written stays,
# and what is new is empty. The same in both modes; page_hint.unused= selects one.
. "$(dirname "$0")/lib.sh"

PARAMETER=/sys/module/page_hint/parameters/unused

mode_is_known() {
	case $(cat $PARAMETER) in
	classic | lazy) ;;
	*) fail "the mode is '$(cat $PARAMETER)'" ;;
	esac
	echo "unused=$(cat $PARAMETER)"
	[ ! -w $PARAMETER ] || ! echo classic 2>/dev/null >$PARAMETER || fail "it can be changed"
}

# Processes come and go, and take the pages that others have freed.
churn() {
	echo "$@" | cat | cat >/dev/null
}

# Hogs check what they wrote; the pages that they get must be empty for their page tables
# and lists to be right.
content_stays() {
	wait_until 60 most_are_unused || fail "free pages do not become unused"
	repeat churn "$(seq 1000)"
	for round in 1 2 3; do
		hogs=
		for _ in 1 2; do
			"$HERE/hog" 32 1 >/dev/null 2>"$WORK/said" &
			hogs="$hogs $!"
		done
		for hog in $hogs; do
			wait "$hog" ||
				fail "round $round: a hog ended with status $?: $(cat "$WORK/said")"
		done
	done
	stop_repeating
}

# Files in memory, written when free pages are unused, and read when others came and went.
files_stay() {
	mkdir "$WORK/files"
	mount -t tmpfs none "$WORK/files" || skip "needs tmpfs"
	( fill_and_compare )
	status=$?
	umount "$WORK/files"
	exit $status
}

fill_and_compare() {
	for size in 1 4 16 64 256 1024 4096; do
		dd if=/dev/urandom of="$WORK/files/$size" bs=1k count=$size 2>/dev/null
	done
	sums=$(cd "$WORK/files" && sha256sum *)
	for _ in 1 2; do
		"$HERE/hog" 32 1 || fail "a hog ended with status $?"
		wait_until 60 most_are_unused || fail "free pages do not become unused"
		same "what is in the files" "$(cd "$WORK/files" && sha256sum *)" "$sums"
	done
}

# New memory reads as zero, whatever the frame held before it was unused.
new_pages_are_empty() {
	for _ in 1 2; do
		"$HERE/hog" 32 1 || fail "a hog ended with status $?"
		truncate -s 16M "$WORK/sparse"
		same "a hole in a file" "$(tr -d '\0' <"$WORK/sparse" | wc -c)" 0
		rm "$WORK/sparse"
	done
}

unused_after_a_load() {
	tidy_memory
	repeat churn "$(seq 1000)"
	sleep 3
	echo "under load: $(unused) of $(free) KiB"
	stop_repeating
	"$HERE/hog" 64 1 || fail "a hog ended with status $?"
	wait_until 60 most_are_unused || fail "of $(free) KiB free only $(unused) are unused"
	echo "after it: $(unused) of $(free) KiB"
}

require_states
run mode_is_known content_stays files_stay new_pages_are_empty unused_after_a_load
