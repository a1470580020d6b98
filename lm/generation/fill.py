"""Filling blanks: one token each by an encoder, a span each by an encoder-decoder."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Key

from lm.batch import Batch
from lm.generation.begin import BLANK, Begun, begin, require_fits
from lm.generation.decode import decode, padded_length
from lm.generation.language_model import LanguageModel
from lm.generation.sampling import Sampling, choose


def fill_tokens(
    model: LanguageModel, prompt: str, sampling: Sampling, keys_N: Key[jax.Array, ' N']
) -> list[str]:
    """A text with one token in each of its blanks, chosen independently; a text a key.

    Raises:
      UserError: the text is longer than the context.
    """
    row = begin(model, prompt, fill=True).given
    chosen_NA = chosen_tokens(model, row, sampling, keys_N)
    return [with_tokens(model, prompt.split(BLANK), row, chosen_A) for chosen_A in chosen_NA]


def chosen_tokens(
    model: LanguageModel,
    row: Int[np.ndarray, ' n'],
    sampling: Sampling,
    keys_N: Key[jax.Array, ' N'],
) -> Int[np.ndarray, 'N A']:
    """An id for each mask of the ids `row`, so often as there are keys.

    Raises:
      UserError: the row is longer than the context.
    """
    tokens, segment_ids, _ = padded_rows(model, row, rows=1)
    # By mask id alone: text never contains it.
    blanks = np.flatnonzero(row == model.tokenizer.vocabulary.mask_id)
    logits_AV = model.logits(tokens, segment_ids)[0, blanks]
    logits_AV = logits_AV.at[:, np.array(never(model))].set(-jnp.inf)
    keys_NA = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)), in_axes=(0, None))(
        keys_N, jnp.arange(len(blanks))
    )
    return np.stack([choose(logits_AV, keys_A, sampling.draw()) for keys_A in keys_NA])


def with_tokens(
    model: LanguageModel, parts: Sequence[str], row: np.ndarray, chosen_A: np.ndarray
) -> str:
    """The parts of a text with the ids that were chosen for the masks of `row` between them."""
    filled, text = row.copy(), ''
    blanks = np.flatnonzero(row == model.tokenizer.vocabulary.mask_id)
    filled[blanks] = chosen_A
    for blank, part in zip(blanks, parts, strict=False):
        text += part + model.text_added(filled[:blank], filled[blank : blank + 1])
    return text + parts[-1]


def fill_spans(
    model: LanguageModel,
    parts: Sequence[str],
    begun: Begun,
    max_new_tokens: int,
    sampling: Sampling,
    keys_N: Key[jax.Array, ' N'],
) -> list[str]:
    """The parts of a text joined by a span each, decoded as span corruption writes its targets.

    `begun` is what has been read of them.

    Raises:
      UserError: the text is longer than the context.
    """
    vocabulary = model.tokenizer.vocabulary
    blanks = len(parts) - 1
    sentinels = vocabulary.sentinel_ids[:blanks]
    assert begun.source is not None
    out = decode(
        model.functional,
        model.params,
        [begun.given] * len(keys_N),
        Batch(*padded_rows(model, begun.source, rows=len(keys_N))),
        max_new_tokens=max_new_tokens,
        window=model.context,
        forbidden=never(model, begun.allowed),
        ends=span_ends(model, blanks),
        sampling=sampling,
        keys_B=keys_N,
    )
    answers = [np.append(begun.given[1:], row) for row in out.tokens_BN]
    return [with_spans(model, parts, answer, sentinels) for answer in answers]


def span_ends(model: LanguageModel, blanks: int) -> list[int]:
    """Ids that end what a decoder says for so many blanks.

    A sentinel that the prompt does not have begins an answer to nothing.
    """
    vocabulary = model.tokenizer.vocabulary
    return [vocabulary.eos_id, *vocabulary.sentinel_ids[blanks:]]


def never(model: LanguageModel, allowed: Iterable[int] = ()) -> list[int]:
    """Ids that may not be chosen: special ones, and those the tokenizer does not have."""
    vocabulary = model.tokenizer.vocabulary
    beyond = range(vocabulary.size, model.config.model.padded_vocab_size)
    return sorted((vocabulary.special_ids | {vocabulary.unk_id} | set(beyond)) - set(allowed))


def padded_rows(
    model: LanguageModel, tokens: np.ndarray, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, segment ids and positions, int32 [rows, T], of one text as long as is compiled."""
    require_fits(model, len(tokens))
    width = padded_length(len(tokens), model.context)
    padding = (0, width - len(tokens))
    row = np.pad(tokens, padding, constant_values=model.tokenizer.vocabulary.pad_id)
    segments = np.pad(np.ones_like(tokens), padding)
    sides = (row, segments, np.arange(width) * segments)
    tokens_BT, segments_BT, positions_BT = (np.tile(x.astype(np.int32), (rows, 1)) for x in sides)
    return tokens_BT, segments_BT, positions_BT


def with_spans(
    model: LanguageModel, parts: Sequence[str], answer: np.ndarray, sentinels: Sequence[int]
) -> str:
    """The parts with what the decoder said for each blank between them."""
    vocabulary = model.tokenizer.vocabulary
    stops = np.isin(answer, [vocabulary.eos_id, *vocabulary.sentinel_ids])
    text, before = parts[0], model.tokenizer.encode(parts[0])
    for sentinel, part in zip(sentinels, parts[1:], strict=True):
        said = np.flatnonzero(answer == sentinel)
        if len(said):
            start = said[0] + 1
            later = np.flatnonzero(stops[start:])
            span = answer[start : start + later[0] if len(later) else len(answer)]
            text += model.text_added(before, span)
            before = np.concatenate([before, span])
        text += part
        before = np.concatenate([before, model.tokenizer.encode(part)])
    return text
