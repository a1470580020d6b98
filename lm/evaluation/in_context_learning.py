"""How much a causal model learns from its context: two measures of Olsson et al. 2022.

*In-context learning and induction heads* (arXiv:2209.11895): the in-context learning score, how
much lower the loss is late in a context than early, and copying of what was seen before, on
sequences of random tokens that come twice.
"""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from lm.batch import Batch
from lm.config import require
from lm.errors import UserError
from lm.generation.language_model import Forward, LanguageModel, one_segment
from lm.objectives._cross_entropy import cross_entropy
from lm.shapes import Params

EARLY, LATE = 50, 500
"""Tokens of the context, counted from 1 behind bos, whose losses the score compares."""


def nats_by_position(
    model: LanguageModel,
    inputs_NT: Int[np.ndarray, 'N T'],
    targets_NT: Int[np.ndarray, 'N T'],
    batch_size: int = 16,
) -> tuple[Float[np.ndarray, 'N T'], Bool[np.ndarray, 'N T']]:
    """-log p of each target, nats in float64, and whether it is the likeliest token.

    Args:
      model: a causal decoder.
      inputs_NT: rows that are one text each, bos first.
      targets_NT: what comes behind each input.
      batch_size: rows at once.

    Raises:
      UserError: a model of another form, or rows longer than its context.
    """
    name, objective = model.config.model.name, model.config.objective.name
    if model.functional.family != 'decoder' or objective != 'clm':
        raise UserError(
            f'model.name={name}: was trained by objective.name={objective}; losses by position are '
            'those of a decoder trained by clm'
        )
    rows, length = inputs_NT.shape
    require(
        length <= model.context,
        f'{length} tokens do not fit in model.max_positions={model.context}; give shorter rows',
    )
    short = -rows % batch_size
    padded_NT, asked_NT = (np.pad(x, ((0, short), (0, 0)), 'edge') for x in (inputs_NT, targets_NT))
    found = [
        _nats(model.params, inputs_BT, targets_BT, forward=model.forward)
        for inputs_BT, targets_BT in zip(
            np.split(padded_NT, len(padded_NT) // batch_size),
            np.split(asked_NT, len(asked_NT) // batch_size),
            strict=True,
        )
    ]
    nats_NT = np.concatenate([np.asarray(nats_BT, np.float64) for nats_BT, _ in found])
    likeliest_NT = np.concatenate([np.asarray(likeliest_BT) for _, likeliest_BT in found])
    return nats_NT[:rows], likeliest_NT[:rows]


@partial(jax.jit, static_argnames='forward')
def _nats(
    params: Params, inputs_BT: jax.Array, targets_BT: jax.Array, *, forward: Forward
) -> tuple[jax.Array, jax.Array]:
    logits_BTV = forward(params, Batch(*one_segment(inputs_BT)))
    return cross_entropy(logits_BTV, targets_BT), jnp.argmax(logits_BTV, axis=-1) == targets_BT


def in_context_score(
    nats_NT: Float[np.ndarray, 'N T'], early: int = EARLY, late: int = LATE
) -> dict[str, float]:
    """Loss at the `late` token less loss at the `early` one; the lower, the more was learnt.

    Args:
      nats_NT: of N texts, of each T tokens behind bos, as `nats_by_position` gives them.
      early, late: tokens, counted from 1.

    Returns:
      `score`, in nats, its `standard_error` over texts, `early_loss` and `late_loss`.

    Raises:
      UserError: fewer than 2 texts, or texts that are too short.
    """
    texts, length = nats_NT.shape
    require(texts >= 2, f'texts: {texts}; an in-context learning score needs at least 2')
    require(
        1 <= early < late <= length,
        f'early={early}, late={late}: must be in order and within the {length} tokens of a text',
    )
    differences_N = nats_NT[:, late - 1] - nats_NT[:, early - 1]
    return {
        'score': float(differences_N.mean()),
        'standard_error': float(differences_N.std(ddof=1) / math.sqrt(texts)),
        'early_loss': float(nats_NT[:, early - 1].mean()),
        'late_loss': float(nats_NT[:, late - 1].mean()),
    }


def repeated_copying(
    model: LanguageModel, length: int, rows: int = 64, seed: int = 0, batch_size: int = 16
) -> dict[str, Any]:
    """How well a model copies: random tokens that come twice, and what it says the second time.

    The first time nothing foretells a token, so its loss is at least log V; the second time all is
    known from the context, but for the first token, by which the copy is found: it counts on
    neither side.

    Args:
      model: a causal decoder.
      length: tokens before they come again; bos and twice as many are read, but for the last.
      rows: sequences.
      seed: of the tokens, drawn uniformly from all that a text may hold.
      batch_size: rows at once.

    Returns:
      `length`, `rows`; `first_loss` and `second_loss`, nats a token; `copying`, the first less the
      second, with its `standard_error` over rows; `accuracy`, the share of the second copy's tokens
      that are the likeliest.

    Raises:
      UserError: as of `nats_by_position`; lengths or rows of less than 2.
    """
    require(length >= 2 and rows >= 2, f'length={length}, rows={rows}: must be at least 2')
    vocabulary = model.tokenizer.vocabulary
    special = vocabulary.special_ids | {vocabulary.unk_id}
    ordinary = np.array([i for i in range(vocabulary.size) if i not in special], np.int32)
    once_NL = np.random.default_rng(seed).choice(ordinary, (rows, length))
    twice_NT = np.concatenate([once_NL, once_NL], axis=1)
    bos_N1 = np.full((rows, 1), vocabulary.bos_id, np.int32)
    inputs_NT = np.concatenate([bos_N1, twice_NT[:, :-1]], axis=1)
    nats_NT, likeliest_NT = nats_by_position(model, inputs_NT, twice_NT, batch_size)
    first_N = nats_NT[:, 1:length].mean(axis=1)
    second_N = nats_NT[:, length + 1 :].mean(axis=1)
    gained_N = first_N - second_N
    return {
        'length': length,
        'rows': rows,
        'first_loss': float(first_N.mean()),
        'second_loss': float(second_N.mean()),
        'copying': float(gained_N.mean()),
        'standard_error': float(gained_N.std(ddof=1) / math.sqrt(rows)),
        'accuracy': float(likeliest_NT[:, length + 1 :].mean()),
    }
