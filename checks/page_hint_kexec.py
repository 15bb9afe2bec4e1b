# SPDX-License-Identifier: GPL-2.0
"""Guest page hinting: a kernel that comes next, after kexec or a crash, finds all of the memory.

On the release kernel: it is the kernel that comes next that looks.
"""
import unittest

import page_hint_torture as torture
from hinting import reclaim, sweep
from systems import PAGE, fill_memory


class Handed(torture.HintCheck):
    """Memory that another kernel gets, which knows nothing of the states that pages had."""

    # 128 MiB, and 64 MiB of nothing behind the next kernel's first file system: those go to where page cache is.
    DATA = torture.Lost.DATA * 128
    MORE = bytes(64 << 20)

    def hand_over(self, verb, memory, options=""):
        """Loads a kernel into a guest that is full of page cache, of which the host then takes all that it may."""
        kernel, initramfs = self.next_kernel()
        hinting = self.enterContext(torture.Hinting(("erofs",), {
            "data": self.DATA, "bzImage": kernel.read_bytes(), "initramfs": initramfs.read_bytes() + self.MORE},
            options, memory))
        guest = hinting.guest
        # Page cache first: the next kernel goes to where it is, too.
        guest.run(f"mount -t erofs {hinting.device('erofs')} /mnt && cd /mnt && cat data >/dev/null && "
                  f'/selftests/next_kernel {verb} bzImage initramfs "$(cat /proc/cmdline) next" && cat data >/dev/null')
        sweep(guest)
        self.assertGreater(reclaim(guest, "all")["V"], len(self.DATA) // PAGE // 2)
        self.check_faults(hinting)
        return hinting

    def test_kexec(self):
        hinting = self.hand_over("load", "384M")
        guest = self.watch(hinting.guest)
        self.run_next_kernel(guest)
        fill_memory(guest)

    def test_kdump(self):
        hinting = self.hand_over("crash", "512M", "crashkernel=160M")
        guest = hinting.guest
        word = "what there was when it came to its end"
        guest.run(f"echo {word} | tr a-z n-za-m >/word")
        guest.run("(sleep 1; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &")
        guest.ready()
        # All of the memory can be read, and has what was in it.
        guest.run(f"tr -sc 'a-z ' '\\n' </proc/vmcore | tr a-z n-za-m | grep -cxF '{word}'", timeout=900)
        self.assertEqual([line for line in guest.complaints() if "sysrq triggered crash" not in line], [])


if __name__ == "__main__":
    unittest.main()
