"""Optimizer state in the host's memory: where it lies, saved and read, and what is refused."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lm
from lm import UserError, registry
from lm.config import CheckpointConfig
from lm.mesh.host_offload import HOST, is_in_host_memory, require_host_memory
from lm.training.checkpoint import Checkpoints
from lm.training.digest import by_path, digests, not_finite
from lm.training.step import Metrics
from lm.training.workdir import Workdir
from tests.training.numerics import ADAMW, TOLERANCE, batches, program
from tests.training.runs import Runs, read_rows

OFFLOAD = {'mesh.offload': 'optimizer'}
TWO_LAYERS = {'model.num_layers': 2, 'mesh.strategy': 'zero1'}


@pytest.mark.parametrize('strategy', ['ddp', 'zero1', 'zero3'])
def test_moments_lie_in_host_memory_before_and_after_a_step(strategy: str) -> None:
    made = program('llama', 8, **ADAMW, **OFFLOAD, **{'mesh.strategy': strategy})
    [batch] = batches(made, 1)
    state = made.init_state()
    for _ in range(2):
        kinds = {path: x.sharding.memory_kind for path, x in by_path(state.opt_state).items()}
        moments = {path for path in kinds if '/mu/' in path or '/nu/' in path}
        assert len(moments) == 2 * len(state.params)
        assert {path for path, kind in kinds.items() if kind == HOST} == moments
        assert not any(is_in_host_memory(x) for x in state.params.values())
        abstract = by_path(made.abstract_state.opt_state)
        assert all(abstract[path].sharding == x.sharding for path, x in
                   by_path(state.opt_state).items())  # fmt: skip
        state, _ = made.step(state, made.layout.place(batch))
        jax.block_until_ready(state)
    assert made.step._cache_size() == 1  # the state comes back as it went in: no second compile


@pytest.mark.parametrize(
    ('optimizer', 'scan'),
    [
        (ADAMW, True),
        (ADAMW, False),
        ({'optim.name': 'sgd', 'optim.options.momentum': 0.9}, True),
        ({'optim.name': 'sgd', 'optim.options.momentum': 0.9}, False),
        ({'optim.name': 'lion'}, True),
        ({'optim.name': 'adafactor', 'optim.peak_lr': 1e-2}, True),
        ({**ADAMW, 'optim.name': 'muon'}, True),
    ],
    ids=lambda value: value['optim.name'] if isinstance(value, dict) else None,
)
def test_each_layer_gets_its_own_update(optimizer: dict[str, Any], scan: bool) -> None:
    changes = {**TWO_LAYERS, 'model.num_layers': 3, 'model.scan_layers': scan, **optimizer}
    results = []
    for offload in ({}, OFFLOAD):
        made = program('t5', 8, **changes, **offload)
        state = made.init_state()
        for batch in batches(made, 3):
            state, _ = made.step(state, made.layout.place(batch))
            jax.block_until_ready(state)
        results.append(by_path(jax.device_get(state)))
    for path, one in results[0].items():
        if not path.endswith('key_bias'):
            largest = np.abs(one).max()
            assert np.abs(one - results[1][path]).max() <= TOLERANCE * largest, path


def test_saved_from_there_and_read_to_anywhere(tmp_path: Path) -> None:
    made = program('llama', 8, **ADAMW, **TWO_LAYERS, **OFFLOAD)
    state = made.init_state()
    for batch in batches(made, 2):
        state, _ = made.step(state, made.layout.place(batch))
        jax.block_until_ready(state)
    assert not_finite(state) == []
    folder = Checkpoints(tmp_path / 'checkpoints', CheckpointConfig())
    folder.save(state, {})
    folder.close()
    for other in (
        made,
        program('llama', 8, **ADAMW, **TWO_LAYERS),
        program('llama', 1, **ADAMW, **{**TWO_LAYERS, 'mesh.strategy': 'ddp'}),
    ):
        restored, _ = folder.read(2, other.abstract_state)
        assert digests(restored) == digests(state)
        for x, like in zip(
            jax.tree.leaves(restored), jax.tree.leaves(other.abstract_state), strict=True
        ):
            assert x.sharding == like.sharding
    bad = state._replace(
        opt_state=jax.tree.map(
            lambda x: jax.device_put(jnp.full_like(x, jnp.nan), x.sharding) if x.ndim else x,
            state.opt_state,
        )
    )
    assert len(not_finite(bad)) == 2 * len(state.params)


def test_a_run_goes_on_with_its_moments_in_the_other_memory(runs: Runs, tmp_path: Path) -> None:
    mesh = {'mesh__devices': 4, 'mesh__strategy': 'zero1', 'checkpoint__every_steps': 4}
    one, other = tmp_path / 'one', tmp_path / 'other'
    straight = runs.train('llama', one, train__steps=8, **mesh)
    runs.train('llama', other, train__steps=8, run_strict=True, **mesh, mesh__offload='optimizer')
    (other / 'summary.json').unlink()
    # Back to its step 4, and on with the moments on the device.
    for path in (other / 'checkpoints').iterdir():
        if path.name == '8':
            path.rename(tmp_path / 'aside')
    resumed = runs.train('llama', other, train__steps=8, **mesh, mesh__offload='none')
    assert resumed['final_loss'] == pytest.approx(straight['final_loss'], rel=1e-5)
    [row] = [r for r in read_rows(other / 'history.jsonl') if r['step'] == 4]
    assert row['changes'] == {'mesh.offload': ['optimizer', 'none']}
    assert Workdir(other).read_config().mesh.offload == 'none'  # type: ignore[union-attr]


def test_a_device_without_host_memory_is_refused() -> None:
    class Memory(NamedTuple):
        kind: str

    class Device:
        platform = 'abacus'

        def addressable_memories(self) -> list[Memory]:
            return [Memory('device')]

    with pytest.raises(
        UserError, match='mesh.offload=optimizer: a abacus device reaches no memory'
    ):
        require_host_memory('mesh.offload=optimizer', Device())


def test_explicit_collectives_are_refused() -> None:
    with pytest.raises(UserError, match=r'mesh.offload=optimizer: .*set that to auto'):
        program(
            'llama', 8, **OFFLOAD,
            **{'mesh.strategy': 'zero2', 'mesh.collectives': 'explicit'},
        )  # fmt: skip


class OneNumberAParameter:
    """An optimizer that keeps one number of a whole stacked parameter."""

    @dataclasses.dataclass(frozen=True)
    class Options:
        pass

    @staticmethod
    def build(config: Any, learning_rate: Any, dims: Any) -> optax.GradientTransformation:
        def init(params: Any) -> Any:
            return {path: jnp.zeros(()) for path in params}

        def update(updates: Any, state: Any, params: Any = None) -> Any:
            return updates, state

        return optax.GradientTransformation(init, update)


def test_an_optimizer_that_keeps_no_part_a_layer_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry._registered, ('optimizers', 'one_number'), OneNumberAParameter)
    with pytest.raises(UserError, match=r'optim.name=one_number keeps .* of shape \(\)'):
        program('llama', 8, **OFFLOAD, **{'optim.name': 'one_number', 'mesh.strategy': 'zero1'})


def test_sgd_has_nothing_to_offload_and_momentum_has() -> None:
    plain = lm.load_config('llama_tiny', **{'optim.name': 'sgd', **OFFLOAD})
    assert plain.mesh.offload == 'optimizer'
    for momentum, kept in ((None, 0), (0.9, 1)):
        made = program(
            'bert', 8, **OFFLOAD,
            **{'optim.name': 'sgd', 'optim.options.momentum': momentum, 'mesh.strategy': 'zero2'},
        )  # fmt: skip
        state, told = first_step(made)
        off = [x for x in jax.tree.leaves(state.opt_state) if is_in_host_memory(x)]
        assert len(off) == kept * len(state.params)
        assert told.loss > 0


def first_step(made: Any) -> Any:
    [batch] = batches(made, 1)
    state, metrics = made.step(made.init_state(), made.layout.place(batch))
    jax.block_until_ready(state)
    return state, Metrics.unpacked(metrics)
