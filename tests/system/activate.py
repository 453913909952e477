"""
Passes listening sockets as systemd does, sd_listen_fds(3): descriptors from 3 on, their
number in LISTEN_FDS, their names in LISTEN_FDNAMES, whose they are in LISTEN_PID.

    python -m tests.system.activate NUMBER[,NUMBER…] NAMES COMMAND…
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Become the command."""
    numbers, names, *command = sys.argv[1:]
    # Out of the way first: a number to move to may be one to move from.
    moved = [os.dup2(int(number), 100 + at) for at, number in enumerate(numbers.split(","))]
    for at, number in enumerate(moved):
        os.dup2(number, 3 + at, inheritable=True)
        os.close(number)
    environ = {**os.environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(moved)), "LISTEN_FDNAMES": names}
    os.execvpe(command[0], command, environ)


if __name__ == "__main__":
    main()
