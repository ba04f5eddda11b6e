"""A pseudo terminal, who sits there, and what stands on its screen."""

import codecs
import os
import re
import select
import struct
import subprocess
import sys
import time

DEADLINE_SECONDS = 30

COMMAND = """
import sys
from asgi_errorkit.cli import main
sys.exit(main())
"""
SHELL = f"""
import os, signal, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
before = termios.tcgetattr(0)
job = os.fork()
if not job:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-c", {COMMAND!r}, *sys.argv[1:]])
while os.WIFSTOPPED(status := os.waitpid(job, os.WUNTRACED)[1]):
    os.tcsetpgrp(0, os.getpid())
    is_same = termios.tcgetattr(0) == before
    print("stopped, and the terminal is", "as it was" if is_same else "another", flush=True)
    termios.tcsetattr(0, termios.TCSANOW, before)
    sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
os.tcsetpgrp(0, os.getpid())
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""What a shell does with a job in the foreground; a line brings a stopped one back."""


class Terminal:
    """`asgi-errorkit top` at a pseudo terminal, and what stands on its screen."""

    def __init__(self, *arguments, size=(100, 30), code=COMMAND, errors=None, **variables):
        import fcntl
        import pty
        import termios

        self.size = size
        self.is_other_screen = False
        self.seen = ""
        self._mine, self._theirs = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self._theirs)
        self._termios = termios
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "top", "--every-seconds", "0.2", *arguments],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs if errors is None else errors,
            start_new_session=True,
            # So that Ctrl-C reaches it; no thread runs here meanwhile.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            env={**os.environ, "TERM": "xterm-256color", **variables},
        )

    def resize(self, width, height):
        import fcntl
        import termios

        self.size = (width, height)
        fcntl.ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self._clear()

    def _clear(self):
        width, height = self.size
        self.cells = [[" "] * width for _ in range(height)]
        self.row = self.column = 0

    def job(self):
        """Who is in the foreground."""
        return os.tcgetpgrp(self._mine)

    def mode(self):
        """Of the terminal, as the process has it now."""
        return self._termios.tcgetattr(self._theirs)

    def hang_up(self):
        """As when its window is closed."""
        os.close(self._mine)
        self._mine = None

    def press(self, keys):
        os.write(self._mine, keys.encode())

    def screen(self):
        return "\n".join("".join(row).rstrip() for row in self.cells)

    def until(self, *patterns):
        """Read until all of them stand on the screen; the screen."""
        ends_at = time.monotonic() + DEADLINE_SECONDS
        while True:
            screen = self.screen()
            if all(re.search(pattern, screen, re.MULTILINE) for pattern in patterns):
                return screen
            assert time.monotonic() < ends_at, f"no {patterns} in:\n{screen}\n{self.seen[-3000:]!r}"
            self._read(0.05)

    def until_said(self, words):
        """Read until they were sent, wherever on the screen they stand."""
        ends_at = time.monotonic() + DEADLINE_SECONDS
        while words not in self.seen:
            assert time.monotonic() < ends_at, self.seen[-3000:]
            self._read(0.05)

    def _read(self, seconds):
        if not select.select([self._mine], [], [], seconds)[0]:
            return
        try:
            text = self._decode(os.read(self._mine, 65536))
        except OSError:
            return
        self.seen += text
        text, self._rest = self._rest + text, ""
        pattern = re.compile(r"\x1b\[([0-9;?]*)([@-~])|\x1b\[?[0-9;?]*$|([^\x1b])")
        for found in pattern.finditer(text):
            if found[2] is not None:
                self._obey(found[1], found[2])
            elif found[3] is None:
                self._rest = found[0]
            else:
                self._put(found[3])

    def _obey(self, numbers, command):
        if command == "H":
            row, _, column = numbers.partition(";")
            self.row, self.column = int(row or 1) - 1, int(column or 1) - 1
        elif numbers == "?1049":
            self.is_other_screen = command == "h"
            self._clear()

    def _put(self, char):
        if char == "\n":
            self.row = min(self.size[1] - 1, self.row + 1)
        elif char == "\r":
            self.column = 0
        elif self.row < self.size[1] and self.column < self.size[0]:
            self.cells[self.row][self.column] = char
            self.column += 1

    def ended(self, words=""):
        """The exit code; the terminal is as it was, and no more is said than that."""
        ends_at = time.monotonic() + DEADLINE_SECONDS
        while self.process.poll() is None:
            self._read(0.02)
            assert time.monotonic() < ends_at, self.seen[-600:]
        self._read(0.1)
        assert not self.is_other_screen
        assert "\x1b[?25h" in self.seen.rpartition("\x1b[?25l")[2]
        assert "\x1b[?7h" in self.seen.rpartition("\x1b[?7l")[2]
        assert self._termios.tcgetattr(self._theirs) == self.before
        said = self.seen.rpartition("\x1b[?1049l")[2]
        assert words in said
        assert words or "Traceback" not in said
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for file in (self._mine, self._theirs):
            if file is not None:
                os.close(file)
