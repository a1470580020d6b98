"""Filling blanks: one token each by an encoder, a span each by an encoder-decoder."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Key

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
    parts = prompt.split(BLANK)
    tokens, segment_ids, _ = padded_rows(model, row, rows=1)
    # By mask id alone: text never contains it.
    blanks = np.flatnonzero(row == model.tokenizer.vocabulary.mask_id)
    logits_BV = model.logits(tokens, segment_ids)[0, blanks]
    logits_BV = logits_BV.at[:, np.array(never(model))].set(-jnp.inf)
    texts = []
    for key in keys_N:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(len(blanks)))
        filled = row.copy()
        filled[blanks] = choose(logits_BV, keys, sampling.draw())
        text = ''
        for blank, part in zip(blanks, parts, strict=False):
            text += part + model.text_added(filled[:blank], filled[blank : blank + 1])
        texts.append(text + parts[-1])
    return texts


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
    sentinels, others = vocabulary.sentinel_ids[:blanks], vocabulary.sentinel_ids[blanks:]
    assert begun.source is not None
    out = decode(
        model.functional,
        model.params,
        [begun.given] * len(keys_N),
        Batch(*padded_rows(model, begun.source, rows=len(keys_N))),
        max_new_tokens=max_new_tokens,
        window=model.context,
        forbidden=never(model, begun.allowed),
        # A sentinel that the prompt does not have begins an answer to nothing.
        ends=[vocabulary.eos_id, *others],
        sampling=sampling,
        keys_B=keys_N,
    )
    answers = [np.append(begun.given[1:], row) for row in out.tokens_BN]
    return [_with_spans(model, parts, answer, sentinels) for answer in answers]


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


def _with_spans(
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
