# SPDX-License-Identifier: GPL-2.0
# What the shell scripts share: where things are, and how long work is shown.
# shellcheck shell=bash

set -euo pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$TOP/build
LOGS=$BUILD/log
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/coopmem
DOWNLOADS=$CACHE/downloads
BINDGEN_VERSION=0.72.1
MESON_VERSION=1.8.2
SPHINX_VERSION=9.0.4
PYFLAKES_VERSION=3.4.0
MATPLOTLIB_VERSION=3.10.8
NEXT_SUITE=forky
# Debian's own toolchain, whatever else is installed for this user.
export PATH=$CACHE/bindgen-$BINDGEN_VERSION/bin:/usr/bin:/bin:/usr/sbin:/sbin
export LIBCLANG_PATH=/usr/lib/llvm-22/lib
export LC_ALL=C.UTF-8
unset RUSTUP_TOOLCHAIN RUSTFLAGS RUSTC CARGO MAKEFLAGS MFLAGS MAKELEVEL
mkdir -p "$LOGS" "$DOWNLOADS"

die() {
	printf 'coopmem: %s\n' "$*" >&2
	exit 1
}

# One at a time works on what has this lock: a second one waits until the first has
# ended, with all that it started.
alone() {
	exec 9>"$1"
	flock -n 9 || { echo "coopmem: waiting for another run to end ($1)"; flock 9; }
}

# One line for each piece of long work: what it is, how long it takes, where its
# log is. On a terminal the elapsed time runs; elsewhere a line a minute tells.
# It is a process group, which ends with us.
stage() {
	local title=$1 log=$LOGS/$2.log start=$SECONDS status=0 pid shown=0
	shift 2
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064
	trap "kill -- -$pid 2>/dev/null; wait $pid 2>/dev/null || :; exit 130" HUP INT TERM
	while kill -0 "$pid" 2>/dev/null; do
		local now=$((SECONDS - start))
		if [ -t 1 ]; then
			printf '\r  %-44s %3d:%02d   %s' "$title" $((now / 60)) $((now % 60)) "${log#"$TOP"/}"
		elif [ $((now / 60)) -gt $shown ]; then
			shown=$((now / 60))
			printf '  %-44s %3d min, log %s\n' "$title" $shown "${log#"$TOP"/}"
		fi
		sleep 0.5
	done
	wait "$pid" || status=$?
	trap - HUP INT TERM
	local took=$((SECONDS - start))
	[ -t 1 ] && printf '\r'
	if [ $status -ne 0 ]; then
		printf '  %-44s FAILED after %d:%02d, log %s\n' "$title" $((took / 60)) $((took % 60)) "${log#"$TOP"/}"
		local folder
		for folder in "$BUILD" "$CACHE"; do
			[ "$(mebibytes_free "$folder")" -ge 100 ] || die "the disk is full: $folder"
		done
		! grep -q "$NO_NETWORK" "$log" || die "the network cannot be reached: $(grep -m1 "$NO_NETWORK" "$log")"
		! grep -m1 '^coopmem: ' "$log" >&2 || exit 1
		tail -n 15 "$log" | sed 's/^/    | /'
		exit 1
	fi
	printf '  %-44s done %3d:%02d   %s\n' "$title" $((took / 60)) $((took % 60)) "${log#"$TOP"/}"
}

# How apt-get, curl, cargo and pip say it.
NO_NETWORK='Could not resolve\|Temporary failure in name resolution\|Temporary failure resolving\|Network is unreachable'
NO_NETWORK+='\|Cannot initiate the connection\|Could not connect to\|Connection timed out'

mebibytes_free() {
	df --output=avail -BM "$1" | sed -n '$s/M//p'
}

# A short key for what is on standard input and in the named files and folders.
key() {
	{
		cat
		local path
		for path in "$@"; do
			[ -e "$path" ] || continue
			find "$path" -type f ! -path '*/__pycache__/*' -print0 | sort -z |
				while IFS= read -r -d '' file; do
					printf '%s ' "${file#"$TOP"/}"
					sha256sum <"$file"
				done
		done
	} | sha256sum | cut -c1-16
}

# Runs a command with the rights to install packages.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# The mirror that this host takes its own suite from.
mirror() {
	local suite found
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	found=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
		awk -v suite="$suite" '$2 == suite && !found { found = $1 } END { print found }')
	[ -n "$found" ] ||
		found=$(sed -n "s/^deb .*\(https\?:[^ ]*\) *$suite .*/\1/p" /etc/apt/sources.list 2>/dev/null | head -1)
	[ -n "$found" ] || die "apt-get names no mirror for $suite; see /etc/apt/sources.list"
	echo "$found"
}

# What mirror() has found, once somebody has asked.
MIRROR=

# A private apt: other suites and another architecture, without a change to the
# host's configuration, from the mirror that the host itself uses.
private_apt() {
	local arch=$1 dir=$CACHE/apt-$1
	shift
	[ -n "$MIRROR" ] || MIRROR=$(mirror) || exit
	mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/etc"
	touch "$dir/state/status"
	local signed="signed-by=/usr/share/keyrings/debian-archive-keyring.gpg"
	{
		echo "deb [$signed] $MIRROR trixie main"
		if [ "$arch" = amd64 ]; then
			echo "deb [$signed] $MIRROR trixie-backports main"
			echo "deb-src [$signed] $MIRROR trixie main"
		else
			echo "deb [$signed] $MIRROR $NEXT_SUITE main"
		fi
	} >"$dir/etc/sources.list"
	cat >"$dir/apt.conf" <<-EOF
		Dir::State "$dir/state";
		Dir::State::status "$dir/state/status";
		Dir::Cache "$dir/cache";
		Dir::Etc::sourcelist "$dir/etc/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		APT::Architecture "$arch";
		APT::Architectures { "$arch"; };
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Retries "3";
	EOF
	(cd "$DOWNLOADS" && APT_CONFIG=$dir/apt.conf "$@")
}

# A program or library in Python, in an environment of its own in the cache.
python_tool() {
	local dir=$CACHE/$1-$2
	[ -e "$dir/done" ] && return
	rm -rf "$dir"
	python3 -m venv "$dir"
	"$dir/bin/pip" install -q "$1==$2" "${@:3}"
	touch "$dir/done"
}
