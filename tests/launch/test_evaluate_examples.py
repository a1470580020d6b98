"""`lm evaluate --examples`: measures of a fine-tuned model on a file, its answers, its mistakes."""

import json
from pathlib import Path

import pytest

import lm
from launch.main import main
from tests.training.runs import CONFIG


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('examples')
    records = [{'text': f'{word} film', 'label': word[0]} for word in ('aa', 'ab', 'ba', 'bb') * 6]
    (folder / 'film.jsonl').write_text('\n'.join(map(json.dumps, records)))
    strange = [records[0], {'text': 'a film', 'label': 'c'}]
    (folder / 'strange.jsonl').write_text('\n'.join(map(json.dumps, strange)))
    long = {'review': 'a film ' * 3, 'label': 'a'}
    (folder / 'long.jsonl').write_text(json.dumps({**long, 'text': long['review']}))
    config = lm.load_config(
        f'{CONFIG}:bert',
        **{
            'objective.name': 'sequence_classification',
            'data.source': str(folder / 'film.jsonl'),
            'data.validation_source': str(folder / 'film.jsonl'),
            'data.cache_dir': str(folder / 'cache'),
            'train.steps': 6,
            'train.seq_len': 16,
        },
    )
    lm.train(config, folder / 'run')
    return folder


def test_measures_and_answers(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [f'--workdir={run}/run', f'--examples={run}/film.jsonl']
    assert main(['evaluate', *words, f'--predictions={run}/said.jsonl']) == 0
    told = json.loads(capfd.readouterr().out)
    said = [json.loads(line) for line in (run / 'said.jsonl').read_text().splitlines()]
    assert len(said) == told['examples'] == 24
    right = sum(answer['expected'] == answer['said'] for answer in said)
    assert told['accuracy'] == pytest.approx(right / 24)
    summary = json.loads((run / 'run' / 'summary.json').read_text())
    assert told['accuracy'] == pytest.approx(summary['measures']['accuracy'])
    assert told['loss'] == pytest.approx(summary['eval_loss'], rel=1e-5)
    # Texts of two words have no 13-gram.
    assert told['overlap']['too_short'] == 24


def test_examples_are_read_and_cut_as_asked(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [f'--workdir={run}/run', f'--examples={run}/long.jsonl', '--options=text=review']
    cut = [*words, '--options=text=review,truncate=true']
    scores = []
    for given in (cut, [*words, '--seq_len=32']):
        assert main(['evaluate', *given]) == 0
        scores.append(json.loads(capfd.readouterr().out))
    assert scores[0]['truncated'] > scores[1]['truncated'] == 0
    assert scores[0]['loss'] != scores[1]['loss']


@pytest.mark.parametrize(
    ('more', 'line'),
    [
        (['--examples=absent.jsonl'], '--examples=absent.jsonl: no such file'),
        (['--examples=RUN/strange.jsonl'], "strange.jsonl:2 has the label 'c'"),
        (['--measures=bleu'], 'eval.measures=bleu: objective.name=sequence_classification has no'),
        (['--num_beams=2'], '--num_beams=2: objective.name=sequence_classification says labels'),
        (['--num_shots=2'], '--num_shots=2: is of --task; give that, or leave it out'),
        (['--predictions=/absent/said.jsonl'], '--predictions=/absent/said.jsonl: there is no'),
        (['--text=a.txt'], 'give it or --text, not both'),
        (['--examples=RUN/long.jsonl'], ', or set --options=truncate=True'),
        (
            ['--options=truncate'],
            '--options=truncate: give NAME=VALUE of objective.name=sequence_classification',
        ),
        (
            ['--options=labels=a'],
            'the name one of text, second, label, truncate',
        ),
        (['--options=truncate=yes'], '--options=truncate=yes: must be true or false'),
        (['--options=text=review'], '--options=text=review: film.jsonl:1 has no such field'),
        (['--seq_len=65'], '--seq_len=65: longer than model.max_positions=32'),
    ],
)
def test_a_mistake_is_one_line(
    run: Path, more: list[str], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [f'--workdir={run}/run', f'--examples={run}/film.jsonl', *more]
    words = [word.replace('RUN', str(run)) for word in words]
    assert main(['evaluate', *words]) == 2
    captured = capfd.readouterr()
    assert captured.out == ''
    assert line in captured.err and captured.err.count('\n') == 1
