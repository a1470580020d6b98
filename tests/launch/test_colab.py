"""What Colab's pip is asked for: jax with the extra of the plug-in that is there, or none."""

import pytest

from launch._colab import requirements

JAX = 'jax>=0.10,<0.13'


@pytest.mark.parametrize(
    ('installed', 'wanted'),
    [
        ({}, [JAX]),
        ({'jax': '0.7.2', 'numpy': '2.0.2'}, [JAX, 'numpy==2.0.2']),
        ({'jax': '0.7.2', 'jax-cuda12-plugin': '0.7.2'}, ['jax[cuda12]>=0.10,<0.13']),
        ({'jax': '0.11.0', 'jax-cuda13-plugin': '0.11.0'}, ['jax[cuda13]>=0.10,<0.13']),
        ({'jax': '0.7.2', 'libtpu': '0.0.21'}, ['jax[tpu]>=0.10,<0.13']),
    ],
)
def test_what_is_there_is_kept_or_moved_together(
    installed: dict[str, str], wanted: list[str]
) -> None:
    assert requirements(installed, JAX) == wanted
