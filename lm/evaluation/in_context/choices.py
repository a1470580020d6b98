"""What a model gives a text behind a context: log-likelihoods, in the form it was trained in.

The form is that of `lm.generate` (`lm.generation.begin`): a causal decoder reads bos and the
context; one of `prefix_lm` sees these both ways; one of `ul2` reads them in mode S, and says the
text behind its sentinel. Of an encoder-decoder the encoder reads the context, with a sentinel (T5,
UL2) or a mask (BART) where the text goes, and the decoder says the text: behind the sentinel,
behind the context (BART), or at once (`prefix_lm`). One of `text_to_text` is given the context as
its input and says the text, without blanks before it, and eos.

Of all others the text's tokens are those of context and text encoded together, from as many on as
the context has by itself; white space at the context's end counts as the text's. So does lm-eval
(TemplateLM).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from lm.batch import Batch
from lm.errors import UserError
from lm.evaluation.heldout import require_finite
from lm.generation.begin import Begun, begin
from lm.generation.language_model import Forward, LanguageModel
from lm.objectives._cross_entropy import cross_entropy
from lm.objectives._rows import lay
from lm.shapes import Params

# What a length is made to be, or twice that, four times ..., so that few programs are compiled.
_SHORTEST_ROW, _SHORTEST_TEXT = 64, 16


class Continuation(NamedTuple):
    """A text behind a context.

    Attributes:
      begun: what has been read when the text's first token is asked for.
      ids: int32, its tokens, at least one.
    """

    begun: Begun
    ids: Int[np.ndarray, ' n']

    @property
    def length(self) -> int:
        """Places of the row on its longer side; the last token is asked for and not read."""
        source = self.begun.source
        said = len(self.begun.given) + len(self.ids) - 1
        return said if source is None else max(said, len(source))


class Likelihoods(NamedTuple):
    """Of N continuations.

    Attributes:
      log_p_N: log p(text | context), nats, summed over the tokens; float64.
      greedy_N: whether each token is the likeliest one at its place.
    """

    log_p_N: Float[np.ndarray, ' N']
    greedy_N: Bool[np.ndarray, ' N']


def require_likelihoods(model: LanguageModel, words: str) -> None:
    """Raises UserError where a model says no text from left to right."""
    if model.functional.family == 'encoder':
        raise UserError(
            f'{words}: {model.config.model.name} is an encoder, which gives no text a likelihood '
            'behind a context; give a decoder or an encoder-decoder'
        )


def continuations(model: LanguageModel, context: str, texts: Sequence[str]) -> list[Continuation]:
    """Texts behind one context, as the model reads them.

    Raises:
      UserError: a text has no token of its own behind the context.
    """
    shown = context.rstrip()
    begun, before = begin(model, shown, fill=False), len(model.tokenizer.encode(shown))
    alone = model.config.objective.name == 'text_to_text'
    found = []
    for text in texts:
        if alone:
            said = model.tokenizer.encode(text.lstrip())
            ids = np.append(said, model.tokenizer.vocabulary.eos_id)
        else:
            ids = model.tokenizer.encode(context + text)[before:]
        if not len(ids):
            raise UserError(
                f'{text[:40]!r}: has no token of its own behind {context[-40:]!r}; put a space or '
                'a line end between them'
            )
        found.append(Continuation(begun, ids.astype(np.int32)))
    return found


def log_likelihoods(
    model: LanguageModel, asked: Sequence[Continuation], batch_size: int
) -> Likelihoods:
    """What the model gives each text behind its context.

    Rows of about one length are read together.

    Args:
      model: a decoder or an encoder-decoder.
      asked: N texts.
      batch_size: rows at once.

    Raises:
      UserError: an encoder, a row longer than the context, or a likelihood that is not finite.
    """
    require_likelihoods(model, f'model.name={model.config.model.name}')
    longest = max((one.length for one in asked), default=0)
    if longest > model.context:
        raise UserError(
            f'{longest} tokens with their context do not fit in model.max_positions='
            f'{model.context}; shorten the context'
        )
    log_p_N, greedy_N = np.zeros(len(asked)), np.zeros(len(asked), bool)
    for numbers, batch, places_BA in _batches(model, asked, batch_size):
        out = _said(model.params, batch, jnp.asarray(places_BA), forward=model.forward)
        nats_BA, likeliest_BA = (np.asarray(x)[: len(numbers)] for x in out)
        counts_BA = np.asarray(batch.loss_weights)[: len(numbers)] > 0
        log_p_N[numbers] = -np.where(counts_BA, nats_BA.astype(np.float64), 0).sum(axis=1)
        greedy_N[numbers] = (likeliest_BA | ~counts_BA).all(axis=1)
    require_finite(log_p_N)
    return Likelihoods(log_p_N, greedy_N)


@partial(jax.jit, static_argnames='forward')
def _said(
    params: Params, batch: Batch, places_BA: jax.Array, *, forward: Forward
) -> tuple[jax.Array, jax.Array]:
    """Nats of each target, and whether it is the likeliest token."""
    logits_BAV = forward.functional.apply(params, batch, asked_BA=places_BA)
    targets_BA = jnp.asarray(batch.targets)
    return cross_entropy(logits_BAV, targets_BA), jnp.argmax(logits_BAV, axis=-1) == targets_BA


def _batches(
    model: LanguageModel, asked: Sequence[Continuation], batch_size: int
) -> Iterator[tuple[list[int], Batch, Int[np.ndarray, 'B A']]]:
    """Which texts, and their rows with the places of their targets; filled with copies."""
    by_widths: dict[tuple[int, int], list[int]] = {}
    for number, one in enumerate(asked):
        by_widths.setdefault(_widths(model, one), []).append(number)
    for (width, source_width), alike in sorted(by_widths.items()):
        most = _doubled(_SHORTEST_TEXT, max(len(asked[i].ids) for i in alike))
        for first in range(0, len(alike), batch_size):
            numbers = alike[first : first + batch_size]
            filled = numbers + numbers[:1] * (batch_size - len(numbers))
            yield numbers, *_rows([asked[i] for i in filled], width, source_width, most)


def _widths(model: LanguageModel, one: Continuation) -> tuple[int, int]:
    """Places of its row, and of the encoder's (0: there is none), as they are compiled."""
    source, said = one.begun.source, len(one.begun.given) + len(one.ids) - 1
    width = min(_doubled(_SHORTEST_ROW, said), model.context)
    if source is None:
        return width, 0
    return width, min(_doubled(_SHORTEST_ROW, len(source)), model.context)


