# SPDX-License-Identifier: GPL-2.0
"""Page faults that Linux is told of (DIAGNOSE X'258', "pfault"): it runs something else while a page comes back.

On the release kernel: it is the Control Program that is looked at.
"""
import unittest

import lives
import paging
from systems import KERNEL

# Processes that have memory of their own, and look at it when told so: index() reads all of it as a program does, not
# in a system call. In each megabyte is something else than in the others.
KEEP = """
    rm -f /go
    for who in {who}; do
        (awk -v who=$who -v size={bytes} 'BEGIN {{
            for (n = 0; n < 4000; n++) part = part n who ":"
            for (all = part; length(all) < size; ) all = all length(all) all
            before = "md5sum >/tmp/" who ".before"
            after = "md5sum >/tmp/" who ".after"
            printf "%s", all | before
            close(before)
            system("while ! [ -e /go ]; do sleep 0.05; done")
            for (round = 1; round <= {rounds}; round++) if (index(all, "not there")) exit 1
            printf "%s", all | after
            close(after)
        }}'; touch /tmp/$who.done) </dev/null >/dev/null 2>&1 &
    done
    for who in {who}; do while ! [ -s /tmp/$who.before ]; do sleep 0.1; done; done"""
LOOK = """
    touch /go
    for who in {who}; do while ! [ -e /tmp/$who.done ]; do sleep 0.1; done; done
    for who in {who}; do cmp /tmp/$who.before /tmp/$who.after || exit; done
    echo right"""
# Counts when nobody else has something to do.
COUNT = """
    awk 'BEGIN {
        while (1) if (++n % 1000 == 0) { print n >"/tmp/count"; close("/tmp/count") }
    }' </dev/null >/dev/null 2>&1 &
    echo $! >/tmp/counter
    renice -n 19 -p $!
    while ! [ -s /tmp/count ]; do sleep 0.1; done"""
# How far it has come; the file is empty while it is written.
COUNTED = "while count=$(cat /tmp/count); [ -z \"$count\" ]; do :; done; echo $count"
# Interrupts that Linux has counted.
TAKEN = "awk '/PFL:/ { for (i = 2; $i ~ /^[0-9]+$/; i++) n += $i } END { print n + 0 }' /proc/interrupts"


