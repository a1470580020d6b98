"""The likelihood of a span: asked of each objective in its own form, against its logits."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from lm.batch import Batch, stack
from lm.config import Config, ModelConfig, ObjectiveConfig, TrainConfig
from lm.errors import UserError
from lm.evaluation.spans import Span, span_nats
from lm.generation.language_model import LanguageModel
from lm.resolution import resolve_options
from tests.models.tiny import perturbed, side
from tests.objectives.rows import SIZE, TEXT, VOCABULARY
from tests.objectives.test_contract import ARCHITECTURES, SEQ_LEN, built, every_objective, model

START, STOP = 9, 13
SEES_BEHIND = {'mlm', 'span_corruption', 'denoising', 'ul2'}


@functools.cache
def applying(family: str) -> Any:
    """One program for all rows of a shape."""
    return jax.jit(model(family).apply)


def language_model(name: str, family: str) -> LanguageModel:
    config = Config(
        model=ModelConfig(name=ARCHITECTURES[family]),
        objective=ObjectiveConfig(name),
        train=TrainConfig(seq_len=SEQ_LEN),
    )
    return LanguageModel(resolve_options(config), model(family), perturbed(model(family)), None)


def texts(count: int, length: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.choice(TEXT, length, replace=False).astype(np.int32) for _ in range(count)]


def by_hand(name: str, family: str, text: np.ndarray, start: int, stop: int) -> float:
    """The same likelihood a token at a time, the forms written out by hand."""
    loaded, v = language_model(name, family), VOCABULARY
    before, span, behind = text[:start], text[start:stop], text[stop:]
    sentinel, mode = v.sentinel_ids[0], v.mode_ids[0] if len(behind) else v.mode_ids[1]
    total = 0.0
    for i, target in enumerate(span):
        said = [*span[:i]]
        prefix = None
        if name == 'mlm':
            hidden = [v.mask_id] * (len(span) - i)
            row = [v.bos_id, *before, *said, *hidden, *behind, v.eos_id]
            sides, place = [row], 1 + start + i
        elif family == 'decoder':
            given = {
                'clm': [v.bos_id, *before],
                'prefix_lm': [v.bos_id, *before],
                'ul2': [mode, *before, sentinel, *behind, v.eos_id],
            }[name]
            row = given + ([sentinel] if name == 'ul2' else []) + said
            prefix = None if name == 'clm' else len(given)
            sides, place = [row], len(row) - 1
        else:
            given, told = {
                'span_corruption': ([*before, sentinel, *behind, v.eos_id], [sentinel]),
                'ul2': ([mode, *before, sentinel, *behind, v.eos_id], [sentinel]),
                'denoising': (
                    [v.bos_id, *before, v.mask_id, *behind, v.eos_id],
                    [v.bos_id, *before],
                ),
                'prefix_lm': ([v.bos_id, *before], []),
            }[name]
            sides = [given, [v.pad_id, *told, *said]]
            place = len(sides[1]) - 1
        arrays = [x for row in sides for x in side([len(row)], SEQ_LEN, np.resize(row, SEQ_LEN))]
        batch = Batch(*arrays)
        if prefix is not None:
            batch = batch._replace(prefix=np.arange(SEQ_LEN)[None] < prefix)
        logits = np.asarray(applying(family)(loaded.params, batch), np.float64)[0, place]
        total -= log_softmax(logits[: v.size])[target]
    return total


@every_objective
@pytest.mark.parametrize('length', [20, STOP])  # within, and at the end
def test_it_is_the_likelihood_written_out(name: str, family: str, length: int) -> None:
    objective = built(name, family)
    found = texts(3, length)
    spans = [Span(text, START, STOP) for text in found]
    nats = span_nats(language_model(name, family), objective, spans, batch_size=5)
    np.testing.assert_allclose(
        nats, [by_hand(name, family, text, START, STOP) for text in found], rtol=2e-5
    )


@every_objective
def test_the_span_itself_is_hidden_and_its_context_is_not(name: str, family: str) -> None:
    """Rows ask for each token once; what is asked for later, or not shown, changes no logit."""
    objective, functional = built(name, family), model(family)
    [text, other] = texts(2, 20)
    rows = objective.span_rows(text, START, STOP)
    asked = [row.targets[row.loss_weights > 0] for row in rows]
    np.testing.assert_array_equal(np.concatenate(asked), text[START:STOP])

    def logits(changed: np.ndarray) -> np.ndarray:
        batch = stack(objective.span_rows(changed, START, STOP))
        logits_BTV = applying(family)(perturbed(functional), batch)
        return np.asarray(logits_BTV)[np.asarray(batch.loss_weights) > 0][:, :SIZE]

    usual = logits(text)
    for i in range(STOP - START):
        later = text.copy()
        later[START + i : STOP] = other[START + i : STOP]
        np.testing.assert_allclose(logits(later)[: i + 1], usual[: i + 1], atol=1e-6)
        if i < STOP - START - 1:
            assert np.abs(logits(later) - usual)[-1].max() > 1e-3  # what was said counts
    for place, sees in ((START - 1, True), (STOP, name in SEES_BEHIND)):
        changed = text.copy()
        changed[place] = other[place]
        assert (np.abs(logits(changed) - usual).max() > 1e-4) == sees


def test_what_does_not_fit_is_refused() -> None:
    spans = [Span(np.resize(TEXT, 60), START, STOP)]
    with pytest.raises(UserError, match='span: 4 of 60 tokens'):
        span_nats(language_model('mlm', 'encoder'), built('mlm', 'encoder'), spans, 2)
