"""The likelihood of a text behind a context: transformers', and each objective's own form."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

from lm import registry
from lm.batch import Row, stack
from lm.config import Config, ModelConfig, ObjectiveConfig, TrainConfig
from lm.errors import UserError
from lm.evaluation.in_context.choices import continuations, log_likelihoods
from lm.evaluation.spans import Span, span_nats
from lm.generation.language_model import LanguageModel
from lm.objectives import text_to_text
from lm.resolution import resolve_options
from lm.training.load import load_foreign
from tests.generation.tiny import Letters, language_model
from tests.hub import peers
from tests.models.tiny import perturbed, tiny
from tests.objectives.rows import SIZE, TEXT, VOCABULARY
from tests.objectives.test_contract import ARCHITECTURES, PAIRS, SEQ_LEN, built

CONTEXTS = ('the cat sat on', 'a', 'to be or not to be that is the')
TEXTS = (' the mat.', ' a dog', ' question of it')
V = Letters.vocabulary


def theirs(name: str, peer: Any, context: str, text: str) -> tuple[float, bool]:
    """log p of the text, and whether greedy decoding says it; a row of one text, in float64."""
    given, said = (Letters().encode(part).tolist() for part in (context, text))
    blank = V.sentinel_ids[0]
    sides = {
        't5': ([*given, blank, V.eos_id], [peers.PAD, blank]),
        'bart': (
            [V.bos_id, *given, V.mask_id, V.eos_id],
            [getattr(peer.config, 'decoder_start_token_id', -1), V.bos_id, *given],
        ),
    }
    source, before = sides.get(name, (None, [V.bos_id, *given]))
    row = np.array([[*before, *said[:-1]]])
    if source is None:
        logits = peers.logits(peer, row, np.ones_like(row))
    else:
        read = np.array([source])
        logits = peers.logits(peer, read, np.ones_like(read), row)
    log_p = log_softmax(logits[0, len(before) - 1 :].astype(np.float64), axis=-1)
    total = sum(log_p[i, token] for i, token in enumerate(said))
    return float(total), log_p.argmax(axis=-1).tolist() == said


@pytest.mark.parametrize('name', ['gpt2', 'llama', 't5', 'bart'])
def test_a_choices_likelihood_is_that_of_transformers(name: str, tmp_path: Path) -> None:
    peer = peers.peer(name)
    loaded = load_foreign(peers.saved(peer, tmp_path))
    ours = LanguageModel(loaded.config, loaded.functional, loaded.params, Letters())
    asked = [one for context in CONTEXTS for one in continuations(ours, context, TEXTS)]
    found = log_likelihoods(ours, asked, batch_size=4)
    expected = [theirs(name, peer, context, text) for context in CONTEXTS for text in TEXTS]
    np.testing.assert_allclose(found.log_p_N, [log_p for log_p, _ in expected], atol=1e-4)


def test_greedy_texts_are_told() -> None:
    ours = language_model('llama')
    [empty] = continuations(ours, 'the', [' c'])
    logits = np.asarray(ours.logits(np.array([empty.begun.given]))[0, -1])
    likeliest = int(logits.argmax())
    asked = [empty._replace(ids=np.array([i], np.int32)) for i in (likeliest, likeliest - 1)]
    assert log_likelihoods(ours, asked, 2).greedy_N.tolist() == [True, False]


class Codec:
    """A letter is an id of the objectives' vocabulary."""

    vocabulary = VOCABULARY

    def encode(self, text: str) -> np.ndarray:
        return np.array([TEXT[ord(letter) - ord('a')] for letter in text], np.int32)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        return ''.join(chr(ord('a') + TEXT.tolist().index(i)) for i in ids)


@pytest.mark.parametrize(
    ('name', 'family'),
    [p for p in PAIRS if p[1] != 'encoder' and p[0] not in registry.names('tasks')],
)
def test_a_text_is_asked_for_in_the_form_that_was_trained(name: str, family: str) -> None:
    config = Config(
        model=ModelConfig(name=ARCHITECTURES[family], max_positions=64),
        objective=ObjectiveConfig(name),
        train=TrainConfig(seq_len=SEQ_LEN),
    )
    # Two layers: in one, what sees a prefix both ways is asked for nothing more.
    functional = tiny(ARCHITECTURES[family], vocab_size=SIZE, max_positions=64, num_layers=2)
    ours = LanguageModel(resolve_options(config), functional, perturbed(functional), Codec())
    asked = [
        one for context in ('hdgkqw', 'mnbc') for one in continuations(ours, context, ['ac', 'f'])
    ]
    found = log_likelihoods(ours, asked, batch_size=4)
    spans = [
        Span(Codec().encode(context + text), len(context), len(context + text))
        for context in ('hdgkqw', 'mnbc')
        for text in ('ac', 'f')
    ]
    nats = span_nats(ours, built(name, family), spans, batch_size=4)
    np.testing.assert_allclose(found.log_p_N, -nats, rtol=2e-5)


