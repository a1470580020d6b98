"""What a figure was measured on: versions, and the most memory that was taken."""

import os
import platform
import resource
import sys
from importlib import metadata
from typing import Any


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of installed packages."""
    found = {name: metadata.version(name) for name in packages}
    return {'python': platform.python_version(), **found}


def cores() -> int:
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == 'linux' else os.cpu_count() or 1


def process_peak() -> dict[str, Any]:
    """The most memory that this process held at once, all its libraries included."""
    unit = 1 if sys.platform == 'darwin' else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {'peak_bytes': peak, 'peak_of': 'process (resident set)'}


def jax_peak() -> dict[str, Any]:
    """The most memory that JAX took of a device, of the one where it was most; of a CPU the
    process's."""
    import jax

    stats = [device.memory_stats() for device in jax.local_devices()]
    if any(not known or 'peak_bytes_in_use' not in known for known in stats):
        return process_peak()
    peak = max(known['peak_bytes_in_use'] for known in stats if known)
    return {'peak_bytes': peak, 'peak_of': 'device (peak_bytes_in_use)'}
