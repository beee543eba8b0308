"""Runs a command on a terminal of its own, where progress bars are drawn, and says when what they show was seen."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

# onsa's progress bar once the first step of training has ended.
FIRST_STEP = r"epoch 1/\d+ .{24} [1-9]\d*/\d+"


def watched(command, patterns, env=None, stop=None):
    """When the process began, when each pattern was first seen (seconds of `time.time()`; None: never), and all that was drawn.

    With `stop`, the process is ended once that pattern was seen. A process that fails ends the program with its output.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    begun = time.time()
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen, text, ended = dict.fromkeys(patterns), "", False
    while True:
        ready, _, _ = select.select([ours], [], [], 0.5)
        if ready:
            try:
                got = os.read(ours, 65536)
            except OSError:
                break
            if not got:
                break
            text += got.decode(errors="replace")
            for name, pattern in patterns.items():
                if seen[name] is None and re.search(pattern, text):
                    seen[name] = time.time()
            if stop and seen[stop] is not None and not ended:
                ended = True
                child.kill()
        elif child.poll() is not None:
            break
    os.close(ours)
    if child.wait() and not ended:
        raise SystemExit(text[-2000:])
    return begun, seen, text
