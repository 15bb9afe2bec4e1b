# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# What the tests of coopmem share. A test is a file of functions, the cases, and
# a last line that names them: `run case...`. Each case runs in a subshell of its
# own with the module unloaded; what it loads or starts is removed after it. It
# passes if it gets to its end, and leaves it by `fail REASON` or `skip REASON`.
#
# CMM_MODULE=/path/cmm.ko tests that module in place of the installed one, such as
# the C driver; cases of what only the Rust driver does are skipped then.

HERE=$(cd "$(dirname "$0")" && pwd)
for helpers in "$HERE/../../../kselftest/ktap_helpers.sh" "$HERE/ktap_helpers.sh"; do
	# shellcheck disable=SC1090
	[ -e "$helpers" ] && . "$helpers" && break
done

WORK=$(mktemp -d /tmp/coopmem.XXXXXX)
trap 'cleanup; rm -rf "$WORK"' EXIT
VM=/proc/sys/vm
DEBUGFS=/sys/kernel/debug
PAGE_KIB=4
# The bits of /proc/sys/kernel/tainted that no test may set: died, WARN, soft lockup.
TAINTS=$((1 << 7 | 1 << 9 | 1 << 14))

# --- a run ----------------------------------------------------------------------

skip_all() {
	ktap_print_header
	ktap_skip_all "$*"
	exit "$KSFT_SKIP"
}

fail() {
	echo "failed: $*"
	exit "$KSFT_FAIL"
}

skip() {
	echo "skipped: $*"
	exit "$KSFT_SKIP"
}

# Runs the cases, and ends with the totals and the status that says them.
run() {
	ktap_print_header
	ktap_set_plan $#
	for CASE in "$@"; do
		mark
		before=$(tainted)
		{
			( "$CASE"; exit "$KSFT_PASS" )
			echo $? >"$WORK/status"
		} 2>&1 | sed 's/^/# /'
		status=$(cat "$WORK/status")
		cleanup | sed 's/^/# /'
		if loaded; then
			echo "# the module cannot be unloaded"
			status=$KSFT_FAIL
		fi
		if [ "$(tainted)" != "$before" ]; then
			echo "# the kernel complains, see dmesg"
			status=$KSFT_FAIL
		fi
		case $status in
		"$KSFT_PASS") ktap_test_pass "$CASE" ;;
		"$KSFT_SKIP") ktap_test_skip "$CASE" ;;
		*)
			log_since_mark | tail -n 20 | sed 's/^/# dmesg: /'
			ktap_test_fail "$CASE"
			;;
		esac
	done
	ktap_finished
}

tainted() {
	echo $(($(cat /proc/sys/kernel/tainted) & TAINTS))
}

# What a test puts right after each case besides.
restore() {
	:
}

# Ends what the case started, and unloads the module.
cleanup() {
	if [ -e "$WORK/jobs" ]; then
		while read -r job; do
			kill -9 "$job" 2>/dev/null
		done <"$WORK/jobs"
		rm "$WORK/jobs"
	fi
	rm -f "$WORK/go"
	restore
	if loaded; then
		wait_until 30 rmmod cmm 2>/dev/null
	fi
}

# Starts a command that ends with the case at the latest.
background() {
	"$@" >/dev/null 2>&1 </dev/null &
	echo $! >>"$WORK/jobs"
}

# Repeats a command until `stop_repeating`, whatever its status.
repeat() {
	touch "$WORK/go"
	background repeat_loop "$@"
}

repeat_loop() {
	while [ -e "$WORK/go" ]; do
		"$@"
	done
}

stop_repeating() {
	rm -f "$WORK/go"
	# shellcheck disable=SC2046
	wait $(cat "$WORK/jobs") 2>/dev/null
	rm -f "$WORK/jobs"
}

# --- what a test needs ----------------------------------------------------------

require_root() {
	[ "$(id -u)" = 0 ] || skip_all "needs root"
}

require_zvm() {
	require_root
	grep -q 'z/VM' /proc/sysinfo || skip_all "needs z/VM"
	command -v vmcp >/dev/null || skip_all "needs vmcp"
	ME=$(vmcp query userid | awk '{ print $1; exit }')
	[ -n "$ME" ] || skip_all "CP does not tell this guest's user ID"
}

require_module() {
	require_root
	if [ -n "$CMM_MODULE" ]; then
		[ -e "$CMM_MODULE" ] || skip_all "there is no $CMM_MODULE"
	else
		modinfo cmm >/dev/null 2>&1 || skip_all "there is no module cmm"
	fi
	[ ! -e "$VM/cmm_pages" ] || loaded || skip_all "cmm is built in"
	! loaded || rmmod cmm || skip_all "cmm is loaded and in use"
	# The first use of a hypervisor that cannot do it refuses the module.
	if ! load; then
		skip_all "cmm does not load here"
	fi
	rmmod cmm
}

require_states() {
	[ -e "$DEBUGFS/page_hint/states" ] || skip_all "there are no page states here"
}

