"""One vector a text: the mean of a model's last hidden states over the text's tokens."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from lm.batch import Batch
from lm.config import require
from lm.generation.begin import framed
from lm.generation.decode import padded_length
from lm.generation.language_model import Forward, LanguageModel
from lm.generation.rows import padded_rows
from lm.shapes import Params


class TextVectors(NamedTuple):
    """Vectors of N texts.

    Attributes:
      vectors_ND: fp32, in the order of the texts.
      truncated: how many texts were cut to the context.
    """

    vectors_ND: Float[np.ndarray, 'N D']
    truncated: int


def text_vectors(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    batch_size: int = 32,
    normalize: bool = False,
    truncate: bool = False,
    words: Callable[[int], str] = 'texts[{}]'.format,
) -> TextVectors:
    """Mean-pooled vectors, as retrieval compares them (Reimers and Gurevych 2019, section 3).

    The mean is over all tokens of a text, special ones too, as sentence-transformers has it, and
    over none of the padding, which no token sees. An encoder reads bos, the text and eos. Of an
    encoder-decoder they are the encoder's states (Ni et al. 2022, "encoder-only mean"), of a text
    framed as in training. Of a decoder they are its last states, of bos and the text: each has seen
    what comes before it alone, unless the model was trained with a prefix.

    Args:
      model: from `lm.load`.
      texts: any number; none of them empty.
      batch_size: texts that are read at once, at most.
      normalize: vectors become of length 1.
      truncate: texts that are longer than the context are cut there, instead of refused.
      words: what the text of a number is called in errors.

    Raises:
      UserError: a text that is empty or too long, a batch of less than one, or a model of the
        user's own whose hidden states are not known.
    """
    name, context = model.config.model.name, model.context
    require(batch_size >= 1, f'batch_size={batch_size}: must be at least 1')
    require(not isinstance(texts, str), 'texts: a text; give a list of texts')
    require(
        model.functional.by_policy,
        f'model.name={name}: is a module of yours; only models of lm.models.model.Model have '
        'hidden states to take the mean of',
    )
    rows, truncated = [], 0
    for i, text in enumerate(texts):
        require(bool(text), f'{words(i)}: is empty; give a text')
        before, ids, after = framed(model, text)
        room = context - len(before) - len(after)
        require(
            truncate or len(ids) <= room,
            f'{words(i)}: {len(ids) + context - room} tokens with its special ones, the context is '
            f'model.max_positions={context}; shorten it, or give --truncate',
        )
        truncated += len(ids) > room
        rows.append(np.concatenate([before, ids[:room], after]).astype(np.int32))
    vectors_ND = np.zeros((len(rows), model.config.model.d_model), np.float32)
    for chosen, batch in _batches(model, rows, batch_size):
        means_BD = _means(model.params, batch, forward=Forward(model.functional))
        vectors_ND[chosen] = np.asarray(means_BD)[: len(chosen)]
    if normalize:
        vectors_ND /= np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    return TextVectors(vectors_ND, truncated)


def _batches(
    model: LanguageModel, rows: Sequence[Int[np.ndarray, ' _']], batch_size: int
) -> Iterator[tuple[list[int], Batch]]:
    """Rows of like length together, and their numbers; behind them copies, up to a power of two.

    So few shapes are compiled: of lengths the multiples of 64, of rows the powers of two.
    """
    by_width: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        by_width.setdefault(padded_length(len(row), model.context), []).append(i)
    for _, numbers in sorted(by_width.items()):
        for first in range(0, len(numbers), batch_size):
            chosen = numbers[first : first + batch_size]
            copies = min(batch_size, 1 << (len(chosen) - 1).bit_length()) - len(chosen)
            yield chosen, _read(model, [rows[i] for i in chosen + chosen[:1] * copies])


def _read(model: LanguageModel, rows: Sequence[np.ndarray]) -> Batch:
    """Texts as a batch; a model that knows prefixes sees them both ways."""
    batch = Batch(*padded_rows(model, rows))
    sees_both_ways = model.functional.family == 'decoder' and model.config.objective.name in (
        'prefix_lm',
        'ul2',
    )
    return batch._replace(prefix=batch.segment_ids > 0) if sees_both_ways else batch


@partial(jax.jit, static_argnames='forward')
def _means(params: Params, batch: Batch, *, forward: Forward) -> Float[jax.Array, 'B D']:
    """Means over the tokens of each row, fp32."""
    x_BTD = forward.functional.encoded(params, batch).astype(jnp.float32)
    real_BT1 = (batch.segment_ids > 0)[:, :, None]
    return jnp.sum(jnp.where(real_BT1, x_BTD, 0), axis=1) / jnp.sum(real_BT1, axis=1)
