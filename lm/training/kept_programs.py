"""Compiled programs, kept on disk from run to run."""

import jax

from lm.config import DataConfig
from lm.data.cache import cache_root

SHORTEST = 0.2
"""Seconds of compiling from which a program is kept."""


def keep_programs(data: DataConfig) -> None:
    """Has JAX keep what it compiles in `compiled/` beside the prepared text.

    Where JAX was told a place itself ($JAX_COMPILATION_CACHE_DIR) it stays as it is, and
    $JAX_ENABLE_COMPILATION_CACHE=false keeps nothing. A program is found again by its text, its
    options, the device and the versions of jax and jaxlib, so an old one is never run for a new.
    """
    if jax.config.values['jax_compilation_cache_dir'] is None:
        jax.config.update('jax_compilation_cache_dir', str(cache_root(data) / 'compiled'))
        jax.config.update('jax_persistent_cache_min_compile_time_secs', SHORTEST)
