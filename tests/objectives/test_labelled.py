"""Objectives on examples: the rows they make, what they cut, and what they refuse."""

import numpy as np
import pytest

from lm import UserError, load_config
from lm.batch import Row
from lm.examples import Encoded, as_ids, as_text
from lm.objectives import sequence_classification, text_to_text
from lm.objectives._labelled import _shortened
from lm.vocabulary import placeholder

VOCABULARY = placeholder(200)
BOS, EOS, PAD = VOCABULARY.bos_id, VOCABULARY.eos_id, VOCABULARY.pad_id
NOBODY = np.random.default_rng(0)


def row(*fields: list[int]) -> Row:
    tokens = np.concatenate([np.asarray(field, np.int32) for field in fields])
    numbers = np.repeat(np.arange(1, len(fields) + 1), [len(f) for f in fields]).astype(np.int32)
    return Row(tokens, numbers, np.zeros_like(tokens), np.zeros_like(tokens))


def classification(
    seq_len: int = 9, **options: object
) -> sequence_classification.SequenceClassification:
    chosen = sequence_classification.Options(labels=('neg', 'pos'), **options)  # type: ignore[arg-type]
    return sequence_classification.build(chosen, VOCABULARY, seq_len)


def test_one_text() -> None:
    made = classification().example(row([120, 121, 122], [], list(as_ids('pos'))), NOBODY)
    assert np.asarray(made.tokens).tolist() == [BOS, 120, 121, 122, EOS, PAD, PAD, PAD, PAD]
    assert np.asarray(made.segment_ids).tolist() == [1] * 5 + [0] * 4
    assert np.asarray(made.positions).tolist() == [0, 1, 2, 3, 4, 0, 0, 0, 0]
    assert not np.asarray(made.token_types).any()
    assert np.asarray(made.targets).tolist() == [1]
    assert np.asarray(made.loss_weights).tolist() == [1]


def test_a_pair_is_one_segment_of_two_types() -> None:
    made = classification().example(row([120, 121], [130, 131], list(as_ids('neg'))), NOBODY)
    assert np.asarray(made.tokens).tolist() == [BOS, 120, 121, EOS, 130, 131, EOS, PAD, PAD]
    assert np.asarray(made.token_types).tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0]
    assert np.asarray(made.segment_ids).tolist() == [1] * 7 + [0, 0]
    assert np.asarray(made.targets).tolist() == [0]


@pytest.mark.parametrize('first', range(9))
@pytest.mark.parametrize('second', range(9))
@pytest.mark.parametrize('room', [1, 4, 7])
def test_the_longer_text_is_cut_token_by_token(first: int, second: int, room: int) -> None:
    kept, other = first, second
    while kept + other > room:  # as in BERT's own code
        if kept > other:
            kept -= 1
        else:
            other -= 1
    assert _shortened(first, second, room) == (kept, other)


def test_places_are_what_example_fills() -> None:
    lengths_NF = np.array([[3, 0, 1], [2, 4, 2]])
    objective = classification(seq_len=20)
    [(setting, needed_N, room)] = objective.places(lengths_NF)
    assert (setting, room) == ('train.seq_len', 20)
    for lengths, needed in zip(lengths_NF, needed_N, strict=True):
        fields = [list(range(120, 120 + n)) for n in lengths[:2]]
        made = objective.example(row(*fields, list(as_ids('pos'))), NOBODY)
        assert objective.tokens_used(made) == needed


def test_labels_are_texts_of_any_script() -> None:
    assert as_text(as_ids('très bien 好')) == 'très bien 好'


@pytest.mark.parametrize(
    ('record', 'words'),
    [
        ({'text': 'x'}, r'options\.label=label: f:1 has no such field.*\(fields: text\)'),
        (
            {'txt': 'x', 'label': 'a'},
            r'options\.text=text: f:1 has no such field; did you mean txt',
        ),
        ({'text': ['x'], 'label': 'a'}, r'options\.text=text: f:1 holds list there, not text'),
        ({'text': 'x', 'label': 1.5}, r'options\.label=label: f:1 holds float there, not text'),
    ],
)
def test_records_that_are_none(record: dict[str, object], words: str) -> None:
    codec = sequence_classification.codec(sequence_classification.Options(labels=('neg', 'pos')))
    with pytest.raises(UserError, match=words):
        texts = codec.texts(record, 'f:1')
        codec.encode(record, 'f:1', [Encoded(np.zeros(1, np.int32)) for _ in texts])


def test_numbers_are_labels_too() -> None:
    codec = sequence_classification.codec(sequence_classification.Options())
    [[_, _, label]] = codec.encode({'text': 'x', 'label': 3}, 'f:1', [Encoded(np.arange(2))])
    assert as_text(label) == '3'


def texts(family: str = 'encoder_decoder', **options: object) -> text_to_text.TextToText:
    chosen = text_to_text.Options(**options)  # type: ignore[arg-type]
    return text_to_text.build(chosen, VOCABULARY, 8, family)


