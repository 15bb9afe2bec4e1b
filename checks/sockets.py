# SPDX-License-Identifier: GPL-2.0
"""AF_IUCV sockets between guests, by the unchanged net/iucv of Linux."""
import re
import unittest

from systems import PairCheck, SOON, Stopped

TALK = "/selftests/iucv_talk"
MEBIBYTE = 1 << 20


class Sockets(PairCheck):
    """A program in one guest talks with one in the other."""

    def setUp(self):
        super().setUp()
        for guest in (self.first, self.second):
            guest.run("modprobe af_iucv")
            self.addCleanup(guest.run, "modprobe -r af_iucv")

    def listen(self, guest, kind, name, count=1):
        """Starts a listener; it is gone when the check ends."""
        guest.run(f"{TALK} listen {kind} {name} {count} >/tmp/{name} 2>&1 & echo $! >/tmp/{name}.pid")
        self.addCleanup(guest.run, f"kill -9 $(cat /tmp/{name}.pid) 2>/dev/null; rm /tmp/{name} /tmp/{name}.pid")
        guest.wait_for(f"head -1 /tmp/{name}", "listening", SOON)

    def talk(self, kind, listener, talker, name, size=MEBIBYTE):
        """Both hear all that the other says."""
        self.listen(listener, kind, name)
        said = talker.run(f"{TALK} connect {kind} {listener.name} {name} {size}", timeout=120)
        listener.wait_for(f"tail -1 /tmp/{name}", "closed by peer", SOON)
        heard = listener.run(f"cat /tmp/{name}")
        self.assertIn(f"connected with {talker.name}", heard)
        for one, other in ((said, heard), (heard, said)):
            sent = re.search(r"^sent (\d+) sum \w+$", one, re.M)
            self.assertEqual(int(sent[1]), size)
            self.assertIn(sent[0].replace("sent", "received"), other)

    def test_stream(self):
        self.talk("stream", self.first, self.second, "STREAM")

    def test_packets(self):
        self.talk("packet", self.second, self.first, "PACKET")

    def test_single_byte_travels_in_the_parameter_list(self):
        self.talk("packet", self.first, self.second, "TINY", size=1)

    def test_guest_talks_with_itself(self):
        self.talk("stream", self.first, self.first, "MYSELF", size=100000)

    def test_one_after_the_other(self):
        """A listener serves many."""
        self.listen(self.first, "stream", "MANY", count=20)
        self.second.run(f"for i in $(seq 20); do {TALK} connect stream LINUX01 MANY 5000 || exit 1; done")
        self.first.wait_for("grep -c '^closed by peer' /tmp/MANY", "20", SOON)

    def test_nobody_listens(self):
        """ECONNREFUSED."""
        said = self.first.run(f"{TALK} connect stream LINUX02 NOTHING 1", status=1)
        self.one_line(said, "connect: errno 111")

    def test_not_logged_on(self):
        """ENETUNREACH."""
        said = self.first.run(f"{TALK} connect stream LINUX09 NOTHING 1", status=1)
        self.one_line(said, "connect: errno 101")

    def test_guest_without_iucv_does_not_answer(self):
        """A guest that has not declared a buffer is not there for IUCV."""
        with Stopped(self.cp, "LINUX03", memory="128M"):
            said = self.first.run(f"{TALK} connect stream LINUX03 NOTHING 1", status=1)
            self.assertRegex(said, r"^connect: errno (101|111)$")

    def test_peer_dies(self):
        """The other side sees the end, whether the peer closes or is killed."""
        self.listen(self.first, "stream", "DEATH")
        self.second.run(f"{TALK} hold stream LINUX01 DEATH >/tmp/hold 2>&1 & echo $! >/tmp/hold.pid")
        self.second.wait_for("cat /tmp/hold", "connected", SOON)
        self.second.run("kill -9 $(cat /tmp/hold.pid); rm /tmp/hold /tmp/hold.pid")
        self.first.wait_for("tail -1 /tmp/DEATH", "closed by peer", SOON)


if __name__ == "__main__":
    unittest.main()
