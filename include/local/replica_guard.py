"""Become another program that does not outlive the process that started it: ``replica_guard.py PARENT PROGRAM ARGS…``.

On Linux the kernel kills it when its parent dies, however the parent dies. Elsewhere it just becomes the program; the
stack's supervisor ends it with the rest of the group. A file of its own, run by path, because what has to be called
between fork and exec is not safe in a parent with threads; it imports nothing of ours, so it costs some milliseconds.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    """Does not return: this process becomes `argv`."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told
            sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606 - there is no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
