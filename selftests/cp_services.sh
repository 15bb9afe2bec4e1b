#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The drivers that Linux has for z/VM judge the Control Program under this guest.
. "$(dirname "$0")/lib.sh"

commands() {
	same "user ID" "$(vmcp query userid | awk '{ print $1, $2 }')" "$ME AT"
	same "status of QUERY USERID" "$(vmcp query userid >/dev/null 2>&1; echo $?)" 0
	vmcp QUERY CPLEVEL | grep -q . || fail "QUERY CPLEVEL says nothing"
	vmcp query virtual storage | grep -q 'STORAGE = ' ||
		fail "QUERY VIRTUAL STORAGE: $(vmcp q v storage)"
	vmcp query names | grep -q "$ME" || fail "QUERY NAMES does not name $ME"
}

unknown_commands() {
	text=$(vmcp nonsense 2>&1)
	same "status" $? 1
	case $text in
	*HCPCMD001E*NONSENSE*) ;;
	*) fail "CP says '$text'" ;;
	esac
}

messages_to_nobody() {
	text=$(vmcp smsg NOBODY0 hello 2>&1)
	same "status" $? 1
	case $text in
	*045E*NOBODY0*) ;;
	*) fail "CP says '$text'" ;;
	esac
}

system_information() {
	grep -q '^VM00 Control Program: *z/VM' /proc/sysinfo || fail "/proc/sysinfo names no z/VM"
	same "name of the guest" "$(awk '/^VM00 Name:/ { print $3 }' /proc/sysinfo)" "$ME"
	at_least "CPUs of the guest" "$(awk '/^VM00 CPUs Total:/ { print $4 }' /proc/sysinfo)" 1
	grep -q '^VM: .' /proc/service_levels ||
		fail "/proc/service_levels: $(cat /proc/service_levels)"
}

hypervisor_file_system() {
	mkdir -p "$WORK/hyp"
	mount -t s390_hypfs none "$WORK/hyp" || fail "hypfs cannot be mounted"
	type=$(cat "$WORK/hyp/hyp/type")
	guest=$WORK/hyp/systems/$ME
	cpus=$(cat "$guest/cpus/count")
	time=$(cat "$guest/cpus/cputime_us")
	up=$(cat "$guest/onlinetime_us")
	used=$(cat "$guest/mem/used_KiB")
	most=$(cat "$guest/mem/max_KiB")
	umount "$WORK/hyp"
	same "hypervisor" "$type" "z/VM Hypervisor"
	same "CPUs" "$cpus" "$(ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l)"
	at_least "CPU time, us," "$time" 1000
	at_least "time since logon, us," "$up" 100000
	at_least "memory used, KiB," "$used" 1024
	at_least "memory at most, KiB," "$most" "$(meminfo MemTotal)"
}

# hyptop, of s390-tools, computes its figures from the same DIAGNOSE.
hypervisor_top() {
	command -v hyptop >/dev/null || skip "needs hyptop"
	hyptop -b -n 1 -d 1 >"$WORK/hyptop" 2>&1 || fail "hyptop: $(cat "$WORK/hyptop")"
	grep -q "^ *$ME " "$WORK/hyptop" || fail "hyptop does not list $ME: $(cat "$WORK/hyptop")"
}

cpu_time_grows() {
	file=$DEBUGFS/s390_hypfs/diag_0c
	[ -e "$file" ] || fail "there is no diag_0c"
	cat "$file" >"$WORK/first" || fail "diag_0c cannot be read"
	i=0
	while [ $i -lt 20000 ]; do i=$((i + 1)); done
	cat "$file" >"$WORK/second" || fail "diag_0c cannot be read again"
	entries=$(grep -c . /sys/devices/system/cpu/cpu[0-9]*/online | wc -l)
	at_least "bytes of diag_0c" "$(wc -c <"$WORK/first")" $((48 + entries * 32))
	! cmp -s "$WORK/first" "$WORK/second" || fail "the figures do not change"
}

monitor_data() {
	modprobe appldata_mem || fail "appldata_mem does not load"
	timer=/proc/sys/appldata/timer
	file=/proc/sys/appldata/mem
	before=$(diagnoses 0dc)
	echo 1 >$timer
	echo 1 >$file || fail "the collection does not start"
	same "the collection" "$(cat $file)" 1
	echo 0 >$file || fail "the collection does not end"
	same "the collection" "$(cat $file)" 0
	echo 0 >$timer
	at_least "DIAGNOSE X'DC'" $(($(diagnoses 0dc) - before)) 2
	rmmod appldata_mem || fail "appldata_mem does not unload"
	! logged 'appldata.*failed' || fail "appldata complains"
}

# Who reads monitor records asks for a saved segment first, and there is none.
saved_segments() {
	before=$(diagnoses 064)
	! modprobe monreader 2>/dev/null || fail "monreader has a segment"
	at_least "DIAGNOSE X'64'" $(($(diagnoses 064) - before)) 1
	logged 'Querying a DCSS type failed with rc=44' || fail "the return code is another"
	logged 'DCSS MONDCSS cannot be loaded or queried' || fail "monreader does not say why"
}

messages_arrive_whichever_cpu_is_online() {
	cpu=/sys/devices/system/cpu/cpu1/online
	[ -e $cpu ] || skip "needs a second CPU"
	must_load sender="$ME"
	for nr in 1 2 3 4; do
		echo 0 >$cpu || fail "CPU 1 cannot be offline"
		smsg CMM SHRINK ${nr}1
		settle pages ${nr}1
		echo 1 >$cpu || fail "CPU 1 cannot be online"
		smsg CMM SHRINK ${nr}2
		settle pages ${nr}2
	done
	cpu0=/sys/devices/system/cpu/cpu0/online
	[ -e $cpu0 ] && echo 0 >$cpu0 2>/dev/null || return 0
	smsg CMM SHRINK 99
	settle pages 99
	echo 1 >$cpu0
	smsg CMM SHRINK 98
	settle pages 98
}

message_driver_comes_and_goes() {
	for nr in 1 2 3 4 5; do
		must_load sender="$ME"
		smsg CMM SHRINK $((nr * 10))
		settle pages $((nr * 10))
		must_unload
		rmmod smsgiucv || fail "smsgiucv does not unload"
		# Nobody listens: CP says so or keeps the message, and goes on.
		vmcp smsg "$ME" CMM SHRINK 1 >/dev/null 2>&1
	done
}

sockets() {
	for nr in 1 2 3; do
		modprobe af_iucv || fail "af_iucv does not load"
		grep -q '^IUCV ' /proc/net/protocols ||
			grep -q 'af_iucv' /proc/modules || fail "there is no AF_IUCV"
		rmmod af_iucv || fail "af_iucv does not unload"
	done
}

require_zvm
require_module
run commands unknown_commands messages_to_nobody system_information \
	hypervisor_file_system hypervisor_top cpu_time_grows monitor_data saved_segments \
	messages_arrive_whichever_cpu_is_online \
	message_driver_comes_and_goes sockets
