"""The in-context study, small, and what is said of its numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

import experiments.in_context as experiment
from experiments.in_context import Setting, analyze, configs
from lm.errors import UserError
from tests.data.corpora import words

RECORDS = [
    {'query': f'the {a} {b}', 'choices': ['a cat', 'a green letter under seven'], 'gold': i % 2}
    for i, (a, b) in enumerate([('cat', 'reads'), ('dog', 'writes'), ('letter', 'under')])
]


def test_runs_differ_in_width_alone() -> None:
    runs = configs(Setting(source='stdlib', widths=(64, 16)))
    assert list(runs) == ['d16', 'd64']
    assert [run.model.d_model for run in runs.values()] == [16, 64]
    assert len({(run.train, run.data, run.optim) for run in runs.values()}) == 1
    for wrong in ({'seq_len': 499}, {'inits': 0}, {'shots': ()}):
        with pytest.raises(UserError, match=f'{next(iter(wrong))}='.replace('shots=', 'shots: ')):
            Setting(**wrong)


def test_what_nothing_known_means() -> None:
    def score(each: list[float], per_token: float) -> dict[str, Any]:
        baselines = {'chance': 0.5, 'shortest': 0.6}
        return {
            'each': {'accuracy': each}, 'accuracy_per_token': per_token, 'baselines': baselines,
            'questions': 100,
        }  # fmt: skip

    tasks = {'copa': {'0': score([0.51, 0.69], 0.53)}, 'arc': {'0': score([0.6, 0.4], 0.4)}}
    nothing = analyze({'untrained': {'tasks': tasks}})['nothing_known']
    assert nothing['copa'] == {'within_shortest': True, 'from_chance': pytest.approx(0.03)}
    assert nothing['arc'] == {'within_shortest': False, 'from_chance': pytest.approx(-0.1)}


@pytest.mark.slow
def test_the_whole_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, tasks = tmp_path / 'texts', tmp_path / 'tasks'
    text.mkdir()
    tasks.mkdir()
    for seed in range(40):
        (text / f'{seed}.txt').write_text(words(1200, seed))
    for name in experiment.TASKS:
        (tasks / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, RECORDS)))
    sizes = ['--widths=8,16', '--layers=1', '--steps=2', '--batch_size=2', '--vocab_size=300']
    more = ['--shots=0,2', '--inits=2', f'--plot={tmp_path}/a.svg', f'--workdir={tmp_path}/runs']
    given = [f'--source={text}', f'--tasks={tasks}', *sizes, *more]
    monkeypatch.setattr('sys.argv', ['in_context', *given, f'--tasks={text}'])
    assert experiment.main() == 2
    assert 'copa.jsonl: ' in capsys.readouterr().err and not (tmp_path / 'runs' / 'd8').exists()
    monkeypatch.setattr('sys.argv', ['in_context', *given])
    assert experiment.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told['models']) == ['d8', 'd16', 'untrained']
    for model in told['models'].values():
        assert {'score', 'standard_error', 'texts'} <= set(model['learning']['score'])
        assert [copied['length'] for copied in model['learning']['copying']] == [25, 50, 100]
    shots = told['models']['d16']['tasks']['copa']
    assert list(shots) == ['0', '2'] and shots['2']['context']['shots'] == {'2': 3}
    assert len(told['models']['untrained']['tasks']['copa']['0']['each']['accuracy']) == 2
    assert (tmp_path / 'a.svg').stat().st_size > 5000
