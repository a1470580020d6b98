"""The test session: 8 emulated CPU devices, compiled programs kept on disk, types checked.

Everything is set before jax or lm is imported, and in the environment, so that programs which a
test starts run under the same settings.
"""

import os
import re
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

import tests.typechecker

CACHE = Path(__file__).parent.parent / '.pytest_cache' / 'jax'
DEVICES = '--xla_force_host_platform_device_count=8'


def pytest_configure(config: pytest.Config) -> None:
    wants_accelerator = re.search(r'(?<!not )\b(gpu|tpu)\b', config.getoption('markexpr'))
    if not wants_accelerator:
        os.environ['JAX_PLATFORMS'] = 'cpu'
    if DEVICES not in os.environ.get('XLA_FLAGS', ''):
        os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {DEVICES}'.strip()
    # Tiny models compile for seconds and run for milliseconds: keep every program.
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(CACHE))
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    install_import_hook('lm', f'{tests.typechecker.__name__}.check')
