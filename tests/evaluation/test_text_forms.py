"""A text is scored in the form of the model's objective, or not at all."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from lm.batch import Batch, Row
from lm.errors import UserError
from lm.evaluation.spans import Span, span_nats
from lm.evaluation.text import score_text
from lm.objectives._objective import SaysTexts
from lm.objectives._rows import sides
from tests.evaluation.test_spans import language_model
from tests.objectives.rows import TEXT, VOCABULARY
from tests.objectives.test_contract import PAIRS, SEQ_LEN, built

SAYS = [(name, family) for name, family in PAIRS if name in ('clm', 'prefix_lm', 'ul2')]
every_form = pytest.mark.parametrize(('name', 'family'), SAYS)
LENGTHS = [1, 2, 3, 17, 48, 49, 150]


class Ids:
    """A text's characters are ids."""

    vocabulary = VOCABULARY

    def encode(self, text: str) -> np.ndarray:
        return np.array([*map(ord, text)], np.int32)

    def decode(self, ids: Any) -> str:
        raise NotImplementedError


def text_of(length: int) -> np.ndarray:
    return np.random.default_rng(length).choice(TEXT, length).astype(np.int32)


def parts(name: str, row: Batch) -> tuple[np.ndarray, np.ndarray]:
    """What a row shows of the text, and what it asks for."""
    if row.prefix is None and row.decoder_tokens is None:
        row = row._replace(prefix=(row.segment_ids > 0) & (row.positions < 1))
    [(given, said)] = sides(row)
    weights = np.asarray(row.loss_weights)
    asked = np.asarray(row.targets)[weights > 0]
    assert set(weights.tolist()) <= {0.0, 1.0}
    if name == 'ul2':
        sentinel, eos = VOCABULARY.sentinel_ids[0], VOCABULARY.eos_id
        assert given[0] == VOCABULARY.mode_ids[1]
        assert [*given[-2:]] == [sentinel, eos]
        # Nothing else is said, but eos, which a row's targets may have behind the span.
        assert [*asked] == [x for x in said if x not in (sentinel, eos)]
        return given[1:-2], asked
    return given, asked


@every_form
@pytest.mark.parametrize('length', LENGTHS)
def test_every_token_is_asked_for_once_behind_what_comes_before_it(
    name: str, family: str, length: int
) -> None:
    text, objective = text_of(length), built(name, family)
    place = 0
    for row in objective.text_rows(text):
        given, asked = parts(name, row)
        before = np.append([VOCABULARY.bos_id], text[:place])
        assert [*given] == [*before[len(before) - len(given) :]]
        assert [*asked] == [*text[place : place + len(asked)]]
        place += len(asked)
    assert place == length


@pytest.mark.parametrize('family', ['decoder', 'encoder_decoder'])
def test_ul2_asks_for_no_more_and_no_less_than_its_rows_hide(family: str) -> None:
    objective = built('ul2', family)
    for length in range(1, 120):
        rows = [parts('ul2', row) for row in objective.text_rows(text_of(length))]
        assert len(rows[0][0]) == 0 and len(rows[0][1]) == 1
        for given, asked in rows[1:]:
            whole = len(given) + len(asked)
            # A share between 10 % and 40 %, in whole tokens, of which one is the least.
            assert max(int(0.1 * whole + 0.5), 1) <= len(asked) <= max(int(0.4 * whole + 0.5), 1)
            assert whole <= objective.row_len
    rows = [parts('ul2', row) for row in objective.text_rows(text_of(500))]
    assert (
        sum(len(given) + len(asked) == objective.row_len for given, asked in rows) > len(rows) / 2
    )


@every_form
def test_the_score_is_that_of_the_stretches_as_spans(name: str, family: str) -> None:
    text, objective = text_of(60), built(name, family)
    model = dataclasses.replace(language_model(name, family), text_codec=Ids())
    score = score_text(model, ''.join(map(chr, text)), batch_size=4)
    assert (score['tokens'], score['objective'], score['seq_len']) == (60, name, SEQ_LEN)
    if name != 'ul2':
        # Spans of these begin behind bos, as a text does: its first window.
        first = score_text(model, ''.join(map(chr, text[:SEQ_LEN])), batch_size=4)
        [nats] = span_nats(model, objective, [Span(text[:SEQ_LEN], 0, SEQ_LEN)], 1)
        assert first['loss'] * SEQ_LEN == pytest.approx(nats, rel=2e-5)
        return
    spans, place = [], 0
    for row in objective.text_rows(text):
        given, asked = parts(name, row)
        stretch = text[place - len(given) : place + len(asked)]
        spans.append(Span(stretch, len(given), len(stretch)))
        place += len(asked)
    nats = span_nats(model, objective, spans, batch_size=4).sum()
    assert score['loss'] * 60 == pytest.approx(nats, rel=2e-5)


def test_a_prefix_of_one_token_is_a_causal_row() -> None:
    score = {}
    for name in ('clm', 'prefix_lm'):
        model = dataclasses.replace(language_model(name, 'decoder'), text_codec=Ids())
        score[name] = score_text(model, ''.join(map(chr, text_of(100))), batch_size=2)
    assert score['clm']['loss'] == pytest.approx(score['prefix_lm']['loss'], rel=1e-6)
    # Prefix language modelling does cut so: the shortest of its prefixes is one token.
    objective, row = built('prefix_lm', 'decoder'), np.arange(49, dtype=np.int32)
    segment = Row(row + 40, np.ones_like(row), row, np.zeros_like(row))
    drawn = [objective.example(segment, np.random.default_rng(i)) for i in range(300)]
    assert 1 in {int(np.sum(batch.prefix)) for batch in drawn}


@pytest.mark.parametrize(('name', 'family'), [pair for pair in PAIRS if pair not in SAYS])
def test_what_says_no_text_is_refused(name: str, family: str) -> None:
    assert not isinstance(built(name, family), SaysTexts)
    model = dataclasses.replace(language_model(name, family), text_codec=Ids())
    with pytest.raises(UserError, match=f'--text: .* objective.name={name}, which asks'):
        score_text(model, 'a', 1)
