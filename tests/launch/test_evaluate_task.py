"""`lm evaluate --task`: one JSON object, and one line for what cannot be asked."""

import json
from pathlib import Path

import pytest

from launch.main import main
from tests.generation.tiny import language_model

TASK = "prompt: '{q}'\nchoices: choices\ngold: gold\nseparator: ' . '\n"


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('lm.training.load.load_run', language_model)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / 'task.yaml').write_text(TASK)
    records = [
        {'q': q, 'choices': ['a', 'be'], 'gold': i % 2} for i, q in enumerate(('x', 'y', 'z'))
    ]
    (tmp_path / 'records.jsonl').write_text('\n'.join(map(json.dumps, records)))
    return [f'--task={tmp_path}/task.yaml', f'--task_data={tmp_path}/records.jsonl', '--seed=2']


def test_the_score_is_one_json_object(
    words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    training = tmp_path / 'trained.txt'
    training.write_text('x a ' * 20)
    more = ['--num_shots=1', f'--training_text={training}', '--limit=2']
    assert main(['evaluate', '--workdir=llama', *words, *more]) == 0
    score = json.loads(capfd.readouterr().out)
    assert {'accuracy', 'accuracy_per_token', 'accuracy_per_byte'} == set(score['intervals'])
    assert (score['questions'], score['num_shots'], score['seed']) == (2, 1, 2)
    assert score['context']['shots'] == {'1': 2}
    assert score['overlap']['texts'] == score['overlap']['too_short'] == 2
    shown = [f'--shots_data={tmp_path}/records.jsonl', '--by_generation', '--nooverlap', '--nojson']
    assert main(['evaluate', '--workdir=llama', *words, *shown]) == 0
    told = capfd.readouterr().out
    assert told.startswith('task ') and 'answered_by generation' in told and 'overlap' not in told


@pytest.mark.parametrize(
    ('workdir', 'more', 'line'),
    [
        ('llama', ['--num_shots=3'], '--num_shots=3: records.jsonl:1 has only 2 other records'),
        ('llama', ['--task=none'], '--task=none: no such task'),
        ('llama', ['--task_data='], '--task_data: missing; give'),
        ('llama', ['--task_data=absent.jsonl'], '--task_data=absent.jsonl: no such file or'),
        ('llama', ['--shots_data=absent.jsonl'], '--shots_data=absent.jsonl: no such file or'),
        ('llama', ['--task_encoding=utf-99'], '--task_encoding=utf-99: must be an encoding'),
        ('llama', ['--text=a.txt'], 'give it or --text, not both'),
        ('llama', ['--task=', '--text=a.txt'], 'is of --task; give that, or leave it out'),
        ('llama', ['--task='], '--text: missing; give a UTF-8 file, or --task'),
        ('bert', [], 'bert is an encoder, which gives no text a likelihood'),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str],
    capfd: pytest.CaptureFixture[str],
    workdir: str,
    more: list[str],
    line: str,
) -> None:
    assert main(['evaluate', f'--workdir={workdir}', *words, *more]) == 2
    captured = capfd.readouterr()
    assert captured.out == ''
    assert line in captured.err and captured.err.count('\n') == 1