def _doubled(least: int, length: int) -> int:
    """The first of least, twice that, four times ... that is no less than a length."""
    while least < length:
        least *= 2
    return least


def _rows(
    asked: Sequence[Continuation], width: int, source_width: int, most: int
) -> tuple[Batch, Int[np.ndarray, 'B A']]:
    """One batch, and its asked places; `targets` and `loss_weights` are these places', [B, A]."""
    targets, places = np.zeros((2, len(asked), most), np.int32)
    weights = np.zeros((len(asked), most), np.float32)
    prefix = np.zeros((len(asked), width), bool)
    for i, (begun, ids) in enumerate(asked):
        targets[i, : len(ids)], weights[i, : len(ids)] = ids, 1
        places[i, : len(ids)] = len(begun.given) - 1 + np.arange(len(ids))
        prefix[i, : begun.prefix or 0] = True
    said: dict[str, np.ndarray] = {'targets': targets, 'loss_weights': weights}
    own = _laid([np.concatenate([begun.given, ids])[:-1] for begun, ids in asked], width)
    sources = [one.begun.source for one in asked if one.begun.source is not None]
    if sources:
        return Batch(*_laid(sources, source_width), *own, **said), places
    if asked[0].begun.prefix is not None:
        said['prefix'] = prefix
    return Batch(*own, **said), places


def _laid(rows: Sequence[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """Tokens, segment ids and positions of texts, int32 [B, width]."""
    laid = (lay([row], width, fill=0) for row in rows)
    return (np.stack(column) for column in zip(*laid, strict=True))
