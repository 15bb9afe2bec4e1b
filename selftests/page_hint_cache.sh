#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Volatile page cache: what becomes volatile, what does not, and the tunables.
. "$(dirname "$0")/lib.sh"

FILE="$HERE/page_hint_file"
DISK="$WORK/disk"
MEMORY=/sys/devices/system/memory

tunable() {
	cat "$VM/page_hint_$1"
}

set_tunable() {
	echo "$2" >"$VM/page_hint_$1" || fail "page_hint_$1 does not take '$2'"
}

counter() {
	cat "$DEBUGFS/page_hint/counters/$1"
}

sweeps() {
	awk '$1 == "sweeps" { print $2 }' "$DEBUGFS/page_hint/last_sweep"
}

sweeps_are() {
	[ "$(sweeps)" -ge "$1" ]
}

# A sweep from its start to its end.
sweep() {
	n=$(sweeps)
	set_tunable age "$(tunable age)"
	wait_until 60 sweeps_are $((n + 1)) || fail "there is no sweep"
}

# A new file of so many MiB that is clean, and its content in the page cache.
file_of() {
	rm -f "$DISK/file"
	dd if=/dev/urandom of="$DISK/file" bs=1M count="$1" 2>/dev/null
	sync
	digest=$(md5sum <"$DISK/file")
}

# How many pages of the file are volatile while it is used in a way.
states_of() {
	"$FILE" states "$1" "$DISK/file"
}

# The file's pages are volatile.
volatile_file() {
	file_of 4
	same "volatile pages" "$(states_of idle)" "1024 of 1024"
}

unharmed() {
	same "digest of the file" "$(md5sum <"$DISK/file")" "$digest"
}

# Mounts the file system in a file. The loop device may not be open at the same time.
mount_file() {
	device=$(losetup -f) && losetup "$device" "$1" && mount -t ext2 "$device" "$2"
}

unmount_file() {
	device=$(awk -v where="$1" '$2 == where { print $1 }' /proc/mounts)
	umount "$1" && losetup -d "$device"
}

setup() {
	mkdir "$DISK"
	modprobe loop 2>/dev/null
	truncate -s 64M "$WORK/image" && mke2fs -F -b 4096 "$WORK/image" >/dev/null 2>&1 &&
		mount_file "$WORK/image" "$DISK"
}

# Ends what a case began, so that the next one has the same to begin with.
restore() {
	[ -e "$VM/page_hint_volatile" ] || return 0
	swapoff "$DISK/file" 2>/dev/null
	unmount_file "$DISK/inner" 2>/dev/null
	echo 100 >/proc/sys/vm/dirty_writeback_centisecs
	set_tunable age 0
	set_tunable rate 0
	set_tunable share 100
	set_tunable lost 0
	set_tunable mapped 0
	set_tunable volatile 1
}

# --- cases ----------------------------------------------------------------------

bad_values_change_nothing() {
	for name in volatile mapped age rate share lost; do
		before=$(tunable $name)
		for value in '' ' ' -1 x '1 2' 1x 4294967296 18446744073709551617; do
			echo "$value" >"$VM/page_hint_$name" 2>/dev/null &&
				fail "page_hint_$name takes '$value'"
			same "page_hint_$name after '$value'" "$(tunable $name)" "$before"
		done
	done
	echo 2 >"$VM/page_hint_volatile" 2>/dev/null && fail "page_hint_volatile takes 2"
	echo 2 >"$VM/page_hint_mapped" 2>/dev/null && fail "page_hint_mapped takes 2"
	echo 101 >"$VM/page_hint_share" 2>/dev/null && fail "page_hint_share takes 101"
	same "page_hint_volatile and share" "$(tunable volatile) $(tunable share)" "1 100"
}

idle_files_are_volatile() {
	volatile_file
	at_least "volatile pages in the table" "$(states V)" 1024
	at_least "volatile pages that are counted" "$(counter volatile)" 1024
	unharmed
	same "faults" "$(counter kernel_faults) $(counter user_faults)" "0 0"
}

used_files_are_not() {
	for how in mapped locked held; do
		file_of 1
		same "volatile pages of a file that is $how" "$(states_of $how)" "0 of 256"
		unharmed
	done
	# Last: it changes the content.
	same "volatile pages of a file that is dirty" "$(states_of dirty)" "0 of 256"
	same "volatile pages later" "$(states_of idle)" "256 of 256"
}

