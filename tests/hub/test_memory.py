"""An import holds one parameter beside what it has placed, whatever the checkpoint's size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lm.config import ModelConfig
from lm.hub.export import write_model
from lm.hub.folder import open_folder
from lm.models.architectures.llama import Options
from lm.models.functional import functional
from lm.precision.policy import POLICIES

folder = Path(sys.argv[1])
sizes = dict(num_layers=8, d_model=512, num_heads=4, d_ff=2560, vocab_size=16384)
config = ModelConfig(name='llama', vocab_multiple=1, options=Options(), **sizes)
model = functional(config, POLICIES['fp32'])

def status(field):
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

if not folder.exists():
    folder.mkdir()
    params = jax.jit(model.init)(jax.random.key(0))
    dtype = jnp.dtype(sys.argv[2])
    params = {path: array.astype(dtype) for path, array in params.items()}
    write_model(folder, config, params, None, 40_000_000)
else:
    jax.block_until_ready(jax.device_put(jnp.ones(8)))
    weights = open_folder(folder)
    mesh = jax.make_mesh((len(jax.devices()),), ('fsdp',), (AxisType.Auto,))
    shardings = {  # by width, so that no shard is a stretch of the host's memory
        path: NamedSharding(mesh, PartitionSpec(*('fsdp' if d == 'D' else None for d in dims)))
        for path, dims in model.dims.items()
    }
    Path('/proc/self/clear_refs').write_text('5')  # the peak counts from here
    before = status('VmRSS')
    params = weights.params(shardings if len(jax.devices()) > 1 else None)
    beyond = status('VmHWM') - before - sum(array.nbytes for array in params.values())
    print(json.dumps({'beyond': beyond, 'largest': max(a.nbytes for a in params.values())}))
"""


@pytest.mark.skipif(not Path('/proc/self/clear_refs').exists(), reason='measures Linux processes')
@pytest.mark.parametrize(('dtype', 'devices'), [('float32', 1), ('bfloat16', 1), ('float32', 8)])
def test_host_memory_of_an_import(dtype: str, devices: int, tmp_path: Path) -> None:
    flags = f'--xla_force_host_platform_device_count={devices}'
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, '-c', PROGRAM, str(tmp_path / 'model'), dtype],
            capture_output=True, text=True, cwd=REPO, check=True,
            env={'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(REPO), 'XLA_FLAGS': flags},
        )  # fmt: skip
    found = json.loads(ran.stdout)
    ratio = found['beyond'] / found['largest']
    print(f'{dtype}, {devices} devices: {ratio:.2f} x the largest stacked parameter')
    assert found['beyond'] < 1.3 * found['largest']
