#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The table of page states: it adds up, and says of pages what they are used for.
. "$(dirname "$0")/lib.sh"

# All numbers are those of one scan.
table_adds_up() {
	echo "$(states_table)"
	states_table | awk '
		NR == 1 { bad += $0 !~ /^ +tot +r +p +z$/; next }
		$2 != $3 + $4 + $5 { print "row " $1 " does not add up"; bad++ }
		$1 != "tot" { for (i = 2; i <= 5; i++) sum[i] += $i; rows = rows $1 }
		$1 == "tot" { for (i = 2; i <= 5; i++) bad += $i != sum[i]; last = NR }
		END { exit bad || rows != "SUPV" || last != 6 || NR != 6 }' ||
		fail "the table is wrong"
}

has_all_memory() {
	block=$((0x$(cat /sys/devices/system/memory/block_size_bytes) / 1024 / PAGE_KIB))
	online=$(cat /sys/devices/system/memory/memory*/state | grep -c '^online')
	same "tot" "$(states tot)" $((online * block))
}

# In lazy mode it takes a while.
free_pages_are_unused() {
	tidy_memory
	wait_until 60 most_are_unused || fail "of $(free) KiB free only $(unused) are unused"
	# What is not free is not unused. Figures move meanwhile.
	at_most "unused, KiB," "$(unused)" $(($(free) + 8192))
}

used_pages_are_stable() {
	tidy_memory
	wait_until 60 most_are_unused || fail "free pages do not become unused"
	before=$(states U)
	"$HERE/hog" 64 >"$WORK/hog" 2>&1 </dev/null &
	hog=$!
	echo $hog >>"$WORK/jobs"
	wait_until 60 grep -q holding "$WORK/hog" || fail "the hog got no memory"
	at_most "unused with a hog, KiB," "$(unused)" $(($(free) + 8192))
	# Some of its 16384 pages were free and stable.
	at_most "unused pages, with a hog," "$(states U)" $((before - 12288))
	kill $hog
	wait $hog 2>/dev/null
	wait_until 60 most_are_unused || fail "what the hog had does not become unused"
}

require_states
run table_adds_up has_all_memory free_pages_are_unused used_pages_are_stable