mapped_files_are_if_asked() {
	set_tunable mapped 1
	file_of 1
	unmapped=$(counter unmapped)
	same "volatile pages of a file that is mapped" "$(states_of mapped)" "256 of 256"
	at_least "pages that were unmapped" $(($(counter unmapped) - unmapped)) 256
	for how in locked held; do
		same "volatile pages of a file that is $how" "$(states_of $how)" "0 of 256"
	done
	unharmed
	# What nobody has mapped does not matter then.
	set_tunable mapped 0
	set_tunable volatile 0
	wait_until 60 counted volatile 0 || fail "$(counter volatile) pages are still volatile"
	file_of 1
	set_tunable mapped 1
	sweep
	sweep
	same "volatile pages while no file is mapped" "$("$FILE" volatile)" 0
	same "volatile pages of one that is mapped" "$(states_of mapped)" "256 of 256"
	set_tunable mapped 0
	wait_until 60 counted volatile 0 || fail "$(counter volatile) pages are still volatile"
	unharmed
	same "faults" "$(counter kernel_faults) $(counter user_faults)" "0 0"
}

off_makes_all_stable() {
	volatile_file
	set_tunable volatile 0
	wait_until 60 counted volatile 0 || fail "$(counter volatile) pages are still volatile"
	same "volatile pages" "$("$FILE" volatile)" 0
	same "volatile pages in the table" "$(states V)" 0
	made=$(counter made_volatile)
	set_tunable age 0
	unharmed
	same "pages made volatile meanwhile" "$(counter made_volatile)" "$made"
	set_tunable volatile 1
	volatile_file
}

counted() {
	[ "$(counter "$1")" = "$2" ]
}

share_is_respected() {
	set_tunable volatile 0
	wait_until 60 counted volatile 0 || fail "$(counter volatile) pages are still volatile"
	file_of 16
	set_tunable share 10
	set_tunable volatile 1
	sweep
	sweep
	cached=$(($(meminfo Cached) + $(meminfo Buffers) + $(meminfo SwapCached)))
	echo "$(counter volatile) of $((cached / PAGE_KIB)) pages are volatile"
	at_least "volatile pages" "$(counter volatile)" $((cached / PAGE_KIB / 20))
	# The last folio may be a large one.
	at_most "volatile pages" "$(counter volatile)" $((cached / PAGE_KIB / 10 + 512))
	set_tunable volatile 0
	set_tunable share 0
	made=$(counter made_volatile)
	set_tunable volatile 1
	sweep
	same "pages made volatile" "$(counter made_volatile)" "$made"
}

rate_is_respected() {
	set_tunable volatile 0
	wait_until 60 counted volatile 0 || fail "$(counter volatile) pages are still volatile"
	file_of 8
	set_tunable rate 500
	made=$(counter made_volatile)
	start=$(cut -d. -f1 /proc/uptime)
	set_tunable volatile 1
	wait_until 60 made_at_least $((made + 500)) || fail "nothing becomes volatile"
	sleep 1
	made=$(($(counter made_volatile) - made))
	took=$(($(cut -d. -f1 /proc/uptime) - start + 1))
	echo "$made pages in less than $took s"
	# What is made before the first pause: frames are looked at by thousands.
	at_most "pages made volatile" $made $((500 * took + 4096))
	# Who waits for his turn still listens.
	set_tunable rate 0
	sweep
	at_least "volatile pages without a limit" "$(counter volatile)" 2048
}

made_at_least() {
	[ "$(counter made_volatile)" -ge "$1" ]
}

# A file of 4 MiB that a command uses stays as it is, and one that nobody uses does not.
stays_young() {
	file_of 4
	cp "$DISK/file" "$DISK/young"
	sync
	set_tunable age 4000
	repeat "$@" "$DISK/young"
	wait_until 60 mostly_volatile 1024 ||
		fail "a file that nobody uses does not become volatile"
	young=$(awk '$1 == "used" { print $2 }' "$DEBUGFS/page_hint/last_sweep")
	stop_repeating
	rm "$DISK/young"
	at_least "pages that the sweeper found used" "$young" 1024
}

used_files_stay_young() {
	stays_young cat
}

