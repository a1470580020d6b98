"""What a run leaves: summary.json, eval.jsonl, TensorBoard events, loss.png, log lines."""

import itertools
import json
import math
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import lm
from lm.batch import stack
from lm.data.mixture import prepare_mixture
from lm.data.prepare import prepare
from lm.mesh.held_rows import held_rows
from lm.training.evaluate import mixed_rows, packed_rows
from lm.training.program import build_objective
from lm.training.record import params_sha256, plot_loss
from lm.training.reporters import Counts
from lm.training.workdir import Workdir, write_jsonl
from tests.training.runs import FAMILIES, ROOT, Runs, read_rows

KEYS = {
    'params', 'params_non_embedding', 'params_padding', 'tokens', 'flops', 'pf_days', 'mfu',
    'flops_rule', 'final_loss', 'eval_loss', 'bits_per_byte', 'compile_seconds', 'device',
    'dtypes', 'attention_kernel', 'params_sha256', 'data',
}  # fmt: skip
ROW = {
    'step',
    'tokens',
    'loss',
    'grad_norm',
    'learning_rate',
    'tokens_per_second',
    'mfu',
    'seconds',
}


def summary_of(workdir: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((workdir / 'summary.json').read_text())
    return summary


def test_the_summary_has_every_key_and_adds_up(finished: Path) -> None:
    summary, rows = summary_of(finished), read_rows(finished / 'metrics.jsonl')
    assert set(summary) >= KEYS
    model = lm.load(finished)
    built = sum(int(np.prod(x.shape)) for x in model.params.values())
    assert summary['params'] + summary['params_padding'] == built
    padding = model.config.model.padded_vocab_size - model.config.model.tokens
    assert summary['params_padding'] == padding * 32 * 2  # the embedding and the output matrix
    assert summary['params_sha256'] == params_sha256(model.params)
    assert summary['tokens'] == rows[-1]['tokens'] == 24 * 8 * 32
    assert summary['final_loss'] == rows[-1]['loss']
    assert summary['pf_days'] == pytest.approx(summary['flops'] / 8.64e19)
    assert summary['mfu'] is None
    assert summary['dtypes']['params'] == 'float32'
    assert json.loads(json.dumps(summary)) == summary
    assert not any(math.isnan(v) for v in summary.values() if isinstance(v, float))


@pytest.mark.parametrize('family', FAMILIES)
def test_tokens_read_are_trained_on_or_dropped(family: str, runs: Runs, tmp_path: Path) -> None:
    summary = runs.train(family, tmp_path / 'run')
    [(source, account)] = summary['data'].items()
    assert source == str(runs.text)
    tokens = account['tokens']
    assert tokens['read'] == tokens['trained_on'] + tokens['dropped']
    assert min(tokens.values()) >= 0
    if family == 'gpt2':  # every token of a row is a target
        assert tokens['dropped'] == 0
        assert tokens['targets'] == tokens['read']
    assert account['documents']['read'] == 1
    assert account['train']['bytes'] + account['validation']['bytes'] == runs.text.stat().st_size


def test_every_row_is_counted_as_its_batch_holds_it(runs: Runs) -> None:
    config = runs.config('gpt2')
    prepared = prepare(config.data, None)
    objective = build_objective(config, prepared.tokenizer.vocabulary)
    rows = packed_rows(objective, prepared, config.train.seed, held_out=False)
    rng = np.random.default_rng(0)
    for i in range(rows.rows_per_epoch + 1):
        batch = stack([objective.example(rows.row(i), rng)])
        assert rows.accounting(i, i + 1)['tokens'] == objective.tokens_used(batch), i


def test_rows_of_metrics_and_evaluations(finished: Path) -> None:
    rows = read_rows(finished / 'metrics.jsonl')
    assert [row['step'] for row in rows] == list(range(1, 25))
    assert all(set(row) == ROW for row in rows)
    assert [row['tokens'] for row in rows] == [step * 256 for step in range(1, 25)]
    assert all(a['seconds'] < b['seconds'] for a, b in itertools.pairwise(rows))
    evaluations = read_rows(finished / 'eval.jsonl')
    assert [(row['step'], row['whole']) for row in evaluations] == [
        (10, False), (20, False), (24, True),
    ]  # fmt: skip
    losses = [row['loss'] for row in evaluations]
    assert losses == sorted(losses, reverse=True)
    last = summary_of(finished)
    assert (losses[-1], evaluations[-1]['bits_per_byte']) == (
        last['eval_loss'],
        last['bits_per_byte'],
    )


def test_rows_come_every_so_many_steps_and_at_the_end(runs: Runs, tmp_path: Path) -> None:
    runs.train('llama', tmp_path / 'run', train__log_every_steps=10)
    rows = read_rows(tmp_path / 'run' / 'metrics.jsonl')
    assert [row['step'] for row in rows] == [10, 20, 24]


def test_evaluate_agrees_with_the_summary(finished: Path, runs: Runs, tmp_path: Path) -> None:
    # The last tenth of the one document is held out; the verb scores the same bytes by itself.
    size = summary_of(finished)['data'][str(runs.text)]['validation']['bytes']
    held_out = tmp_path / 'held_out.txt'
    held_out.write_bytes(runs.text.read_bytes()[-size:])
    scored = subprocess.run(
        [sys.executable, '-m', 'launch', 'evaluate', f'--workdir={finished}', f'--text={held_out}'],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    score = json.loads(scored.stdout)
    assert score['bits_per_byte'] == pytest.approx(summary_of(finished)['bits_per_byte'], rel=1e-6)
    assert score['tokens'] == summary_of(finished)['data'][str(runs.text)]['validation']['tokens']


def test_tensorboard_reads_the_events(copy: Path, runs: Runs) -> None:
    runs.train('llama', copy, train__steps=26)
    from tensorboardX.proto import event_pb2

    told: dict[str, dict[int, float]] = {}
    purged = []
    for path in sorted((copy / 'tensorboard').iterdir()):
        content = path.read_bytes()
        first = True
        while content:
            (length,) = struct.unpack('<Q', content[:8])
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            assert (event.file_version == 'brain.Event:2') == first
            first = False
            if event.HasField('session_log'):
                purged.append(event.step)
            for value in event.summary.value:
                told.setdefault(value.tag, {})[event.step] = value.simple_value
    assert purged == [25]
    rows = read_rows(copy / 'metrics.jsonl')
    assert [*told['loss']] == list(range(1, 27))
    for row in rows:
        assert told['loss'][row['step']] == pytest.approx(row['loss'])
        assert told['learning_rate'][row['step']] == pytest.approx(row['learning_rate'])
    assert [*told['eval_loss']] == [10, 20, 24, 26]


def test_the_loss_is_drawn(finished: Path) -> None:
    from matplotlib import image

    picture = image.imread(finished / 'loss.png')
    assert picture.shape[0] > 200
    assert float(np.std(picture)) > 0


def test_what_stands_on_stderr(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.train('llama', tmp_path / 'run', eval__sample_tokens=5)
    out, said = capsys.readouterr()
    assert out == ''
    for words in (
        'model      llama (decoder)', 'objective  clm: 8 rows of 32', 'devices    8 x cpu',
        'mesh 1 device, ddp', 'precision  fp32', 'attention  xla', 'decoder/layers/attention/key',
        'step 24/24  loss ', ' tokens/s  ETA 0 s', 'held out   step 10: loss ',
        'held out   whole: loss ', 'bits per byte', 'sample: ',
    ):  # fmt: skip
        assert words in said


def test_a_loaded_model_is_the_run(finished: Path) -> None:
    model = lm.load(finished)
    assert model.tokenizer.decode(model.tokenizer.encode('dita bo')) == 'dita bo'
    tokens = np.asarray([model.tokenizer.encode('rose dita bo el')])
    logits = np.asarray(model.logits(tokens))
    assert logits.shape == (1, tokens.shape[1], model.config.model.padded_vocab_size)
    assert np.isneginf(logits[..., model.config.model.tokens :]).all()
    assert np.isfinite(logits[..., : model.config.model.tokens]).all()
    # A decoder sees nothing later.
    cut = np.asarray(model.logits(tokens[:, :5]))
    real = slice(0, model.config.model.tokens)
    np.testing.assert_allclose(logits[:, :5, real], cut[..., real], atol=1e-4)


def test_the_hash_is_over_bytes_in_the_order_of_paths() -> None:
    import hashlib

    a, b = np.arange(3, dtype=np.float32), np.ones((2, 2), np.float32)
    wanted = hashlib.sha256(a.tobytes() + b.tobytes()).hexdigest()
    assert params_sha256({'b': jax.numpy.asarray(b), 'a': jax.numpy.asarray(a)}) == wanted


def test_counts_go_on_from_a_checkpoint_of_before_there_were_mixtures(runs: Runs) -> None:
    config = runs.config('llama')
    mixture = prepare_mixture(config.data, None)
    objective = build_objective(config, mixture.tokenizer.vocabulary)
    held = held_rows({}, 8, 0)
    counts = Counts(objective, held, mixed_rows(objective, mixture, 0))
    counts.from_json({'used': 5, 'targets': 4, 'padded': 3, 'seconds': 2.0})
    assert counts.to_json() == {
        'used': [5], 'targets': [4], 'padded': [3], 'first_row': 0, 'seconds': 2.0,
    }  # fmt: skip


def test_drawing_the_loss_leaves_a_notebook_its_own_backend(tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_backend()
    pyplot.switch_backend('svg')
    workdir = Workdir(tmp_path)
    write_jsonl(workdir.metrics_file, [{'step': i, 'loss': 1 / i} for i in (1, 2, 3)])
    try:
        plot_loss(workdir)
        assert pyplot.get_backend() == 'svg'
    finally:
        pyplot.switch_backend(before)
    assert workdir.loss_plot.read_bytes().startswith(b'\x89PNG')
