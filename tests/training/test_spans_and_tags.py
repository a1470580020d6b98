"""Runs that learn tags of words and answers in texts by heart, and are measured on them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import lm
from lm.data.example_rows import ExampleRows
from lm.data.prepare import prepare
from lm.evaluation.examples import Examined
from lm.evaluation.tasks.question_answering import answers
from lm.objectives._labelled import example_codec
from lm.objectives._objective import build_objective
from tests.training.runs import CONFIG, read_rows

SENTENCES = [
    ('in Rome Ann saw Bob', 'O B-place B-person O B-person'),
    ('New York is big', 'B-place I-place O O'),
    ('Ann Lee left', 'B-person I-person O'),
    ('it was cold', 'O O O'),
]
QUESTIONS = [
    ('Ann went to Rome in May.', 'Where did Ann go?', 'Rome'),
    ('It was cold.', 'Who came?', None),
    ('Bob ate a red apple.', 'What did Bob eat?', 'a red apple'),
]


def trained(folder: Path, records: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """The summary of a run on the records, which are held out too."""
    text = folder / 'records.jsonl'
    text.write_text('\n'.join(map(json.dumps, records)))
    flags = {
        'data.source': str(text),
        'data.validation_source': str(text),
        'data.cache_dir': str(folder / 'cache'),
        'model.max_positions': 64,
        'model.num_layers': 1,
        'optim.peak_lr': 1e-2,
        'train.steps': 60,
        'train.batch_size': 4,
        'eval.every_steps': 30,
        'checkpoint.every_steps': 60,
    }
    paths = {name.replace('__', '.'): value for name, value in changes.items()}
    config = lm.load_config(f'{CONFIG}:bert', **{**flags, **paths})
    summary: dict[str, Any] = lm.train(config, folder / 'run')
    return summary


def test_tags_are_learned(tmp_path: Path) -> None:
    records = [{'tokens': w.split(), 'tags': t.split()} for w, t in SENTENCES]
    summary = trained(
        tmp_path, records, objective__name='token_classification', train__seq_len=24,
        eval__measures=('entity_f1', 'tag_accuracy', 'unread_words'),
    )  # fmt: skip
    first = read_rows(tmp_path / 'run' / 'metrics.jsonl')[0]
    assert first['loss'] > 1 > 10 * summary['eval_loss']
    assert summary['measures'] == {'entity_f1': 1, 'tag_accuracy': 1, 'unread_words': 0}
    config = json.loads((tmp_path / 'run' / 'config.json').read_text())
    labels = ['B-person', 'B-place', 'I-person', 'I-place', 'O']
    assert config['objective']['options']['labels'] == labels
    assert config['model']['num_labels'] == 5


def test_answers_are_learned_of_windows_too(tmp_path: Path) -> None:
    records = [
        {
            'context': context,
            'question': question,
            'answers': {
                'text': [answer] if answer else [],
                'answer_start': [context.index(answer)] if answer else [],
            },
        }
        for context, question, answer in QUESTIONS
    ]
    summary = trained(
        tmp_path, records, objective__name='question_answering', train__seq_len=48,
        objective__options__unanswerable=True, objective__options__window=18,
        objective__options__stride=6,
    )  # fmt: skip
    first = read_rows(tmp_path / 'run' / 'metrics.jsonl')[0]
    assert first['loss'] > 1 > 10 * summary['eval_loss']
    assert summary['measures'] == {'exact_match': 1, 'f1': 1}
    # Of the windows, two, one and two, a count may leave out the last: no answer to its question.
    model = lm.load(tmp_path / 'run')
    objective = build_objective(model.config, model.tokenizer.vocabulary)
    text = prepare(model.config.data, None, example_codec(model.config))
    rows = ExampleRows(text.train, objective, 48, seed=0, shuffle=False)
    assert rows.rows_per_epoch == 5
    said = np.array([[20, 20, 1.0, 0.0]] * 5, np.float32)
    for count, told in ((5, 3), (4, 2), (2, 1), (1, 1)):
        assert len(answers(Examined(model, objective, rows, count, said))) == told
