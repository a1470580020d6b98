"""The domain study: runs alike but for the text, questions of held-out text, figures by hand."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import _domain_task, domain_adaptation
from experiments._domain_report import table
from experiments._domain_task import CHOICE_TOKENS, CHOICES, Task, accuracy, build_task
from experiments.domain_adaptation import (
    ALONE,
    MIXTURE,
    Outcome,
    Setting,
    analyze,
    arm_of,
    configs,
    pretrained_name,
    run_name,
)
from lm.config import DataConfig
from lm.data.prepare import Prepared, prepare
from lm.errors import UserError
from lm.evaluation.spans import Span
from lm.resolution import to_json

SETTING = Setting('general.txt', law='law.txt', finance='10k.txt', seeds=2)


def test_arms_differ_in_their_texts_and_begin_with_their_seed_s_own_run() -> None:
    runs = configs(SETTING, Path('runs'))
    assert len(runs) == 2 * (1 + 2 * 3) + 2 * 2
    names = list(runs)
    for seed in range(2):
        first = runs[pretrained_name(seed)]
        assert first.data.names == ('general.txt',)
        assert first.eval.sources == ('law.txt', '10k.txt')
        for domain, text in (('law', 'law.txt'), ('finance', '10k.txt')):
            arms = [runs[run_name(domain, arm_of(share), seed)] for share in SETTING.replay]
            assert [(one.data.names, one.data.weights, one.eval.sources) for one in arms] == [
                ((text,), None, ('general.txt',)),
                ((text, 'general.txt'), (0.9, 0.1), ()),
                ((text, 'general.txt'), (0.5, 0.5), ()),
            ]
            alike = [to_json(one) for one in arms]
            for one in alike:
                del one['data'], one['eval']['sources']
            assert alike[0] == alike[1] == alike[2]
            assert alike[0]['checkpoint']['init_from'] == f'runs/{pretrained_name(seed)}'
            assert alike[0]['train']['seed'] == seed
            at = names.index(run_name(domain, arm_of(0.0), seed))
            assert names.index(pretrained_name(seed)) < at
    mixture, alone = (runs[run_name('law', arm, 0)] for arm in (MIXTURE, ALONE))
    assert mixture.data.weights == (0.51, 0.49)
    assert mixture.checkpoint.init_from == alone.checkpoint.init_from == ''
    assert mixture.train.steps == SETTING.pretrain_steps + SETTING.adapt_steps
    assert alone.train.steps == SETTING.adapt_steps
    # Whatever is trained on, both texts are scored, by one tokenizer.
    for name, config in runs.items():
        scored = {*config.data.names, *config.eval.sources}
        assert 'general.txt' in scored and len(scored) == (3 if name.startswith('general') else 2)
        assert config.data.tokenizer == 'runs/tokenizer.model'
    with pytest.raises(UserError, match='all empty'):
        Setting('general.txt')
    with pytest.raises(UserError, match='replay: 1.0; must be at least 0 and below 1'):
        replace(SETTING, replay=(1.0,))
    for wrong, line in {
        'replay': ((0.1, 0.1), 'names a share twice'),
        'evaluations': (0, 'evaluations=0: must be at least 1'),
        'questions': (3, 'questions=3: must be at least 4'),
        'seq_len': (128, 'seq_len=128: a question of the task takes 184 tokens'),
    }.items():
        with pytest.raises(UserError, match=line[1]):
            replace(SETTING, **{wrong: line[0]})
    few = configs(replace(SETTING, replay=(0.0, 0.005)), Path('runs'))
    assert few['law/replay-0/seed0'].data.sources is None
    assert few['law/replay-0.5/seed0'].data.weights == (0.995, 0.005)


SENTENCES = [f'Number {i} is the {i * i} of them all.' for i in range(40)]


def prepared(text: str, folder: Path) -> Prepared:
    (folder / 'text.txt').write_text(text)
    data = DataConfig(
        source=str(folder / 'text.txt'), documents='blank_line', validation_fraction=0.3,
        tokenizer='char', cache_dir=str(folder / 'cache'),
    )  # fmt: skip
    return prepare(data, None)


def decoded(task: Task, found: Prepared) -> list[tuple[str, list[str]]]:
    decode = found.tokenizer.decode
    return [
        (decode(q.context), [decode(task.choices[k]) for k in q.choices]) for q in task.questions
    ]


def test_questions_have_their_own_answers_first_and_are_of_held_out_text(tmp_path: Path) -> None:
    topics = [f'What is thing {i:02} ?\nThing {i:02} is {i} times as large as it was.\nIt is.'
              for i in range(60)]  # fmt: skip
    found = prepared('\n\n'.join(topics), tmp_path)
    task = build_task(found.validation, found.tokenizer, 9)
    assert len(task.questions) == 9
    held_out = {
        found.tokenizer.decode(found.validation.read(d, 0, found.validation.lengths[d]))
        for d in range(found.validation.documents)
    }
    assert len(held_out) < 30
    for context, choices in decoded(task, found):
        number = context.removeprefix('What is thing ').removesuffix(' ?\n')
        assert choices[0].startswith(f'Thing {number} is ')
        assert len(choices) == CHOICES and not any(f'g {number}' in text for text in choices[1:])
        for choice in choices:
            assert any(choice in text for text in held_out)
    assert {len(choice) for choice in task.choices} == {CHOICE_TOKENS}
    again = build_task(found.validation, found.tokenizer, 9)
    assert decoded(again, found) == decoded(task, found)
    with pytest.raises(UserError, match='0 places to ask for, and a question has 4 choices'):
        build_task(prepared('Too short.\n\nThis too.\n\nAnd so on.', tmp_path).validation,
                   found.tokenizer, 9)  # fmt: skip


def test_sentences_go_on_from_those_before_them(tmp_path: Path) -> None:
    found = prepared('\n\n'.join(' '.join(SENTENCES[i : i + 8]) for i in range(30)), tmp_path)
    task = build_task(found.validation, found.tokenizer, 1000)
    for context, (right, *wrong) in decoded(task, found):
        [*_, last] = context.split('. ')
        number = int(last.split()[1])
        assert right.startswith(f' Number {number + 1} is')
        assert all(text[0] == ' ' for text in wrong)


@pytest.mark.parametrize(('gains', 'score'), [([3.0, 1.0, 2.0, 0.0], 0.5), ([0.0] * 4, 1.0)])
def test_a_choice_counts_by_what_its_context_adds(
    gains: list[float], score: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = [f'Why {i:02} ?\nFor {i:02} and {i:02}, and then once more.' for i in range(30)]
    found = prepared('\n\n'.join(topics), tmp_path)
    task = build_task(found.validation, found.tokenizer, 4)
    likely = np.array([50.0, 20.0, 80.0, 40.0])  # whatever the context

    def nats(model: Any, objective: Any, spans: list[Span], batch_size: int) -> np.ndarray:
        del model, objective, batch_size
        values = []
        for span in spans:
            [number] = [
                k for k, choice in enumerate(task.choices)
                if np.array_equal(choice, span.text[span.start : span.stop])
            ]  # fmt: skip
            asked = next(
                (i for i, q in enumerate(task.questions)
                 if np.array_equal(q.context, span.text[: span.start])), None,
            )  # fmt: skip
            gain = 0.0 if asked is None else gains[number] + (1.5 if number == asked else 0.0)
            values.append(likely[number] - gain)
        return np.array(values)

    monkeypatch.setattr(_domain_task, 'span_nats', nats)
    monkeypatch.setattr(_domain_task, 'build_objective', lambda config, vocabulary: None)
    model: Any = type('Model', (), {'config': None, 'tokenizer': found.tokenizer})()
    # Of 3, 1, 2, 0 and 1.5 more for the right one: 4.5, 2.5 (< 3), 3.5, 1.5 (< 3).
    assert accuracy(model, task, 4) == score


def outcome(target: float, general: float, score: float, text: str = 'law.txt') -> Outcome:
    bits = {text: (target + 1, target), 'general.txt': (general - 1, general)}
    return Outcome((5, 10), bits, {'law': score})


def test_changes_are_of_a_seed_s_own_beginning() -> None:
    study = Setting('general.txt', law='law.txt', replay=(0.0, 0.5), seeds=2)
    found = {}
    for seed in range(2):
        found[pretrained_name(seed)] = outcome(3.0 + seed, 2.0, 0.25)
        found[run_name('law', arm_of(0.0), seed)] = outcome(2.0 + seed, 2.5 + seed, 0.5)
        found[run_name('law', arm_of(0.5), seed)] = outcome(2.5, 2.0, 0.25 + 0.25 * seed)
    found[run_name('law', MIXTURE, 0)] = outcome(2.25, 2.125, 0.5)
    found[run_name('law', ALONE, 0)] = outcome(2.75, 4.0, 0.25)
    result = analyze(study, found)
    row = result['law']['adapted']['replay 0%']
    assert row['change']['target'] == {'mean': -1.0, 'plus_minus_95': 0.0, 'seeds': [-1.0, -1.0]}
    assert row['change']['general']['seeds'] == [0.5, 1.5]
    # Student's quantile of one degree of freedom is 12.706; the deviation of .5, 1.5 is sqrt(1/2).
    reach = 12.7062 * math.sqrt(0.5 / 2)
    assert row['change']['general']['plus_minus_95'] == pytest.approx(reach, rel=1e-4)
    assert row['steps'] == [0, 5, 10]
    assert row['curves']['target'] == [[3.0, 3.0, 2.0], [4.0, 4.0, 3.0]]
    assert row['curves']['general'] == [[2.0, 1.5, 2.5], [2.0, 2.5, 3.5]]
    said = table(result)
    assert '| law | before | 3.500 |  | 2.000 |  | 0.250 |  |' in said
    assert '| law | replay 0% | 2.500 | -1.000 ± 0.000 | 3.000 | +1.000 ± 6.353 |' in said
    assert '| law | mixture, from scratch (1 seed) | 2.250 |  | 2.125 |  | 0.500 |  |' in said


@pytest.mark.slow  # six runs: half a minute
def test_a_tiny_study_runs_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, greeting in (('general', 'Good day'), ('law', 'So ordered')):
        documents = [
            ' '.join(f'{greeting} to {i} and {i + k}, said number {k}.' for k in range(9))
            for i in range(40)
        ]
        (tmp_path / f'{name}.txt').write_text('\n\n'.join(documents))
    monkeypatch.setenv('LM_CACHE', str(tmp_path / 'cache'))
    words = [
        f'--general={tmp_path / "general.txt"}', f'--law={tmp_path / "law.txt"}',
        f'--workdir={tmp_path / "runs"}', f'--plot={tmp_path / "plot.svg"}', '--replay=0.0,0.5',
        '--seeds=2', '--baseline_seeds=0', '--vocab_size=400', '--d_model=16', '--num_layers=1',
        '--seq_len=192', '--batch_size=4', '--pretrain_steps=12', '--adapt_steps=8',
        '--evaluations=2', '--questions=8',
    ]  # fmt: skip
    monkeypatch.setattr(sys, 'argv', ['domain_adaptation', *words])
    assert domain_adaptation.main() == 0
    told = capsys.readouterr().out
    result = json.loads(told)['domains']['law']
    row = result['adapted']['replay 0%']
    assert row['steps'] == [0, 4, 8] and row['change']['target']['mean'] < 0
    general = [result['adapted'][arm]['change']['general']['mean'] for arm in result['adapted']]
    assert general[0] > general[1]
    assert (tmp_path / 'plot.svg').read_text().lstrip().startswith('<?xml')
    assert domain_adaptation.main() == 0
    again = capsys.readouterr()
    assert again.out == told and again.err.count('is finished: nothing to do') == 6
