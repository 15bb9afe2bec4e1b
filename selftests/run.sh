#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs all tests that are beside it, or those that are named, as TAP:
#
#   run.sh [TEST...]
#
# What a test prints is indented by "# ". The last line has the totals of the
# cases of all tests; a test that gave no cases counts as one:
#
#   # totals: pass:N fail:N skip:N
#
# The status is 0 if none failed. CMM_MODULE is as in lib.sh.

cd "$(dirname "$0")" || exit 1
[ $# -gt 0 ] || set -- cmm_*.sh cp_*.sh page_hint_*.sh
out=$(mktemp)
trap 'rm -f "$out"' EXIT
limit=$(sed -n 's/^timeout=//p' settings 2>/dev/null)
pass=0 fail=0 skip=0 number=0

echo "TAP version 13"
echo "1..$#"
for test in "$@"; do
	test=${test%.sh}.sh
	number=$((number + 1))
	echo "# selftests: drivers/s390x/coopmem: $test"
	start=$(cut -d. -f1 /proc/uptime)
	{
		timeout "${limit:-300}" "./$test" </dev/null 2>&1
		echo $? >"$out.status"
	} | tee "$out" | sed 's/^/# /'
	status=$(cat "$out.status")
	rm -f "$out.status"
	echo "# took $(($(cut -d. -f1 /proc/uptime) - start)) s"
	skips=$(grep -c '^ok .*# SKIP' "$out")
	passes=$(($(grep -c '^ok ' "$out") - skips))
	fails=$(grep -c '^not ok ' "$out")
	line="$number selftests: drivers/s390x/coopmem: $test"
	case $status in
	0) echo "ok $line" ;;
	4)
		echo "ok $line # SKIP"
		skips=$((skips + 1))
		;;
	*)
		echo "not ok $line # exit=$status"
		# It ended before it had said what failed.
		[ "$fails" -gt 0 ] || fails=1
		;;
	esac
	pass=$((pass + passes)) fail=$((fail + fails)) skip=$((skip + skips))
done
echo "# totals: pass:$pass fail:$fail skip:$skip"
[ $fail -eq 0 ]
