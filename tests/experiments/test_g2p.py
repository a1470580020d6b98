"""The pronunciation study: its runs cost alike, and it tells the errors of what was said."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import g2p
from experiments._g2p import read_dictionary, write_tokenizer
from experiments.g2p import MODELS, RATES, Setting, chosen, configs, error_rates, table
from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from lm.planning.budget import step_flops
from lm.planning.flops import train_flops_exact
from lm.resolution import to_json

EXAMPLES = {part: Path(f'{part}.jsonl') for part in ('train', 'validation', 'test')}
STUDY = Setting('cmudict.dict', flops=1e12)


def runs(study: Setting = STUDY) -> dict:
    return configs(study, EXAMPLES, Path('tokenizer.json'), 70)


def test_models_cost_alike_and_differ_in_nothing_else() -> None:
    found = runs()
    assert list(found) == list(MODELS)
    firsts = [several[0] for several in found.values()]
    costs = [step_flops(config, train_flops_exact) for config in firsts]
    assert max(costs) / min(costs) < 1.015
    for config, cost in zip(firsts, costs, strict=True):
        assert STUDY.flops - cost < config.train.steps * cost <= STUDY.flops
    alike = [to_json(config) for config in firsts]
    for one in alike:
        del one['model'], one['train']['steps']
        del one['optim']['warmup_steps'], one['optim']['peak_lr']
    assert all(one == alike[0] for one in alike)
    assert {m: tuple(c.optim.peak_lr for c in several) for m, several in found.items()} == RATES
    with pytest.raises(UserError, match='flops=1e.07: less than ten steps of t5'):
        runs(dataclasses.replace(STUDY, flops=1e7))


def test_every_grapheme_and_phoneme_is_a_token(tmp_path: Path) -> None:
    file = tmp_path / 'words'
    file.write_text("quiz K W IH1 Z\nit's IH1 T S\na AH0\n")
    words = read_dictionary(str(file), stress=True)
    path, vocab_size = write_tokenizer(words, tmp_path)
    tokenizer = load_tokenizer(path, vocab_size)
    vocabulary = tokenizer.vocabulary
    assert vocabulary.size == vocab_size == 8 + 7 + 4
    assert len({vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id}) == 4
    for text in ("q u i z i t ' s a", 'K W IH1 Z T S AH0'):
        ids = tokenizer.encode(text)
        assert len(set(ids.tolist())) >= 7 and vocabulary.unk_id not in ids
        assert tokenizer.decode(np.append(ids, vocabulary.eos_id)) == text
    assert tokenizer.encode('k').tolist() == [vocabulary.unk_id]  # a letter is no phoneme


def test_rates_are_of_the_nearest_pronunciation() -> None:
    right = [[('K', 'AE', 'T')], [('AH',), ('EY',)], [('B', 'IY')], [('D', 'AO', 'G')]]
    told = error_rates(['K AE T', 'EY', 'B', ''], right)
    assert told['phonemes'] == pytest.approx(100 * (0 + 0 + 1 + 3) / (3 + 1 + 2 + 3))
    assert told['words'] == 50 and told['words_standard_error'] == 25


def test_the_rate_that_is_best_after_a_share_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several, seen = runs()['t5'], []

    def train(config: object, folder: Path) -> dict[str, float]:
        seen.append((config, folder.name))
        return {'eval_loss': {1e-3: 2.0, 2e-3: 1.0}[config.optim.peak_lr]}

    monkeypatch.setattr(g2p.lm, 'train', train)
    assert chosen(several, tmp_path).optim.peak_lr == 2e-3
    assert [name for _, name in seen] == ['t5_0.001_tried', 't5_0.002_tried']
    assert {c.train.steps for c, _ in seen} == {round(several[0].train.steps / 10)}


def test_the_table_has_a_row_a_model() -> None:
    told = {'phonemes': 5.234, 'words': 22.14, 'words_standard_error': 0.371}
    row = {
        'params': 1_447_808, 'flops_per_example': 2.1e8, 'steps': 733, 'peak_lr': 5e-3,
        'eval_loss': 0.25, 'error_rates': {'greedy': told, 'beams_5': told},
    }  # fmt: skip
    lines = table({'t5': row, 'bart': row}).splitlines()
    assert len(lines) == 4
    assert lines[2] == (
        '| t5 | 1,447,808 | 2.1e+08 | 733 | 0.005 | 0.250 | 5.23, 22.1 ± 0.4 | 5.23, 22.1 ± 0.4 |'
    )


@pytest.mark.slow
def test_the_command_learns_a_few_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / 'cmudict.dict'
    sounds = {'b': 'B', 'a': 'AE1', 't': 'T', 'o': 'OW1'}
    words = [a + b + c + d for a in 'bt' for b in 'ao' for c in 'bt' for d in ('', *'abto')]
    words += [f'{word}{end}' for word in words for end in ('b', 'ta', 'tob')]
    lines = [f'{word} {" ".join(sounds[x] for x in word)}\n' for word in dict.fromkeys(words)]
    source.write_text(''.join(lines))
    argv = ['g2p', f'--source={source}', f'--workdir={tmp_path / "runs"}', '--flops=1.8e10']
    monkeypatch.setattr('sys.argv', [*argv, '--batch_size=8', '--beams=2', '--words=8'])
    assert g2p.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(MODELS)
    for row in found.values():
        assert set(row['error_rates']) == {'greedy', 'beams_2'}
        assert 0 <= row['error_rates']['greedy']['phonemes'] < 100
    monkeypatch.setattr(sys, 'argv', argv[:1])
    assert g2p.main() == 2
    assert capsys.readouterr().err.startswith('experiments.g2p: source')
