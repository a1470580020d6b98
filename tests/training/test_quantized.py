"""`lm convert --quantize=int8`: what is held, in memory and on disk, and what it gives."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lm
from launch.main import main
from lm import UserError
from lm.batch import Batch
from lm.precision.quantization import QArray, rounds
from lm.training.convert import convert
from tests.training.runs import Runs

FAMILIES = ('llama', 'bert', 't5', 'gru')


def small(source: Path, target: Path) -> str:
    return convert(source, target, None, 10**9, quantize=True)


def logits(model: Any, tokens_BT: np.ndarray) -> np.ndarray:
    decoder = tokens_BT[:, :5] if model.functional.family == 'encoder_decoder' else None
    return np.asarray(model.logits(tokens_BT, decoder_tokens=decoder), np.float64)


def disk_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())


@pytest.fixture(scope='module')
def trained(runs: Runs, tmp_path_factory: Any) -> dict[str, Path]:
    folder: Path = tmp_path_factory.mktemp('trained')
    for family in FAMILIES:
        runs.train(family, folder / family, train__steps=12)
    qat = {'precision__policy': 'int8_qat', 'train__steps': 12}
    runs.train('llama', folder / 'qat', **qat)
    return {name: folder / name for name in (*FAMILIES, 'qat')}


@pytest.mark.parametrize('family', FAMILIES)
def test_matrices_are_int8_in_memory_and_logits_near(
    family: str, trained: dict[str, Path], tmp_path: Path
) -> None:
    told = small(trained[family], tmp_path / 'small')
    assert 'in float32 and int8' in told
    before, after = lm.load(trained[family]), lm.load(tmp_path / 'small')
    dims = before.functional.dims
    matrices = {path for path, letters in dims.items() if rounds(letters)}
    for path, x in after.params.items():
        assert isinstance(x, QArray) == (path in matrices), path
        if path in matrices:
            exact = np.asarray(before.params[path])
            assert x.qvalue.dtype == jnp.int8 and x.qvalue.shape == exact.shape
            near = np.asarray(x.qvalue, np.float64) * np.asarray(x.scale)
            step = np.broadcast_to(x.scale, exact.shape)
            assert (np.abs(near - exact) <= 0.51 * step).all(), path
    tokens_BT = np.arange(5, 29).reshape(2, 12) % before.config.model.vocab_size
    exact, near = logits(before, tokens_BT), logits(after, tokens_BT)
    finite = np.isfinite(exact)
    spread = exact[finite].std()
    # Of the mean: where a residual stream nearly cancels, a norm makes much of a rounding.
    assert 0 < np.sqrt(np.mean((near[finite] - exact[finite]) ** 2)) < 0.1 * spread


def test_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    """Of a model whose matrices outweigh its norms and scales, in memory and on disk."""
    from lm.config import CheckpointConfig
    from lm.models.functional import functional
    from lm.precision.policy import POLICIES
    from lm.training.checkpoint import Checkpoints
    from lm.training.step import State
    from lm.training.workdir import Workdir

    config = lm.load_config('llama_tiny', **{
        'model.vocab_size': 2000, 'model.d_model': 256, 'precision.policy': 'fp32',
    })  # fmt: skip
    model = functional(config.model, POLICIES['fp32'])
    workdir = Workdir(tmp_path / 'run')
    workdir.create()
    checkpoints = Checkpoints(workdir.checkpoints, CheckpointConfig())
    checkpoints.save(State(model.init(jax.random.key(0)), (), jnp.int32(0)), {})
    checkpoints.close()
    workdir.write_config(config)
    small(workdir.path, tmp_path / 'small')
    before, after = lm.load(workdir.path), lm.load(tmp_path / 'small')

    def held(loaded: Any) -> int:
        return sum(x.nbytes for x in jax.tree.leaves(loaded.params))

    assert held(after) / held(before) == pytest.approx(0.25, abs=0.012)
    sizes = [disk_bytes(path / 'checkpoints') for path in (workdir.path, tmp_path / 'small')]
    assert sizes[1] < 0.3 * sizes[0]  # noise compresses little, int8 noise less


def test_a_model_trained_for_int8_computes_as_it_was_trained(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    """Its int8 weights are the very numbers that its products read: no logit changes."""
    small(trained['qat'], tmp_path / 'small')
    before, after = lm.load(trained['qat']), lm.load(tmp_path / 'small')
    tokens_BT = np.arange(5, 29).reshape(2, 12)
    exact, near = logits(before, tokens_BT), logits(after, tokens_BT)
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(near[finite], exact[finite])
    batch = Batch(tokens_BT, np.ones_like(tokens_BT), np.tile(np.arange(12), (2, 1)))
    lowered = jax.jit(after.functional.apply).lower(after.params, batch).as_text()
    assert 'xi8>, tensor<' in lowered


def test_generate_and_evaluate_read_it(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, text = trained['llama'], tmp_path / 'small', tmp_path / 'text.txt'
    text.write_text('a b a b', encoding='utf-8')
    assert main(['convert', f'--from={source}', f'--to={target}', '--quantize=int8']) == 0
    assert 'int8' in capsys.readouterr().out
    for workdir in (source, target):
        assert main(['evaluate', f'--workdir={workdir}', f'--text={text}']) == 0
    losses = [json.loads(line)['bits_per_byte'] for line in capsys.readouterr().out.splitlines()]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != losses[1]
    words = ['--prompt=a', '--max_new_tokens=4', '--temperature=0']
    assert main(['generate', f'--workdir={target}', *words]) == 0


def test_what_is_refused(trained: dict[str, Path], runs: Runs, tmp_path: Path) -> None:
    small(trained['llama'], tmp_path / 'small')
    with pytest.raises(UserError, match=r'^--quantize=int8: the model there is int8 already; give'):
        small(tmp_path / 'small', tmp_path / 'smaller')
    with pytest.raises(UserError, match=r'^--from=\S+: the model there is int8 already; give'):
        convert(tmp_path / 'small', tmp_path / 'folder', None, 10**9)
    with pytest.raises(UserError, match=r'^checkpoint.init_from=\S+: its matrices are int8'):
        runs.train('llama', tmp_path / 'new', checkpoint__init_from=str(tmp_path / 'small'))
    with pytest.raises(UserError, match=r'holds a converted model, no run'):
        runs.train('llama', tmp_path / 'small')
    (tmp_path / 'small' / 'conversion.json').write_text('{', encoding='utf-8')
    with pytest.raises(UserError, match=r'conversion.json: cannot be read'):
        lm.load(tmp_path / 'small')


def test_quantize_takes_int8_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['convert', '--from=a', '--to=b', '--quantize=int4']) == 2
    assert capsys.readouterr().err.startswith(
        'lm convert: --quantize=int4: must be one of none, int8'
    )


def test_a_foreign_model_becomes_int8_at_once(trained: dict[str, Path], tmp_path: Path) -> None:
    convert(trained['llama'], tmp_path / 'hf', None, 10**9)
    small(tmp_path / 'hf', tmp_path / 'one')
    small(trained['llama'], tmp_path / 'two')
    one, two = lm.load(tmp_path / 'one'), lm.load(tmp_path / 'two')
    for path, x in two.params.items():
        if isinstance(x, QArray) and 'embedding' not in path and 'head' not in path:
            np.testing.assert_array_equal(x.qvalue, one.params[path].qvalue)
