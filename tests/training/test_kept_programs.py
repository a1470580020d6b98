"""Where compiled programs are kept, and that they are found again."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import compilation_cache

from lm.config import DataConfig
from lm.training.kept_programs import keep_programs

NAMES = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')


@pytest.fixture
def no_place() -> Iterator[None]:
    """JAX as it is where nobody has told it a place."""
    before = {name: jax.config.values[name] for name in NAMES}
    jax.config.update(NAMES[0], None)
    compilation_cache.compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.compilation_cache.reset_cache()


def test_they_lie_beside_the_prepared_text(no_place: None, tmp_path: Path) -> None:
    keep_programs(DataConfig(cache_dir=str(tmp_path)))
    jax.config.update(NAMES[1], 0)  # what is compiled here takes no fifth of a second
    jax.jit(lambda x: jnp.sin(x) * 3.25)(jnp.arange(7.0)).block_until_ready()
    kept = list((tmp_path / 'compiled').glob('jit__lambda*-cache'))
    assert len(kept) == 1
    events: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    jax.clear_caches()
    jax.jit(lambda x: jnp.sin(x) * 3.25)(jnp.arange(7.0)).block_until_ready()
    assert '/jax/compilation_cache/cache_hits' in events


def test_a_place_that_jax_was_told_stays(no_place: None, tmp_path: Path) -> None:
    jax.config.update(NAMES[0], str(tmp_path / 'mine'))
    keep_programs(DataConfig(cache_dir=str(tmp_path)))
    assert jax.config.values[NAMES[0]] == str(tmp_path / 'mine')
