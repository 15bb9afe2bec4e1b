#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The three files in /proc/sys/vm: their formats, and what they refuse.
. "$(dirname "$0")/lib.sh"

# Writes a text, with escapes of printf, in one write. Prints why it is refused.
store() {
	# shellcheck disable=SC2059
	printf -- "$2" >"$WORK/text"
	dd if="$WORK/text" of="$VM/cmm_$1" bs=64k conv=notrunc 2>"$WORK/error" && return 0
	sed -n 's/^dd: [^:]*: //p' "$WORK/error"
	return 1
}

accepts() {
	store "$1" "$2" || fail "cmm_$1 refuses '$2'"
}

refuses() {
	reason=$(store "$1" "$2") && fail "cmm_$1 accepts '$2'"
	case $reason in
	*"Invalid argument"*) ;;
	*) fail "cmm_$1 refuses '$2' with '$reason', not EINVAL" ;;
	esac
}

repeated() {
	printf "%$2s" "" | tr ' ' "$1"
}

are_there_while_loaded() {
	must_load
	for name in pages timed_pages timeout; do
		same "mode of cmm_$name" "$(stat -c %a "$VM/cmm_$name")" 644
	done
	same cmm_pages "$(cmm pages)" 0
	same cmm_timed_pages "$(cmm timed_pages)" 0
	same cmm_timeout "$(cmm timeout)" "0 0"
	same "lines of cmm_pages" "$(wc -l <"$VM/cmm_pages")" 1
	same "sysctl -n vm.cmm_timeout" "$(sysctl -n vm.cmm_timeout)" "0 0"
	must_unload
	for name in pages timed_pages timeout; do
		[ ! -e "$VM/cmm_$name" ] || fail "cmm_$name outlives the module"
	done
}

numbers_of_pages() {
	must_load
	accepts pages '100\n'
	settle pages 100
	accepts pages '101'
	settle pages 101
	accepts pages '0x66\n'
	settle pages 102
	accepts pages '0147\n'
	settle pages 103
	accepts pages '  104  \n'
	settle pages 104
	accepts pages '0\n'
	settle pages 0
}

bad_numbers_of_pages() {
	must_load
	set_cmm pages 200
	settle pages 200
	set_cmm timed_pages 100
	settle timed_pages 100
	for name in pages timed_pages; do
		for text in 'x\n' 'all\n' '+\n' '1x\n' '0x\n' '12,5\n' '1.5\n' '\n' '   \n' \
			"$(repeated 9 30)\n" "$(repeated 9 5000)\n" "$(repeated x 5000)\n"; do
			refuses $name "$text"
		done
	done
	sleep 0.5
	same cmm_pages "$(cmm pages)" 200
	same cmm_timed_pages "$(cmm timed_pages)" 100
}

negative_and_too_much() {
	beyond_c "a second number is passed over, large ones wrap"
	must_load
	set_cmm pages 200
	settle pages 200
	for name in pages timed_pages; do
		for text in '-1\n' '-0x10\n' '1 2\n' '9223372036854775808\n' \
			'18446744073709551615\n' '18446744073709551617\n'; do
			refuses $name "$text"
		done
	done
	sleep 0.5
	same cmm_pages "$(cmm pages)" 200
	same cmm_timed_pages "$(cmm timed_pages)" 0
}

timed_pages_do_not_add_up_to_too_much() {
	beyond_c "the sum wraps"
	must_load
	set_cmm timed_pages 10
	settle timed_pages 10
	refuses timed_pages '9223372036854775807\n'
	sleep 0.5
	same cmm_timed_pages "$(cmm timed_pages)" 10
}

timeouts() {
	must_load
	accepts timeout '100 60\n'
	same cmm_timeout "$(cmm timeout)" "100 60"
	accepts timeout '  0x10 \t 010 \n'
	same cmm_timeout "$(cmm timeout)" "16 8"
	accepts timeout '0 0\n'
	same cmm_timeout "$(cmm timeout)" "0 0"
}

timeout_without_newline() {
	beyond_c "the last character is lost"
	must_load
	accepts timeout '200 30'
	same cmm_timeout "$(cmm timeout)" "200 30"
}

bad_timeouts() {
	beyond_c "what is not a number is 0"
	must_load
	set_cmm timeout "100 60"
	for text in 'x\n' '1 x\n' 'x 1\n' '1x 2\n' '1,2\n' \
		'-1 5\n' '5 -1\n' '1 2 3\n' '1 2x\n' '\n' '  \n' \
		'1 99999999999999999999\n' "$(repeated 9 40) 1\n" "$(repeated 9 5000)\n" \
		"1$(repeated ' ' 5000)x\n"; do
		refuses timeout "$text"
		same cmm_timeout "$(cmm timeout)" "100 60"
	done
}

reads_in_parts() {
	must_load
	set_cmm pages 1234
	settle pages 1234
	set_cmm timeout "5678 90"
	for name in pages timeout; do
		whole=$(cmm $name)
		same "cmm_$name in parts of 64 bytes" \
			"$(dd if="$VM/cmm_$name" bs=64 2>/dev/null)" "$whole"
		# A read that does not begin at the start is at the end of the file.
		for size in 1 2 3; do
			part=$(timeout 10 dd if="$VM/cmm_$name" bs=$size 2>/dev/null) ||
				fail "reading cmm_$name in parts of $size does not end"
			[ -n "$part" ] || fail "reading cmm_$name in parts of $size gives nothing"
			case $whole in
			"$part"*) ;;
			*) fail "cmm_$name in parts of $size is '$part', of '$whole'" ;;
			esac
		done
		same "cmm_$name from byte 1" "$(dd if="$VM/cmm_$name" bs=1 skip=1 2>/dev/null)" ""
	done
}

writes_in_parts_change_nothing() {
	beyond_c "cmm_timeout takes each part for a whole"
	must_load
	set_cmm pages 77
	settle pages 77
	set_cmm timeout "5 6"
	for name in pages timeout; do
		echo 9 | dd of="$VM/cmm_$name" bs=1 seek=1 conv=notrunc 2>/dev/null
	done
	sleep 0.5
	same cmm_pages "$(cmm pages)" 77
	same cmm_timeout "$(cmm timeout)" "5 6"
}

require_module
run are_there_while_loaded numbers_of_pages bad_numbers_of_pages negative_and_too_much \
	timed_pages_do_not_add_up_to_too_much timeouts timeout_without_newline \
	bad_timeouts reads_in_parts writes_in_parts_change_nothing
