"""Runs on labelled text, end to end: they learn, resume, place rows anywhere, and tell measures."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lm
from lm import UserError
from lm.evaluation.example_file import score_examples
from lm.generation.asked import ask_task
from lm.objectives._labelled import example_codec
from tests.training.runs import CONFIG, read_rows, timeless

GOOD, BAD = ['fine', 'warm', 'bright', 'kind'], ['dull', 'cold', 'grim', 'vile']


def sentiment(path: Path, count: int = 96, seed: int = 0) -> Path:
    """Short texts whose label is that of their one telling word."""
    draw = random.Random(seed)
    with path.open('w') as file:
        for _ in range(count):
            label = draw.choice(['good', 'bad'])
            telling = draw.choice(GOOD if label == 'good' else BAD)
            words = draw.choices(['a', 'film', 'of', 'the', 'year'], k=draw.randint(1, 4))
            words.insert(draw.randint(0, len(words)), telling)
            record = {'text': ' '.join(words), 'label': label}
            file.write(json.dumps(record) + '\n')
    return path


def reversals(path: Path, count: int = 64) -> Path:
    """Words of few letters, to be said backwards."""
    draw = random.Random(1)
    with path.open('w') as file:
        for _ in range(count):
            word = ' '.join(draw.choices('abcd', k=draw.randint(2, 3)))
            file.write(json.dumps({'input': word, 'target': word[::-1]}) + '\n')
    return path


@pytest.fixture(scope='module')
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('cache')


def config(architecture: str, objective: str, source: Path, cache: Path, **changes: Any) -> Any:
    return lm.load_config(
        f'{CONFIG}:{architecture}',
        **{
            'objective.name': objective,
            'data.source': str(source),
            'data.cache_dir': str(cache),
            'data.tokenizer': 'word',
            'data.validation_fraction': 0.25,
            'train.seq_len': 16,
            'checkpoint.every_steps': 1000,
            'eval.every_steps': 1000,
            **changes,
        },
    )


def classified(source: Path, cache: Path, **changes: Any) -> Any:
    return config('bert', 'sequence_classification', source, cache, **changes)


def test_a_classifier_learns_its_labels(tmp_path: Path, cache: Path) -> None:
    source = sentiment(tmp_path / 'film.jsonl')
    settings = classified(source, cache, **{'train.steps': 60, 'optim.peak_lr': 1e-2})
    summary = lm.train(settings, tmp_path / 'run')
    assert summary['measures']['accuracy'] == 1
    assert summary['measures']['macro_f1'] == 1
    assert summary['eval_loss'] < 0.2
    account = summary['data'][str(source)]
    assert account['tokens']['targets'] == 60 * 8
    assert account['tokens']['dropped'] == account['tokens']['truncated'] == 0
    assert account['tokens']['padded'] + account['tokens']['trained_on'] == 60 * 8 * 16
    resolved = json.loads((tmp_path / 'run' / 'config.json').read_text())
    assert resolved['objective']['options']['labels'] == ['bad', 'good']
    assert resolved['model']['num_labels'] == 2
    # The predictions are those of the saved model on the texts themselves.
    model = lm.load(tmp_path / 'run')
    for text, number in (('a vile film', 0), ('the bright year', 1)):
        ids = model.tokenizer.encode(text)
        row = np.concatenate([[model.tokenizer.vocabulary.bos_id], ids,
                              [model.tokenizer.vocabulary.eos_id]])  # fmt: skip
        assert int(np.asarray(model.logits(row[None]))[0, 0].argmax()) == number
    # So are those that `lm evaluate --examples` tells, of another file.
    other = sentiment(tmp_path / 'other.jsonl', 21, seed=5)
    with other.open('a') as file:
        file.write(json.dumps({'text': 'a dull year', 'label': 'good'}) + '\n')
    told, answers, texts = score_examples(model, str(other), batch_size=8)
    assert told['accuracy'] == pytest.approx(21 / 22)
    assert told['examples'] == told['targets'] == len(answers) == len(texts) == 22
    assert answers[-1] == ('good', 'bad')
    with pytest.raises(UserError, match=r'tells labels apart .* and says no text'):
        lm.generate(model, ['a <mask> film'], fill=True)
    assert texts[-1] == 'a dull year'
    with pytest.raises(UserError, match=r'num_beams=2: .* says labels, no text'):
        score_examples(model, str(other), batch_size=8, num_beams=2)


def test_a_resumed_classifier_is_the_straight_one(tmp_path: Path, cache: Path) -> None:
    source = sentiment(tmp_path / 'film.jsonl')
    plateau = {'optim.schedule': 'inverse_sqrt', 'eval.every_steps': 4}
    lm.train(classified(source, cache, **plateau, **{'train.steps': 12}), tmp_path / 'straight')
    lm.train(classified(source, cache, **plateau, **{'train.steps': 10}), tmp_path / 'parted')
    lm.train(classified(source, cache, **plateau, **{'train.steps': 12}), tmp_path / 'parted')
    told = [
        timeless(read_rows(tmp_path / name / 'metrics.jsonl')) for name in ('parted', 'straight')
    ]
    assert told[0] == told[1]
    digests = [
        json.loads((tmp_path / name / 'summary.json').read_text())['params_sha256']
        for name in ('parted', 'straight')
    ]
    assert digests[0] == digests[1]
    evaluated = read_rows(tmp_path / 'straight' / 'eval.jsonl')
    assert [row['step'] for row in evaluated] == [4, 8, 12]
    assert all({'accuracy', 'macro_f1'} == {*row['measures']} for row in evaluated)


def test_rows_over_eight_devices_say_the_same(tmp_path: Path, cache: Path) -> None:
    source = sentiment(tmp_path / 'film.jsonl')
    few = {'train.steps': 4, 'optim.eps': 1e-6}
    one = lm.train(classified(source, cache, **few), tmp_path / 'one')
    split = {'mesh.devices': 8, 'mesh.strategy': 'zero3'}
    many = lm.train(classified(source, cache, **few, **split), tmp_path / 'many')
    assert many['eval_loss'] == pytest.approx(one['eval_loss'], rel=2e-5)
    assert many['measures'] == one['measures']


@pytest.mark.parametrize('architecture', ['t5', 'llama'])
def test_texts_are_said_to_texts(architecture: str, tmp_path: Path, cache: Path) -> None:
    source = reversals(tmp_path / 'words.jsonl', 16)
    settings = config(
        architecture, 'text_to_text', source, cache,
        **{'train.steps': 100, 'train.batch_size': 16, 'optim.peak_lr': 1e-2,
           'data.validation_source': str(source)},
    )  # fmt: skip
    summary = lm.train(settings, tmp_path / 'run')
    # It is asked for the words that it was shown.
    assert summary['measures']['exact_match'] >= 0.75
    model = lm.load(tmp_path / 'run')
    given = json.loads(source.read_text().split('\n')[0])['input']
    [text] = lm.generate(model, [given], max_new_tokens=8, temperature=0)
    told, answers, _ = score_examples(model, str(source), batch_size=8)
    assert told['exact_match'] == pytest.approx(summary['measures']['exact_match'])
    # A decoder's text has its prompt before it.
    assert text.removeprefix(given).strip() == answers[0].said
    searched, _, _ = score_examples(
        model, str(source), batch_size=8, num_beams=2, measures=('token_error_rate', 'chrf')
    )
    assert {'token_error_rate', 'chrf'} <= {*searched} and 'exact_match' not in searched
    assert searched['token_error_rate'] < 0.3


@pytest.mark.parametrize('architecture', ['t5', 'llama'])
def test_what_is_asked_is_cut_as_what_was_trained_on(
    architecture: str, tmp_path: Path, cache: Path
) -> None:
    source = tmp_path / 'long.jsonl'
    records = [{'input': 'a b c d ' * n, 'target': 'b a'} for n in range(1, 13)]
    source.write_text('\n'.join(map(json.dumps, records)))
    changes = {
        'train.steps': 2, 'objective.options.truncate': True, 'data.validation_source': str(source),
    }  # fmt: skip
    summary = lm.train(
        config(architecture, 'text_to_text', source, cache, **changes), tmp_path / 'run'
    )
    tokens = summary['data'][str(source)]['tokens']
    assert tokens['truncated'] > 0 and tokens['dropped'] == 0
    assert tokens['read'] == tokens['trained_on'] + tokens['truncated']


def test_what_is_expected_is_what_the_record_says(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / 'spelled.jsonl'
    records = [{'input': f'a {n} a', 'target': f'Caf\u00e9,  {n}'} for n in range(8)]
    source.write_text('\n'.join(map(json.dumps, records)))
    changes = {
        'train.steps': 1, 'data.validation_source': str(source), 'data.tokenizer': 'word',
    }  # fmt: skip
    lm.train(config('t5', 'text_to_text', source, cache, **changes), tmp_path / 'run')
    model = lm.load(tmp_path / 'run')
    _, answers, _ = score_examples(model, str(source), batch_size=8)
    assert [answer.expected for answer in answers] == [record['target'] for record in records]


def test_a_question_does_not_depend_on_its_target(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / 'long.jsonl'
    source.write_text('\n'.join(
        json.dumps({'input': 'a b c d ' * 12, 'target': 'b a ' * n}) for n in (1, 4, 9)
    ))  # fmt: skip
    changes = {
        'train.steps': 1, 'objective.options.truncate': True, 'data.validation_source': str(source),
    }  # fmt: skip
    lm.train(config('llama', 'text_to_text', source, cache, **changes), tmp_path / 'run')
    model = lm.load(tmp_path / 'run')
    lengths: list[int] = []

    def asked(model: Any, ids: np.ndarray) -> Any:
        lengths.append(len(ids))
        return ask_task(model, ids)

    monkeypatch.setattr('lm.evaluation.tasks.text_to_text.ask_task', asked)
    score_examples(model, str(source), batch_size=8)
    [room] = {*lengths}
    few = {'objective.options.target_len': 2}
    _, short, _ = score_examples(model, str(source), batch_size=8, changes=few)
    assert {*lengths[3:]} != {room}  # a shorter answer leaves more room
    assert len(model.tokenizer.encode(short[0].said)) <= 2


def test_sources_of_examples_mix(tmp_path: Path, cache: Path) -> None:
    sources = tuple(
        str(sentiment(tmp_path / f'{name}.jsonl', seed=seed)) for name, seed in (('a', 1), ('b', 2))
    )
    settings = classified(
        sources[0], cache, **{'data.source': 'stdlib', 'data.sources': sources,
                              'data.weights': (0.75, 0.25), 'train.steps': 6},
    )  # fmt: skip
    summary = lm.train(settings, tmp_path / 'run')
    assert [summary['data'][name]['rows'] for name in sources] == [36, 12]
    of_both = [summary['eval_by_source'][name]['accuracy'] for name in sources]
    whole = 0.75 * of_both[0] + 0.25 * of_both[1]
    assert summary['measures']['accuracy'] == pytest.approx(whole)


def test_unweighted_sources_share_by_their_examples(tmp_path: Path, cache: Path) -> None:
    from lm.data.mixture import prepare_mixture

    short, long = tmp_path / 'short.jsonl', tmp_path / 'long.jsonl'
    for path, times in ((short, 1), (long, 30)):
        with path.open('w') as file:
            for i in range(40):
                text = f'{"a film of the year " * times}{path.stem} {i}'
                file.write(json.dumps({'text': text, 'label': 'ab'[i % 2]}) + '\n')
    names = (str(short), str(long))
    settings = classified(short, cache, **{'data.source': 'stdlib', 'data.sources': names})
    mixture = prepare_mixture(settings.data, None, example_codec(settings))
    counts = [part.train.documents for part in mixture.parts]
    assert mixture.shares == pytest.approx([count / sum(counts) for count in counts])


def test_a_head_for_other_labels_begins_anew(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = sentiment(tmp_path / 'film.jsonl')
    few = {'train.steps': 2, 'optim.warmup_steps': 1}
    lm.train(classified(source, cache, **few), tmp_path / 'first')
    tokenizer = {'data.tokenizer': str(tmp_path / 'first')}
    begun = {**few, **tokenizer, 'checkpoint.init_from': str(tmp_path / 'first')}
    capsys.readouterr()
    lm.train(classified(source, cache, **begun), tmp_path / 'same')
    assert 'new        nothing' in capsys.readouterr().err
    turned = {'objective.options.labels': ('good', 'bad')}
    lm.train(classified(source, cache, **begun, **turned), tmp_path / 'turned')
    told = capsys.readouterr().err
    assert 'new        head/bias, head/weight' in told and 'head/pooler' in told
    longer = {**few, **tokenizer, **turned, 'train.steps': 4}
    with pytest.raises(UserError, match=r'@2: tells bad, good apart, and this run good, bad; set'):
        lm.train(
            classified(source, cache, **longer), tmp_path / 'branch',
            fork_from=f'{tmp_path / "first"}@2',
        )  # fmt: skip


def test_rows_of_a_step_are_shown(tmp_path: Path, cache: Path) -> None:
    from lm.data.display import as_text

    source = sentiment(tmp_path / 'film.jsonl')
    shown = lm.rows_of_step(classified(source, cache), 1)
    assert len(shown) == 8
    assert 'film.jsonl:' in as_text(shown)
    assert all(row.title.endswith((': good', ': bad')) for row in shown)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'train.seq_len': 5}, r'train\.seq_len=5: the example film\.jsonl:\d+ takes \d places'),
        (
            {'objective.options.labels': ('good',)},
            r"=good: film\.jsonl:\d+ has the label 'bad'",
        ),
        ({'model.num_labels': 3}, r'model\.num_labels=3: the text has 2 \(bad, good\)'),
        (
            {'objective.options.label': 'tag'},
            r'options\.label=tag: film\.jsonl:1 has no ',
        ),
        ({'eval.measures': ('bleu',)}, r'eval\.measures=bleu: .* has no such measure'),
        ({'data.source': 'stdlib'}, r'data\.source=stdlib: holds plain text'),
        ({'data.validation_source': 'absent'}, r'data\.validation_source=absent: no such file'),
        ({'objective.options.label': 'text'}, r'held out with the label'),
    ],
)
def test_mistakes(changes: dict[str, Any], words: str, tmp_path: Path, cache: Path) -> None:
    source = sentiment(tmp_path / 'film.jsonl')
    with pytest.raises(UserError, match=words):
        lm.train(classified(source, cache, **changes), tmp_path / 'run')


def test_a_held_out_example_that_does_not_fit_is_refused_at_once(
    tmp_path: Path, cache: Path
) -> None:
    source = sentiment(tmp_path / 'film.jsonl')
    other = tmp_path / 'other.jsonl'
    other.write_text(json.dumps({'text': 'a film ' * 20, 'label': 'good'}) + '\n')
    settings = classified(source, cache, **{'data.validation_source': str(other)})
    with pytest.raises(UserError, match=r'train\.seq_len=16: the example other\.jsonl:1 takes'):
        lm.train(settings, tmp_path / 'run')
    assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_a_held_out_label_that_is_not_trained_on(tmp_path: Path, cache: Path) -> None:
    source = sentiment(tmp_path / 'film.jsonl')
    other = tmp_path / 'other.jsonl'
    other.write_text('{"text": "a film", "label": "fair"}\n')
    settings = classified(source, cache, **{'data.validation_source': str(other)})
    with pytest.raises(UserError, match=r"held out with the label 'fair', which is not trained on"):
        lm.train(settings, tmp_path / 'run')


def test_examples_that_are_not_trained_on_are_measured_too(tmp_path: Path, cache: Path) -> None:
    source, other = sentiment(tmp_path / 'film.jsonl'), sentiment(tmp_path / 'more.jsonl', seed=5)
    watching = {'eval.sources': (str(other),), 'train.steps': 2}
    summary = lm.train(classified(source, cache, **watching), tmp_path / 'run')
    by_source = summary['eval_by_source']
    assert by_source[str(source)]['accuracy'] == summary['measures']['accuracy']
    assert 0 <= by_source[str(other)]['accuracy'] <= 1
    assert by_source[str(other)]['loss'] != summary['eval_loss']
    strange = tmp_path / 'strange.jsonl'
    lines = [f'{{"text": "a film of the year {i}", "label": "fair"}}\n' for i in range(9)]
    strange.write_text(''.join(lines))
    settings = classified(source, cache, **{'eval.sources': (str(strange),)})
    with pytest.raises(UserError, match=r'eval\.sources=.*strange.jsonl: held out with the label'):
        lm.train(settings, tmp_path / 'strange')


def test_only_objectives_on_examples_read_records() -> None:
    assert example_codec(lm.load_config(f'{CONFIG}:bert')) is None
    with pytest.raises(UserError, match=r'eval\.measures=accuracy: objective\.name=mlm learns'):
        lm.train(lm.load_config(f'{CONFIG}:bert', **{'eval.measures': ('accuracy',)}), '/nowhere')
