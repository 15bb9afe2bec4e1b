# SPDX-License-Identifier: GPL-2.0
# coopmem: `make help` lists what there is.

STEP ?=
MINUTES ?= 2
SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup qemu cp userland release debug builtin kasan vanilla all disk database debian matplotlib run check check-debian check-hooks check-kasan bench bench-debian lab soak fuzz console patches check-fresh clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

setup: ## make this machine ready: packages, sources, tools
	@scripts/setup

qemu cp userland disk database matplotlib: setup
	@scripts/build $@

release debug builtin kasan vanilla: setup
	@scripts/build kernel $@

debian: qemu userland ## a disk with Debian and its kernel, for scripts/guest run --image debian
	@scripts/build kernel debian
	@scripts/build debian

all: qemu cp userland release debug builtin ## build everything

run: qemu cp userland release disk ## build what is needed and show it work (STEP=cmm, page_hint, tmem or overcommit: only that)
	@scripts/demo $(STEP)

console: qemu cp userland release ## a guest with a root shell in this terminal (its end: poweroff -f)
	@scripts/guest console

check: debug builtin release qemu cp userland disk ## everything that must hold: N passed, N failed
	@scripts/check $(PART)

bench: qemu cp userland release vanilla disk ## measure; text, and build/bench/*.json
	@bench/cmm
	@bench/page_hint
	@bench/tmem

bench-debian: qemu cp userland debian ## what the pages of a server with Debian are
	@bench/debian

lab: qemu cp userland release vanilla disk database matplotlib ## what each answer to overcommit is worth (LAB=quick: 10 minutes; LAB=full)
	@bench/lab
	@build/matplotlib/bin/python3 scripts/lab-report

soak: qemu cp userland release disk ## guests come, work and go in too few frames (MINUTES=2)
	@scripts/soak --minutes $(MINUTES)

fuzz: setup ## a fuzzer looks for bytes from outside that the Control Program takes wrongly (SECONDS=60)
	@scripts/fuzz $(SECONDS) $(TARGET)

check-debian: qemu cp userland debian ## kselftests and a torture in guests with Debian (long)
	@scripts/check debian

check-hooks: qemu cp userland release ## leave each hook in mm out, and see who notices (long)
	@scripts/check-hooks $(HOOK)

check-kasan: qemu cp userland ## the tortures on a kernel with KASAN (long)
	@scripts/build kernel kasan
	@PYTHONPATH=scripts:checks COOPMEM_KERNEL=kasan TORTURE_SECONDS=60 python3 -m unittest -v \
		page_hint_torture tmem_torture.Switches tmem_torture.Torture

patches: setup ## the kernel side as one mailable series, in build/patches
	@scripts/build tree
	@scripts/patches

check-fresh: ## the README's two commands in a bare Debian 12 and a bare Debian 13
	@scripts/check-fresh

clean: ## remove build/ (the cache stays)
	@rm -rf build
