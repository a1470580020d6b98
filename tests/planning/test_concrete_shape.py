"""A shape for a number of parameters."""

import pytest

from lm.errors import UserError
from lm.planning.concrete_shape import ASPECT, CLOSE, concrete_shape


@pytest.mark.parametrize('params', [3e7, 1.24e8, 1.1e9, 7e9, 13e9, 70e9, 175e9, 1e12])
def test_parameters_and_multiples(params: float) -> None:
    found = concrete_shape(params, 32_000)
    config = found.config
    assert abs(found.off) <= CLOSE and found.count.total == pytest.approx(params, rel=CLOSE)
    assert config.d_model % 64 == 0 and config.head_width == (64 if config.d_model < 1024 else 128)
    assert config.num_heads * config.head_width == config.d_model
    assert 0.6 * ASPECT < config.d_model / config.num_layers < 1.7 * ASPECT


def test_the_count_is_of_the_closed_form() -> None:
    found = concrete_shape(7e9, 32_000)
    L, D, F = found.config.num_layers, found.config.d_model, -(-8 * found.config.d_model // 3)
    F = -(-F // 256) * 256
    assert found.count.total == 2 * 32_000 * D + L * (4 * D * D + 3 * D * F + 2 * D) + D


def test_no_shape_is_so_small_or_so_large() -> None:
    for params in (1e6, 1e17):
        with pytest.raises(UserError, match='params=') as error:
            concrete_shape(params, 32_000)
        assert '\n' not in str(error.value)
