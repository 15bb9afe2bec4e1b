#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# A message that is not understood as a whole is refused as a whole.
. "$(dirname "$0")/lib.sh"

# All that messages can change.
state() {
	echo "$(cmm pages) $(cmm timed_pages) $(cmm timeout)"
}

start() {
	must_load sender="$ME"
	smsg CMM SHRINK 150
	settle pages 150
	smsg CMM REUSE 7 3600
	smsg CMM RELEASE 1
	settle timed_pages 1
	same cmm_timeout "$(cmm timeout)" "7 3600"
}

# Sends each text and then a good message, after which the others have been handled.
none_is_taken() {
	for text in "$@"; do
		smsg "$text"
	done
	smsg CMM RELEASE 5
	settle timed_pages 6
	same "pages, timed pages, timeout" "$(state)" "150 6 7 3600"
}

unknown_commands() {
	start
	none_is_taken "CMM" "CMM GROW 5" "CMM SHRINKS 5" "CMM SHRINK5" \
		"CMM shrink 5" "CMMSHRINK 5" \
		"CMM ? 5" "CMM 5 SHRINK" "CMM RELEASES 5" "CMM REUSEX 1 2"
}

text_after_the_end() {
	start
	none_is_taken "CMM SHRINK 5 6" "CMM SHRINK 5X" "CMM SHRINK 5." "CMM RELEASE 5 5" \
		"CMM REUSE 1 2 3" "CMM REUSE 1 2X" "CMM SHRINK 0X10G"
}

missing_numbers() {
	beyond_c "a missing number is 0"
	start
	none_is_taken "CMM SHRINK" "CMM SHRINK  " "CMM RELEASE" "CMM REUSE" \
		"CMM REUSE 1" "CMM REUSE 1 " \
		"CMM SHRINK X" "CMM SHRINK -5" "CMM SHRINK +5" "CMM RELEASE -1"
}

numbers_that_are_too_large() {
	beyond_c "a large number wraps"
	start
	none_is_taken "CMM SHRINK 9223372036854775808" "CMM SHRINK 18446744073709551621" \
		"CMM RELEASE 99999999999999999999999" "CMM REUSE 1 0xFFFFFFFFFFFFFFFFF" \
		"CMM REUSE 18446744073709551616 1" "CMM RELEASE 9223372036854775807 " \
		"CMM SHRINK $(printf '%0150d' 0 | tr 0 9)"
}

# CP takes commands of up to 240 characters.
long_messages() {
	start
	blanks=$(printf '%190s' '')
	none_is_taken "CMM SHRINK 1$blanks 2" "CMM REUSE 1$blanks 2 3" \
		"CMM $(printf '%0190d' 0 | tr 0 A) 5"
	smsg "CMM SHRINK$blanks 151"
	settle pages 151
}

longer_than_cp_takes() {
	start
	if vmcp smsg "$ME" "CMM SHRINK $(printf '%0300d' 0 | tr 0 1)" >/dev/null 2>&1; then
		fail "a command of more than 300 characters is sent"
	fi
	none_is_taken
}

messages_of_others_are_not_ours() {
	start
	none_is_taken "APP SHRINK 5" "CM SHRINK 5" "XCMM SHRINK 5" "cmm shrink 5" "-" "hello"
}

each_is_counted_and_says_why() {
	beyond_c "refused without a word"
	must_load sender="$ME"
	before=$(refused)
	smsg CMM GROW 5
	wait_until 10 logged "cmm:.*$ME.*command" ||
		fail "the log does not say that the command is unknown"
	smsg CMM SHRINK
	wait_until 10 logged "cmm:.*$ME.*number" ||
		fail "the log does not say that a number is missing"
	smsg CMM SHRINK 99999999999999999999
	wait_until 10 logged "cmm:.*$ME.*large" ||
		fail "the log does not say that the number is too large"
	smsg CMM SHRINK 5 6
	wait_until 10 logged "cmm:.*$ME.*more" ||
		fail "the log does not say that there is more text"
	same "refused messages" $(($(refused) - before)) 4
	for reason in command number overflow trailing; do
		same "counter refused_$reason" "$(debug messages/refused_$reason)" 1
	done
}

refused() {
	cat "$DEBUGFS"/cmm/messages/refused_* | awk '{ n += $1 } END { print n }'
}

# Whoever sends nonsense fills counters, not the log.
log_is_rate_limited() {
	beyond_c "refused without a word"
	must_load sender="$ME"
	before=$(refused)
	# Several at once: the limit is one of messages in a time.
	for _ in $(seq 10); do
		smsg "CMM NONSENSE
SMSG $ME CMM NONSENSE
SMSG $ME CMM NONSENSE
SMSG $ME CMM NONSENSE
SMSG $ME CMM NONSENSE
SMSG $ME CMM NONSENSE"
	done
	smsg CMM SHRINK 5
	settle pages 5
	same "refused messages" $(($(refused) - before)) 60
	lines=$(log_since_mark | grep -c "cmm:.*$ME")
	at_least "lines in the log" "$lines" 1
	at_most "lines in the log" "$lines" 30
}

require_zvm
require_module
run unknown_commands text_after_the_end missing_numbers numbers_that_are_too_large long_messages \
	longer_than_cp_takes messages_of_others_are_not_ours \
	each_is_counted_and_says_why log_is_rate_limited
