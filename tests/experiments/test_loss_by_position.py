"""The experiment on loss by position: its windows, its bins, and all of it at a size of seconds."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import loss_by_position as experiment
from experiments.loss_by_position import analyze, configs, octaves, windows
from lm.data.prepare import prepare
from lm.errors import UserError
from lm.planning.budget import step_flops
from lm.planning.flops import train_flops_exact

TINY = {
    'model.vocab_size': 370, 'model.num_heads': 1, 'model.max_positions': 16, 'train.seq_len': 16,
    'train.batch_size': 4, 'optim.warmup_steps': 2, 'data.tokenizer': 'char',
    'data.validation_fraction': 0.4, 'precision.policy': 'fp32',
}  # fmt: skip


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty documents, half of which are shorter than a window, the others of one and a half."""
    monkeypatch.setattr(experiment, 'SIZES', {'d16': (16, 1e8)})
    monkeypatch.setattr(experiment, 'RATES', {'llama': (1e-3, 3e-3), 'lstm': (1e-2,)})
    monkeypatch.setenv('LM_CACHE', str(tmp_path / 'cache'))
    path = tmp_path / 'text.jsonl'
    documents = [f'{i:02} ' + ('abc' * 12 if i % 2 else 'abc') for i in range(40)]
    path.write_text('\n'.join(json.dumps({'text': document}) for document in documents))
    return path


def test_a_pair_costs_the_same() -> None:
    runs = configs('text.txt')
    assert len(runs) == 2 * (3 + 1 + 1)
    for name, config in runs.items():
        flops = experiment.SIZES[name.split('_')[1]][1]
        assert step_flops(config, train_flops_exact) * config.train.steps == pytest.approx(
            flops, rel=0.005
        )


def test_windows_are_cut_from_documents_one_after_another(text: Path) -> None:
    config = configs(str(text), TINY)['lstm_d16_0.01']
    inputs_NT, targets_NT = windows(config)
    prepared = prepare(config.data, config.model.vocab_size)
    store, bos = prepared.validation, prepared.tokenizer.vocabulary.bos_id
    assert len(targets_NT) == (store.lengths // 16).sum() >= 2
    place = 0
    for i in range(store.documents):
        whole = store.read(i, 0, store.lengths[i])
        count = len(whole) // 16
        behind_bos = np.append(bos, whole)
        for window in range(count):
            here = slice(window * 16, window * 16 + 16)
            np.testing.assert_array_equal(targets_NT[place], whole[here])
            np.testing.assert_array_equal(inputs_NT[place], behind_bos[here])
            place += 1


def test_octaves_are_all_positions_once() -> None:
    assert octaves(16) == [(0, 1), (1, 2), (2, 4), (4, 8), (8, 16)]
    assert octaves(11)[-1] == (8, 11)


def test_gaps_and_gains_by_hand_at_the_better_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, 'SIZES', {'d16': (16, 1e8)})
    monkeypatch.setattr(experiment, 'RATES', {'llama': (1.0, 2.0), 'lstm': (3.0,)})
    base = np.array([[9, 8, 7, 7, 6, 6, 6, 6], [7, 6, 5, 5, 4, 4, 4, 4.0]])
    worse = np.outer([1, 2], [0, 0, 0, 0, 1, 1, 1, 1])
    losses = {'llama_d16_1': base + 5, 'llama_d16_2': base, 'lstm_d16_3': base + worse}
    runs = {name: {'eval_loss': x.mean()} for name, x in losses.items()}
    pair = analyze(losses, runs)['pairs']['d16']
    assert pair['llama']['peak_lr'] == 2 and set(pair['llama']['eval_losses']) == {'1', '2'}
    assert pair['llama']['loss']['mean'] == [8, 7, 6, 5]
    assert pair['llama']['loss']['standard_error'] == pytest.approx([1, 1, 1, 1])
    assert pair['gap']['mean'] == [0, 0, 0, 1.5]
    assert pair['gap']['standard_error'] == pytest.approx([0, 0, 0, 0.5])
    assert pair['llama']['late_gain']['mean'] == 2 and pair['lstm']['late_gain']['mean'] == 0.5
    assert pair['late_gain_difference'] == {'mean': 1.5, 'standard_error': pytest.approx(0.5)}


def test_the_whole_of_it(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, 'configs', lambda source: configs(source, TINY))
    words = [f'--source={text}', f'--workdir={tmp_path}/runs', f'--plot={tmp_path}/a.svg']
    monkeypatch.setattr('sys.argv', ['loss_by_position', *words, '--run=lstm_d16_0.01'])
    assert experiment.main() == 0 and capsys.readouterr().out == ''
    assert [folder.name for folder in (tmp_path / 'runs').iterdir()] == ['lstm_d16_0.01']
    monkeypatch.setattr('sys.argv', ['loss_by_position', *words])
    assert experiment.main() == 0
    told = json.loads(capsys.readouterr().out)
    pair = told['pairs']['d16']
    for model in ('llama', 'lstm'):
        assert pair[model]['exact_flops'] == pytest.approx(1e8, rel=0.05)
        losses = pair[model]['loss']['mean']
        assert len(losses) == len(told['octaves']) == 5 and np.isfinite(losses).all()
        # The whole held-out text's loss, of nearly the same places of it.
        assert pair[model]['mean_loss'] == pytest.approx(pair[model]['eval_loss'], rel=0.3)
    assert (tmp_path / 'a.svg').stat().st_size > 5000
    monkeypatch.setattr('sys.argv', ['loss_by_position', *words, '--run=lstm'])
    assert experiment.main() == 2
    assert 'run=lstm: must be one of llama_d16_0.001, llama_d16_0.003, lstm_d16' in (
        capsys.readouterr().err
    )


def test_text_without_long_documents(text: Path) -> None:
    long = {**TINY, 'model.max_positions': 64, 'train.seq_len': 64, 'train.batch_size': 1}
    with pytest.raises(UserError, match='documents fill 0 windows of 64 tokens'):
        windows(configs(str(text), long)['lstm_d16_0.01'])
