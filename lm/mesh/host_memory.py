"""How the C library hands out a CPU step's buffers."""

import ctypes
import sys

# Parameters of glibc's mallopt(3), and what they are set to.
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -8, -4, -1, -2
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Makes glibc keep large freed blocks instead of giving them back to the kernel.

    XLA's CPU client allocates and frees every step's temporaries; by default each one is a fresh
    mapping whose pages fault in anew, a quarter of the CPU time of a small model's step
    (docs/LOG.md, "Memory of CPU steps"). Freed memory stays with the process for its lifetime.
    Without glibc, or where it refuses, nothing changes.
    """
    if not sys.platform.startswith('linux'):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in (
        (_ARENA_MAX, 1),
        (_MMAP_MAX, 0),
        (_TRIM_THRESHOLD, _NEVER),
        (_TOP_PAD, 1 << 28),
    ):
        mallopt(parameter, value)