@pytest.mark.parametrize('family', ['decoder', 'encoder_decoder'])
@pytest.mark.parametrize('bos', [False, True])
def test_one_that_says_texts_of_texts_is_asked_for_a_target_with_its_end(
    family: str, bos: bool
) -> None:
    options = text_to_text.Options(bos=bos)
    config = Config(
        model=ModelConfig(name=ARCHITECTURES[family], max_positions=64),
        objective=ObjectiveConfig('text_to_text', options),
        train=TrainConfig(seq_len=SEQ_LEN),
    )
    functional = tiny(ARCHITECTURES[family], vocab_size=SIZE, max_positions=64)
    ours = LanguageModel(resolve_options(config), functional, perturbed(functional), Codec())
    objective = text_to_text.build(options, VOCABULARY, SEQ_LEN, family)
    asked = continuations(ours, 'hdgkqw', [' ac', 'f'])  # the first behind a blank
    for one, target in zip(asked, ('ac', 'f'), strict=True):
        fields = [Codec().encode(text) for text in ('hdgkqw', target)]
        numbers = np.repeat([1, 2], [len(field) for field in fields]).astype(np.int32)
        row = Row(np.concatenate(fields), numbers, np.zeros_like(numbers), np.zeros_like(numbers))
        batch = stack([objective.example(row, np.random.default_rng(0))])
        given = np.asarray(batch.targets) == VOCABULARY.bos_id  # by `begin`, not asked for
        batch = batch._replace(loss_weights=np.where(given, 0, batch.loss_weights))
        sums = objective.loss(functional.apply(ours.params, batch), batch)
        found = log_likelihoods(ours, [one], batch_size=1)
        np.testing.assert_allclose(found.log_p_N[0], -float(sums.loss), rtol=2e-5)


@pytest.mark.parametrize('name', ['llama', 'lstm', 'lstm_seq2seq'])
def test_rows_of_all_lengths_score_as_alone(name: str) -> None:
    ours = language_model(name, context=200)
    contexts = ['ab', 'the cat ' * 8, 'the cat ' * 17]
    asked = [one for c in contexts for one in continuations(ours, c, ['a', ' dog' * 6])]
    together = log_likelihoods(ours, asked, batch_size=4)
    alone = [log_likelihoods(ours, [one], batch_size=1).log_p_N[0] for one in asked]
    np.testing.assert_allclose(together.log_p_N, alone, rtol=2e-6)


class Pairs(Letters):
    """Two letters may be one token: `th` is that of `z`."""

    def encode(self, text: str) -> np.ndarray:
        return super().encode(text.replace('th', 'z'))


def test_the_boundary_is_where_the_context_alone_ends() -> None:
    ours = replace(language_model('llama'), text_codec=Pairs())
    [one] = continuations(ours, 'a t', ['he'])
    # `a t` has 3 tokens and `a the` has 4: the merged one counts as the context's `t`.
    assert one.begun.given.tolist() == [V.bos_id, *Letters().encode('a t')]
    assert one.ids.tolist() == Letters().encode('e').tolist()
    with pytest.raises(UserError, match=r"'h': has no token of its own behind 'a t'"):
        continuations(ours, 'a t', ['h'])


def test_white_space_before_a_text_is_the_texts() -> None:
    ours = language_model('llama')
    [one], [other] = continuations(ours, 'a cat ', ['sat']), continuations(ours, 'a cat', [' sat'])
    assert one.begun.given.tolist() == other.begun.given.tolist()
    assert one.ids.tolist() == other.ids.tolist() == Letters().encode(' sat').tolist()


def test_what_has_no_likelihood_is_refused() -> None:
    encoder = language_model('bert')
    with pytest.raises(UserError, match='bert is an encoder, which gives no text a likelihood'):
        log_likelihoods(encoder, continuations(encoder, 'a', [' b']), 1)
    ours = language_model('llama')
    with pytest.raises(UserError, match='25 tokens with their context do not fit in model.max_pos'):
        log_likelihoods(ours, continuations(ours, 'a' * 20, [' cat.']), 1)


def test_no_more_programs_than_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = set()
    monkeypatch.setattr(
        'lm.evaluation.in_context.choices._said',
        lambda params, batch, places_BA, forward: (
            shapes.add((batch.tokens.shape, places_BA.shape))
            or (np.zeros(places_BA.shape), np.ones(places_BA.shape, bool))
        ),
    )
    ours = language_model('llama', context=200)
    asked = [one for n in range(1, 150, 7) for one in continuations(ours, 'a' * n, ['b' * 20, 'c'])]
    log_likelihoods(ours, asked, batch_size=8)
    assert {width for (_, width), _ in shapes} == {64, 128, 200}
    assert len(shapes) == 3 and {rows for (rows, _), _ in shapes} == {8}
