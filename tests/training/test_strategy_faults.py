"""Faults of a step on many devices, each seen by the comparison of `test_strategies.py`."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest

from lm.mesh import explicit
from lm.objectives._objective import Sums
from lm.training import explicit_step, program
from tests.training import numerics
from tests.training.numerics import BY_LEAF, assert_close, batches, steps
from tests.training.test_strategies import MESHES, STEPS, plain

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def fresh_programs() -> Iterator[None]:
    """No faulty program stays in the caches for other tests."""
    yield
    numerics.program.cache_clear()
    numerics.compiled.cache_clear()


def one_sum_missing(patch: Patch) -> None:
    """Vectors are not summed over devices."""

    def faulty(x: jax.Array, spec: Any) -> jax.Array:
        return x if explicit.split_axis(spec) is None else explicit.scattered(x, spec)

    patch.setattr(explicit_step, 'scattered', faulty)


def one_gradient_times_devices(patch: Patch) -> None:
    """A bias's gradient is the sum of as many equal ones as there are devices."""

    def faulty(x: jax.Array, spec: Any) -> jax.Array:
        whole = explicit.scattered(x, spec)
        return whole * 8 if explicit.split_axis(spec) is None and x.ndim == 2 else whole

    patch.setattr(explicit_step, 'scattered', faulty)


def sum_for_mean(patch: Patch) -> None:
    """The summed gradients are divided by the targets of the device's own rows."""
    real = jax.lax.psum

    def faulty(x: Any, axis: Any) -> Any:
        if isinstance(x, tuple):
            return real(x[0], axis), x[1]
        return real(x, axis)

    patch.setattr(jax.lax, 'psum', faulty)


def means_averaged(patch: Patch) -> None:
    """Each microbatch's, on each device, counts as much as every other's."""
    real: Callable[..., Any] = program.build_objective

    def faulty(config: Any, vocabulary: Any) -> Any:
        objective = real(config, vocabulary)
        sums = objective.loss

        def mean(logits: jax.Array, batch: Any) -> Sums:
            loss, weight = sums(logits, batch)
            return Sums(loss / jax.numpy.maximum(weight, 1), jax.numpy.float32(1))

        object.__setattr__(objective, 'loss', mean)
        return objective

    patch.setattr(program, 'build_objective', faulty)


@pytest.mark.parametrize('mesh', ['zero2_explicit', 'zero3_explicit'])
@pytest.mark.parametrize(
    'fault', [one_sum_missing, one_gradient_times_devices, sum_for_mean, means_averaged]
)
def test_a_fault_is_seen(fault: Callable[[Patch], None], mesh: str, monkeypatch: Patch) -> None:
    right = plain('gpt2', 'sgd_by_leaf')
    numerics.program.cache_clear()
    fault(monkeypatch)
    made = numerics.program('gpt2', 8, 2, **BY_LEAF, **MESHES[mesh])
    state, _ = steps(made, batches(made, STEPS))
    with pytest.raises(AssertionError):  # by the parameters alone, whatever the metrics tell
        assert_close(right, (state, right[1]))
