"""That a CPU step's buffers are handed out again, and do not come from the kernel each time."""

import platform
import subprocess
import sys

import pytest

from lm.mesh import host_memory

FAULTS = """
import resource
{before}
import jax, jax.numpy as jnp

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

x = jnp.ones(1 << 24)
take = jax.jit(lambda x: 2 * x)
for i in range(150):
    if i == 100:
        before = faults()
    take(x).block_until_ready()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc has mallopt')
def test_buffers_stay_with_the_process() -> None:
    def pages(before: str) -> int:
        code = FAULTS.format(before=before)
        ran = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return int(ran.stdout)

    arrays = 50 * 4 * (1 << 24) // 4096
    assert pages('') >= arrays
    # A place of the heap that was not used before comes from the kernel once.
    assert pages('import lm.mesh') < arrays / 4


def test_which_processes_compute_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, found, serves in (
        ('cpu', True, True), ('cuda', False, False), ('', True, False), ('', False, True),
    ):  # fmt: skip
        monkeypatch.setenv('JAX_PLATFORMS', asked)
        monkeypatch.setattr(host_memory, 'find_spec', lambda name, found=found: found or None)
        assert host_memory.serves_cpus() == serves