used_mappings_stay_young() {
	set_tunable mapped 1
	stays_young "$FILE" touch
}

mostly_volatile() {
	[ "$("$FILE" volatile)" -ge "$1" ]
}

no_wait_for_what_is_there() {
	volatile_file
	same "bytes read without waiting" "$("$FILE" nowait "$DISK/file" | wc -c)" $((4 << 20))
	unharmed
}

files_in_files() {
	file_of 4
	mke2fs -F "$DISK/file" >/dev/null 2>&1 || fail "no file system in the file"
	mkdir -p "$DISK/inner"
	mount_file "$DISK/file" "$DISK/inner" || fail "no mount of a file"
	cp "$FILE" "$DISK/inner/"
	unmount_file "$DISK/inner"
	sync
	same "volatile pages" "$(states_of idle)" "1024 of 1024"
	mount_file "$DISK/file" "$DISK/inner" || fail "no mount of a volatile file"
	cmp "$FILE" "$DISK/inner/page_hint_file" || fail "other content"
	unmount_file "$DISK/inner"
}

swap_files() {
	volatile_file
	mkswap "$DISK/file" >/dev/null
	sync
	sweep
	swapon "$DISK/file" || fail "no swap to a volatile file"
	sweep
	"$HERE/hog" 8 1 >/dev/null || fail "the hog's memory changed"
	swapoff "$DISK/file" || fail "no end of it"
}

mounts_come_and_go() {
	volatile_file
	mount -o remount,ro "$DISK" && mount -o remount,rw "$DISK" || fail "no other mount"
	unharmed
	volatile_file
	freed=$(counter freed)
	unmount_file "$DISK" || fail "volatile pages keep the file system busy"
	at_least "pages freed while volatile" $(($(counter freed) - freed)) 1024
	mount_file "$WORK/image" "$DISK" || fail "no new mount"
	unharmed
}

volatile_pages_move() {
	volatile_file
	moved=$(vmstat pgmigrate_success)
	for block in "$MEMORY"/memory[0-9]*; do
		grep -q Movable "$block/valid_zones" || continue
		echo offline 2>/dev/null >"$block/state" && blocks="$blocks $block"
	done
	echo 1 >/proc/sys/vm/compact_memory
	for block in $blocks; do
		echo online_movable >"$block/state" || fail "$block cannot be online again"
	done
	echo "offline:$blocks, $(($(vmstat pgmigrate_success) - moved)) pages moved"
	unharmed
	same "faults" "$(counter kernel_faults) $(counter user_faults)" "0 0"
}

nothing_leaks() {
	[ -e "$DEBUGFS/kmemleak" ] || skip "there is no kmemleak"
	echo clear >"$DEBUGFS/kmemleak"
	set_tunable volatile 0
	set_tunable volatile 1
	volatile_file
	rm "$DISK/file"
	# It has to see a thing twice, five seconds apart.
	echo scan >"$DEBUGFS/kmemleak"
	sleep 6
	echo scan >"$DEBUGFS/kmemleak"
	leaks=$(cat "$DEBUGFS/kmemleak")
	[ -z "$leaks" ] || fail "$leaks"
}

[ -e "$VM/page_hint_volatile" ] || skip_all "there is no volatile page cache here"
[ -x "$FILE" ] || skip_all "page_hint_file is not built"
set -- "$(tunable volatile)" "$(tunable age)" "$(tunable rate)" "$(tunable share)" \
	"$(tunable mapped)" "$(tunable lost)"
trap 'cleanup; unmount_file "$DISK"; rm -rf "$WORK"
	echo '"$1"' >$VM/page_hint_volatile; echo '"$2"' >$VM/page_hint_age
	echo '"$3"' >$VM/page_hint_rate; echo '"$4"' >$VM/page_hint_share
	echo '"$5"' >$VM/page_hint_mapped; echo '"$6"' >$VM/page_hint_lost' EXIT
setup || skip_all "no file system can be made here"
restore
run bad_values_change_nothing idle_files_are_volatile used_files_are_not mapped_files_are_if_asked \
	off_makes_all_stable share_is_respected rate_is_respected used_files_stay_young \
	used_mappings_stay_young no_wait_for_what_is_there \
	files_in_files swap_files mounts_come_and_go volatile_pages_move nothing_leaks
