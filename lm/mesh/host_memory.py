"""How the C library hands out a CPU step's buffers."""

import ctypes
import os
import sys
from importlib.util import find_spec

PLUGINS = ('jax_cuda13_plugin', 'jax_cuda12_plugin', 'libtpu')
"""Packages by which JAX sees other devices than CPUs."""

# Parameters of glibc's mallopt(3), and what they are set to.
_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD, _TOP_PAD = -8, -4, -1, -2
_NEVER = -1


def serves_cpus() -> bool:
    """Whether JAX will compute on CPUs, as far as can be told before it looks for devices."""
    asked = os.environ.get('JAX_PLATFORMS')
    return asked == 'cpu' if asked else not any(map(find_spec, PLUGINS))


def keep_freed_memory() -> None:
    """Makes glibc keep large freed blocks instead of giving them back to the kernel.

    XLA's CPU client allocates and frees every step's temporaries; by default each one is a fresh
    mapping whose pages fault in anew, a quarter of the CPU time of a small model's step
    (docs/LOG.md, "Memory of CPU steps"). Freed memory stays with the process for its lifetime.
    Without glibc, or where it refuses, nothing changes; and for threads that have allocated before
    little, for glibc gives each an arena of 64 MB, and what is larger a fresh mapping.
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