def test_two_sides_each_end_with_eos() -> None:
    made = texts(target_len=5).example(row([120, 121], [130, 131, 132]), NOBODY)
    assert np.asarray(made.tokens).tolist() == [120, 121, EOS] + [PAD] * 5
    assert np.asarray(made.targets).tolist() == [130, 131, 132, EOS, PAD]
    assert np.asarray(made.decoder_tokens).tolist() == [VOCABULARY.start_id, 130, 131, 132, PAD]
    assert np.asarray(made.loss_weights).tolist() == [1, 1, 1, 1, 0]
    bart = texts(bos=True).example(row([120], [130]), NOBODY)
    assert np.asarray(bart.tokens).tolist()[:3] == [BOS, 120, EOS]
    assert np.asarray(bart.targets).tolist()[:3] == [BOS, 130, EOS]


def test_a_decoder_is_asked_for_the_target_alone() -> None:
    made = texts('decoder').example(row([120, 121], [130, 131]), NOBODY)
    assert np.asarray(made.tokens).tolist() == [BOS, 120, 121, 130, 131, PAD, PAD, PAD]
    assert np.asarray(made.targets).tolist()[:5] == [120, 121, 130, 131, EOS]
    assert np.asarray(made.loss_weights).tolist() == [0, 0, 1, 1, 1, 0, 0, 0]
    assert made.prefix is None


def test_texts_that_are_too_long_are_cut_at_their_ends() -> None:
    long = list(range(120, 140))
    made = texts(truncate=True, target_len=4).example(row(long, long), NOBODY)
    assert np.asarray(made.tokens).tolist() == [*long[:7], EOS]
    assert np.asarray(made.targets).tolist() == [*long[:3], EOS]
    decoder = texts('decoder', truncate=True).example(row(long, [150, 151]), NOBODY)
    # What is given loses its beginning: its end is next to what is to be said.
    assert np.asarray(decoder.tokens).tolist() == [BOS, *long[-5:], 150, 151]
    assert np.asarray(decoder.targets).tolist()[-3:] == [150, 151, EOS]


@pytest.mark.parametrize('family', ['encoder_decoder', 'decoder'])
def test_places_of_texts(family: str) -> None:
    objective = texts(family)
    sides = objective.places(np.array([[3, 2, 9], [1, 5, 9]]))
    assert {(setting, room) for setting, _, room in sides} == {('train.seq_len', 8)}
    needed = [needed_N.tolist() for _, needed_N, _ in sides]
    assert needed == ([[4, 2], [3, 6]] if family == 'encoder_decoder' else [[6, 7]])


def test_templates() -> None:
    options = text_to_text.Options(input='to {lang}: {pair[en]}', target='{pair[de]}')
    codec = text_to_text.codec(options)
    record = {'lang': 'German', 'pair': {'en': 'bread', 'de': 'Brot'}}
    assert codec.texts(record, 'f:1') == ['to German: bread', 'Brot']
    with pytest.raises(UserError, match=r"options\.input=.*: f:1: pair\[en\]: KeyError\('en'\)"):
        codec.texts({**record, 'pair': {'de': 'Brot'}}, 'f:1')
    nested = text_to_text.codec(text_to_text.Options(input='{lang:{width}}', target='{lang}'))
    with pytest.raises(UserError, match=r"options\.input=.*: f:1: KeyError\('width'\)"):
        nested.texts(record, 'f:1')
    with pytest.raises(UserError, match=r'options\.input=.*: f:1 has no such field'):
        codec.texts({'pair': record['pair']}, 'f:1')
    # What a name leads to must be text, whatever it is written with.
    for strange in ({**record, 'pair': 'x'}, {**record, 'pair': {'en': ['a'], 'de': 'b'}}):
        with pytest.raises(UserError, match=r'options\.input=.*: f:1'):
            codec.texts(strange, 'f:1')
    with pytest.raises(UserError, match=r'options\.input=\{\}: names no field'):
        text_to_text.Options(input='{}')
    with pytest.raises(UserError, match=r'options\.input=plain: names no field'):
        text_to_text.Options(input='plain')
    with pytest.raises(UserError, match=r'options\.target=\{x: '):
        text_to_text.Options(target='{x')


def test_the_objective_brings_its_head() -> None:
    config = load_config('bert_tiny', objective={'name': 'sequence_classification'})
    assert config.model.head == 'sequence'
    assert load_config('bert_tiny').model.head is None
    with pytest.raises(UserError, match=r'model\.head=token: objective\.name=seq.* asks for seq'):
        load_config(
            'bert_tiny', objective={'name': 'sequence_classification'}, model={'head': 'token'}
        )
    with pytest.raises(UserError, match=r'model\.head=sequence: objective\.name=mlm asks for voc'):
        load_config('bert_tiny', model={'head': 'sequence'})


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        ({'data': {'text_field': 'body'}}, r'data\.text_field=body: of plain text'),
        ({'mesh': {'seq': 2}}, r'mesh\.seq=2: splits long rows'),
    ],
)
def test_settings_of_plain_text_are_refused(
    settings: dict[str, dict[str, object]], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        load_config('bert_tiny', objective={'name': 'sequence_classification'}, **settings)