# For a case of what only the Rust driver does.
beyond_c() {
	[ -z "$CMM_MODULE" ] || skip "not so in the C driver: $*"
}

# --- the module -----------------------------------------------------------------

# Loads the module with parameters. A test that sends itself messages gives
# sender="$ME".
load() {
	if [ -n "$CMM_MODULE" ]; then
		modprobe smsgiucv 2>/dev/null
		insmod "$CMM_MODULE" "$@"
	else
		modprobe cmm "$@"
	fi
}

must_load() {
	load "$@" || fail "the module does not load ($*)"
}

must_unload() {
	rmmod cmm || fail "the module does not unload"
}

loaded() {
	grep -q '^cmm ' /proc/modules
}

# Reads one of the three files: pages, timed_pages or timeout.
cmm() {
	cat "$VM/cmm_$1"
}

# Writes one of them.
set_cmm() {
	echo "$2" >"$VM/cmm_$1" || fail "cmm_$1 does not take '$2'"
}

# Sends this guest a special message. Without -k vmcp makes all letters large.
smsg() {
	vmcp -k "SMSG $ME $*" >"$WORK/vmcp" 2>&1 ||
		fail "CP does not send the message: $(cat "$WORK/vmcp")"
}

# A number that the driver shows in debugfs.
debug() {
	cat "$DEBUGFS/cmm/$1"
}

# --- what can be seen from outside ----------------------------------------------

meminfo() {
	awk -v name="$1:" '$1 == name { print $2 }' /proc/meminfo
}

# Free pages that processors keep for themselves, in KiB: some MiB at times, which
# MemFree and MemAvailable take for used ones.
kept() {
	awk -v kib=$PAGE_KIB '$1 == "count:" { n += $2 } END { print n * kib }' /proc/zoneinfo
}

# Free memory in KiB.
free() {
	echo $(($(meminfo MemFree) + $(kept)))
}

# Available memory in KiB.
available() {
	echo $(($(meminfo MemAvailable) + $(kept)))
}

vmstat() {
	# Processors keep a part of the figures to themselves until they are asked.
	cat /proc/sys/vm/stat_refresh 2>/dev/null
	awk -v name="$1" '$1 == name { print $2 }' /proc/vmstat
}

# How often a DIAGNOSE, named by three hexadecimal digits, has been issued.
diagnoses() {
	awk -v code="$1:" '$1 == "diag" && $2 == code {
		for (i = 3; i <= NF && $i ~ /^[0-9]+$/; i++)
			n += $i
	} END { print n + 0 }' "$DEBUGFS/diag_stat"
}

# The table of page states, or one number of it: of a row, all or those of a column.
states_table() {
	cat "$DEBUGFS/page_hint/states"
}

states() {
	states_table | awk -v row="$1" -v column="${2:-tot}" '
		NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) at = i + 1 }
		$1 == row && NR > 1 { print $at }'
}

# Memory that the hypervisor takes for unused, in KiB.
unused() {
	echo $(($(states U) * PAGE_KIB))
}

most_are_unused() {
	[ "$(unused)" -ge $(($(free) * 95 / 100)) ]
}

# From here on `log_since_mark` shows what the kernel says.
mark() {
	MARK="coopmem selftest: $CASE $(cut -d' ' -f1 /proc/uptime)"
	echo "$MARK" >/dev/kmsg
}

log_since_mark() {
	dmesg | awk -v mark="$MARK" 'index($0, mark) { seen = 1; next } seen'
}

logged() {
	log_since_mark | grep -q "$1"
}

# Frees what can be freed, so that figures of memory can be compared.
tidy_memory() {
	sync
	# 4: without a word in the log.
	echo 4 >/proc/sys/vm/drop_caches
	echo 3 >/proc/sys/vm/drop_caches
}

# --- waiting and comparing ------------------------------------------------------

# Waits until a command succeeds. The bound, in seconds, is for a machine that has
# much else to do: none of these takes long otherwise.
wait_until() {
	tries=$(($1 * 20))
	shift
	until "$@"; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		sleep 0.05
	done
}

cmm_is() {
	[ "$(cmm "$1")" = "$2" ]
}

# Waits until one of the three files shows a value.
settle() {
	wait_until "${3:-40}" cmm_is "$1" "$2" ||
		fail "cmm_$1 is '$(cmm "$1")' and does not become '$2'"
}

# Waits until a file shows the same for two seconds.
steady() {
	last=
	same=0
	tries=300
	while [ $same -lt 10 ] && [ $tries -gt 0 ]; do
		now=$(cmm "$1")
		if [ "$now" = "$last" ]; then
			same=$((same + 1))
		else
			same=0
		fi
		last=$now
		tries=$((tries - 1))
		sleep 0.2
	done
	[ $same -ge 10 ] || fail "cmm_$1 does not come to rest"
}

same() {
	[ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"
}

at_least() {
	[ "$2" -ge "$3" ] || fail "$1 is $2, less than $3"
}

at_most() {
	[ "$2" -le "$3" ] || fail "$1 is $2, more than $3"
}

require_root