class Pfault(paging.Paged):
    """Guests with more memory than frames, whose page-ins take their time."""

    def counts(self, guest):
        """Initial interruptions, completions, and those that have none since there was a reset."""
        counters = self.cp.counters(guest.name)
        return tuple(counters[name] for name in ("pfault_inits", "pfault_completions", "pfaults_forgotten"))

    def in_flight(self, guest):
        inits, completions, forgotten = self.counts(guest)
        return inits - completions - forgotten

    def rests(self, guest):
        """Nobody is waited for any longer; gives how many were."""
        self.eventually(lambda: self.in_flight(guest) == 0, "each initial interruption has its completion")
        return self.counts(guest)[0]

    def keep(self, guest, names, mib, rounds=1):
        """Has processes keep memory, and all of it paged out by what comes after it."""
        guest.run(KEEP.format(who=" ".join(names), bytes=mib << 20, rounds=rounds))
        self.eventually(lambda: self.preserved_after_others(guest) > len(names) * mib * paging.MIB // 2,
                        "most of it is paged out", 300)

    def preserved_after_others(self, guest):
        """How many pages are paged out after others were used."""
        guest.run("/selftests/hog 80 1")
        return self.paged(guest)[1]

    def look(self, guest, names):
        self.assertEqual(guest.run(LOOK.format(who=" ".join(names))), "right")

    def count_meanwhile(self, guest):
        """How far a process counts for each page-in that another one waits for, on the only CPU."""
        self.keep(guest, ["keeper"], 16)
        guest.run(COUNT)
        came, count = self.paged(guest)[2], int(guest.run(COUNTED))
        self.look(guest, ["keeper"])
        came, count = self.paged(guest)[2] - came, int(guest.run(COUNTED)) - count
        guest.run("kill $(cat /tmp/counter)")
        self.assertGreater(came, 20)
        return count / came

    def test_another_process_goes_on(self):
        """One that only gets what is left over, which without pfault is next to nothing."""
        self.start(96, "1G", "--page-latency", "20000")
        told = self.guest("LINUX01")
        on = self.count_meanwhile(told)
        self.assertGreater(self.rests(told), 20)
        # Linux saw the same, but for what has happened since.
        self.eventually(lambda: int(told.run(TAKEN)) == sum(self.counts(told)), "each interruption was taken once")
        self.cp.ctl("force", told.name)
        told.process.wait(30)
        waits = self.guest("LINUX02", append="nopfault")
        off = self.count_meanwhile(waits)
        self.assertEqual((self.counts(waits), waits.run(TAKEN)), ((0, 0, 0), "0"))
        self.assertGreater(on, 2 * off)

    def test_many_processes(self):
        """All at once, on two CPUs of which one comes and goes: what they kept is what they find."""
        self.start(96, "1G", "--page-latency", "2000")
        guest = self.boot(self.cp, "LINUX01", memory="256M")
        names = [f"keeper{number}" for number in range(8)]
        self.keep(guest, names, 2, rounds=3)
        guest.run("""(while ! [ -e /tmp/keeper0.done ]; do
                          for online in 0 1; do echo $online >/sys/devices/system/cpu/cpu1/online; sleep 0.3; done
                      done) </dev/null >/dev/null 2>&1 &""")
        self.look(guest, names)
        self.assertGreater(self.rests(guest), 20)
        self.eventually(lambda: int(guest.run(TAKEN)) == sum(self.counts(guest)), "each interruption was taken once")
        self.assertEqual(self.counts(guest)[2], 0)

    def test_kexec(self):
        """Nor has the kernel that comes next, at once and in the same memory, when page faults were on their way."""
        kernel, initramfs = self.next_kernel()
        self.start(96, "1G", "--page-latency", "10000")
        guest = self.boot(self.cp, "LINUX01", memory="256M", add=((kernel, "/next/kernel"), (initramfs, "/next/initramfs")))
        names = [f"keeper{number}" for number in range(6)]
        self.keep(guest, names, 6)
        guest.run('/selftests/next_kernel load /next/kernel /next/initramfs "$(cat /proc/cmdline) next"')
        inits, _, forgotten = self.counts(guest)
        guest.run("touch /go")
        self.eventually(lambda: self.counts(guest)[0] > inits + 5 and self.in_flight(guest) > 2, "pages come")
        self.run_next_kernel(guest, 0)
        self.assertGreater(self.counts(guest)[2], forgotten)
        # One that was meant for the old kernel would be one completion too many.
        self.rests(guest)
        self.assertEqual(guest.run("echo alive"), "alive")
        self.assertEqual(self.in_flight(guest), 0)

    def test_reset(self):
        """A guest that starts again has no part in what came before, and the same rights."""
        self.start(96, "1G", "--page-latency", "50000")
        guest = self.boot(self.cp, "LINUX01", memory="256M", kind=lives.Rebooting, kernel=KERNEL)
        names = [f"keeper{number}" for number in range(6)]
        for reset in (lambda: guest.qmp("system_reset"), lambda: guest.run("reboot -f >/dev/null 2>&1 &")):
            self.keep(guest, names, 4)
            inits, _, forgotten = self.counts(guest)
            guest.run("touch /go")
            self.eventually(lambda: self.counts(guest)[0] > inits + 5 and self.in_flight(guest) > 2, "pages come")
            reset()
            guest.ready()
            self.eventually(lambda: self.counts(guest)[2] > forgotten, "it has forgotten what it waited for")
            self.rests(guest)
        self.keep(guest, names, 2)
        before = self.rests(guest)
        self.look(guest, names)
        self.assertGreater(self.rests(guest), before + 5)


if __name__ == "__main__":
    unittest.main()
