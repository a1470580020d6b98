"""Members by name: those that come with `lm`, and a user's own."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import optax
import pytest

import lm
from lm import registry
from lm.config import OptimConfig
from lm.errors import UserError
from lm.objectives import clm
from lm.shapes import Dims
from tests.objectives.rows import VOCABULARY


@pytest.fixture(autouse=True)
def nothing_stays_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, '_registered', {})
    yield


@pytest.mark.parametrize('kind', registry.PACKAGES)
def test_every_member_is_found_and_complete(kind: str) -> None:
    needed = {
        'models': {'FAMILY', 'Options', 'build'},
        'objectives': {'FAMILIES', 'Options', 'build'},
        'optimizers': {'Options', 'build', 'kept'},
        'schedules': {'build', 'plateau_end'},
        'configs': {'config'},
        'converters': {'MODEL_TYPES', 'read_config', 'write_config', 'table'},
        'loggers': {'PACKAGES', 'start'},
        'tasks': {'MEASURES', 'DEFAULT', 'answers', 'measures'},
    }[kind]
    assert registry.names(kind)
    for name in registry.names(kind):
        member = registry.lookup(kind, name, 'x')
        assert needed <= set(dir(member)), name
        if 'Options' in needed:
            assert dataclasses.is_dataclass(member.Options())


def test_an_unknown_name_is_told_with_the_closest() -> None:
    with pytest.raises(UserError, match=r'objective.name=clmm: no such member; did you mean clm\?'):
        registry.lookup('objectives', 'clmm', 'objective.name')
    with pytest.raises(
        UserError, match=r'optim\.name=x: no such member; one of adafactor, adamw, '
    ):
        registry.lookup('optimizers', 'x', 'optim.name')
    with pytest.raises(UserError, match='no such member'):
        registry.lookup('objectives', '_spans', 'objective.name')


def test_what_cannot_be_registered() -> None:
    with pytest.raises(UserError, match="kind 'objective' does not exist; did you mean objectives"):
        registry.register('objective', 'mine', clm)
    with pytest.raises(UserError, match="objectives 'clm' already exists; register it under"):
        registry.register('objectives', 'clm', clm)


@dataclass(frozen=True)
class Sign:
    """Options of a user's own optimizer."""

    strength: float = 2.0


def sign_descent(
    config: OptimConfig, learning_rate: optax.Schedule, dims: Dims
) -> optax.GradientTransformation:
    del dims
    return optax.chain(
        optax.scale_by_sign(),
        optax.scale(config.options.strength),
        optax.scale_by_learning_rate(learning_rate),
    )


def test_a_users_own_members_work_by_name() -> None:
    def halved(options: Any, vocabulary: Any, seq_len: int) -> Any:
        del options
        return clm.CausalLM(vocabulary, target_len=seq_len // 2)

    own = SimpleNamespace(FAMILIES=('decoder',), Options=clm.Options, build=halved)
    lm.register('objectives', 'halved', own)
    lm.register('optimizers', 'sign', SimpleNamespace(Options=Sign, build=sign_descent))
    assert 'halved' in registry.names('objectives')
    config = lm.load_config(
        'llama_tiny',
        **{
            'objective.name': 'halved', 'optim.name': 'sign', 'optim.options.strength': 3.0,
            'model.vocab_size': VOCABULARY.size, 'precision.policy': 'fp32',
            'train.batch_size': 8, 'train.seq_len': 16,
        },
    )  # fmt: skip
    assert config.optim.options == Sign(3.0)
    from lm.training.program import build_program

    program = build_program(config, VOCABULARY)
    assert program.objective.row_len == 9
    params = {'a': 0.5}
    updates, _ = program.optimizer.update({'a': -0.1}, program.optimizer.init(params), params)
    assert updates['a'] == pytest.approx(3.0 * float(program.schedule(0)))
    with pytest.raises(UserError, match=r'=halved: model\.name=bert is of the encoder'):
        lm.load_config('llama_tiny', **{'objective.name': 'halved', 'model.name': 'bert'})


def test_a_cell_may_be_run_again() -> None:
    lm.register('optimizers', 'mine', 'first')
    lm.register('optimizers', 'mine', 'second')
    assert registry.lookup('optimizers', 'mine', 'optim.name') == 'second'
