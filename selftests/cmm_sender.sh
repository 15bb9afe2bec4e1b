#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Who may give orders: the parameter `sender`.
. "$(dirname "$0")/lib.sh"

obeys_me() {
	must_load "$@"
	smsg CMM SHRINK 100
	settle pages 100
}

# The message is delivered before a later one, of which the effect can be seen.
ignores_me() {
	must_load "$@"
	smsg CMM SHRINK 100
	sleep 1
	same "cmm_pages with $*" "$(cmm pages)" 0
}

default_is_the_resource_manager() {
	[ "$ME" != VMRMSVM ] || skip "this guest is VMRMSVM"
	ignores_me
	same "parameter" "$(cat /sys/module/cmm/parameters/sender)" VMRMSVM
	same "mode of the parameter" "$(stat -c %a /sys/module/cmm/parameters/sender)" 400
}

one() {
	obeys_me sender="$ME"
}

another() {
	ignores_me sender=STRANGER
}

part_of_the_name() {
	ignores_me "sender=${ME%?}"
}

lower_case() {
	obeys_me sender="$(echo "$ME" | tr 'A-Z' 'a-z')"
}

anyone() {
	obeys_me sender=
}

list() {
	beyond_c "one sender only"
	obeys_me sender="VMRMSVM,$ME,OPERATOR"
}

list_without_me() {
	beyond_c "one sender only"
	ignores_me sender="VMRMSVM,OPERATOR,A"
}

refusal_is_logged_and_counted() {
	beyond_c "refused without a word"
	before_any=$(log_since_mark | grep -c "cmm:.*$ME")
	must_load sender=STRANGER
	before=$(debug messages/refused_sender)
	smsg CMM SHRINK 100
	wait_until 10 logged "cmm:.*$ME.*sender" ||
		fail "the log does not say that $ME was refused, and why"
	same "counter of refused senders" "$(debug messages/refused_sender)" $((before + 1))
	same "earlier lines" "$before_any" 0
	same cmm_pages "$(cmm pages)" 0
}

bad_parameters() {
	beyond_c "any text is taken"
	for list in NINECHARS "A,NINECHARS" "A,,B" ",A" "A," "A*B" "A.B" "A/B"; do
		mark
		if load sender="$list" 2>"$WORK/error"; then
			fail "sender=$list is accepted"
		fi
		grep -qi "invalid" "$WORK/error" || fail "sender=$list: $(cat "$WORK/error")"
		# Programs that try a second way to load the module make it say so twice.
		same "different lines in the log for sender=$list" \
			"$(log_since_mark | grep 'cmm: ' | sed 's/^\[[^]]*\] *//' |
				sort -u | wc -l)" 1
		[ ! -e "$VM/cmm_pages" ] ||
			fail "the files are there though sender=$list was refused"
	done
	obeys_me sender="$ME"
}

require_zvm
require_module
run default_is_the_resource_manager one another part_of_the_name lower_case anyone list \
	list_without_me refusal_is_logged_and_counted bad_parameters
