#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The timed pool: CMM RELEASE and cmm_timed_pages add to it, CMM REUSE and
# cmm_timeout let it drain.
. "$(dirname "$0")/lib.sh"

# Watches the timed pool until it is empty. Sets `most`, `steps` (different values
# on the way down) and `took` (seconds).
watch_draining() {
	most=0
	steps=0
	last=-1
	start=$(cut -d. -f1 /proc/uptime)
	while [ "$last" != 0 ] || [ $most = 0 ]; do
		now=$(cmm timed_pages)
		took=$(($(cut -d. -f1 /proc/uptime) - start))
		[ $took -le 40 ] || fail "after $took s there are still $now timed pages"
		[ "$now" -gt $most ] && most=$now
		[ "$now" -lt "$last" ] && steps=$((steps + 1))
		last=$now
		sleep 0.1
	done
	echo "$most pages went in $steps steps in $took s"
}

writes_add() {
	must_load
	set_cmm timed_pages 1000
	settle timed_pages 1000
	set_cmm timed_pages 500
	settle timed_pages 1500
	set_cmm timed_pages 0
	sleep 0.5
	same cmm_timed_pages "$(cmm timed_pages)" 1500
	same cmm_pages "$(cmm pages)" 0
}

stays_without_timeout() {
	must_load
	set_cmm timed_pages 700
	settle timed_pages 700
	sleep 2.5
	same cmm_timed_pages "$(cmm timed_pages)" 700
	set_cmm timeout "0 1"
	sleep 1.5
	same "cmm_timed_pages with 0 pages a second" "$(cmm timed_pages)" 700
	set_cmm timeout "100 0"
	sleep 1.5
	same "cmm_timed_pages with 100 pages in 0 seconds" "$(cmm timed_pages)" 700
}

drains_in_steps() {
	must_load
	set_cmm pages 300
	settle pages 300
	free=$(free)
	set_cmm timeout "600 1"
	set_cmm timed_pages 2400
	watch_draining
	at_least "most timed pages" $most 1800
	at_least "steps" $steps 3
	at_least "seconds" $took 2
	same cmm_pages "$(cmm pages)" 300
	at_least "free memory afterwards, KiB," "$(free)" $((free - 2048))
	same cmm_timeout "$(cmm timeout)" "600 1"
}

last_step_is_what_is_left() {
	must_load
	set_cmm timeout "1000000 1"
	set_cmm timed_pages 100
	settle timed_pages 0 20
	set_cmm timeout "0 0"
	set_cmm timed_pages 50
	settle timed_pages 50
}

timeout_0_0_stops_draining() {
	must_load
	set_cmm timeout "100 1"
	set_cmm timed_pages 5000
	wait_until 20 fell_below 5000 || fail "the pool does not drain"
	set_cmm timeout "0 0"
	sleep 0.5
	now=$(cmm timed_pages)
	sleep 2.5
	same cmm_timed_pages "$(cmm timed_pages)" "$now"
}

# The pool was filled and has become smaller again.
fell_below() {
	now=$(cmm timed_pages)
	[ "$now" = "$1" ] && full=1
	[ "$full" = 1 ] && [ "$now" -lt "$1" ]
}

messages_release_and_reuse() {
	[ -n "$ME" ] || skip "needs z/VM"
	must_load sender="$ME"
	smsg CMM REUSE 500 1
	wait_until 20 cmm_is timeout "500 1" || fail "cmm_timeout is '$(cmm timeout)'"
	smsg CMM RELEASE 1000
	smsg CMM RELEASE 500
	watch_draining
	at_least "most timed pages" $most 1000
	at_least "steps" $steps 2
	smsg CMM REUSE 0 0
	wait_until 20 cmm_is timeout "0 0" || fail "cmm_timeout is '$(cmm timeout)'"
}

require_module
grep -q z/VM /proc/sysinfo && require_zvm
run writes_add stays_without_timeout drains_in_steps last_step_is_what_is_left \
	timeout_0_0_stops_draining messages_release_and_reuse
