"""A prompt answered token by token: text while it comes, and how likely each token was."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from lm.batch import Batch
from lm.config import require
from lm.generation.answers import decoded_from
from lm.generation.asked import ask
from lm.generation.begin import BLANK, begin
from lm.generation.decode import decode, padded_length
from lm.generation.fill import chosen_tokens, with_tokens
from lm.generation.growing import REPLACEMENT
from lm.generation.language_model import Forward, LanguageModel
from lm.generation.sample import keys_of, require_able
from lm.generation.sampling import Sampling
from lm.inspection.text import Read, one_row, spelled
from lm.shapes import Params

MOST_NEW_TOKENS = 4096
ALTERNATIVES = 5
"""The likeliest tokens that are told beside the one that came."""


@dataclass(frozen=True)
class Settings:
    """What the page sets.

    Attributes:
      max_new_tokens: tokens added at most; of no meaning for an encoder.
      temperature, top_p: as of `Sampling`.
      top_k: as of `Sampling`, but 0 is all tokens.
      seed: decides the draws, as of `lm.generate`.

    Raises:
      UserError: a value out of its range.
    """

    max_new_tokens: int = 100
    temperature: float = 0.8
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        require(
            1 <= self.max_new_tokens <= MOST_NEW_TOKENS,
            f'max_new_tokens={self.max_new_tokens}: must be from 1 to {MOST_NEW_TOKENS}',
        )
        require(self.top_k >= 0, f'top_k={self.top_k}: must be at least 1, or 0 for all tokens')
        require(0 <= self.seed < 2**31, f'seed={self.seed}: must be in [0, 2**31)')
        _ = self.sampling  # refuses the others

    @property
    def sampling(self) -> Sampling:
        """How a token is chosen."""
        return Sampling(self.temperature, self.top_k or None, self.top_p)


class Token(NamedTuple):
    """A token that came, and what might have.

    Attributes:
      piece: of the token.
      probability: that the model gave it, before temperature and restrictions.
      others: the likeliest, the one that came among them if it is, with their probabilities; none
        of a token beyond the context.
    """

    piece: str
    probability: float
    others: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Answer:
    """What a model said to a prompt.

    Attributes:
      text: the prompt and what was added, or with its blanks filled.
      read: what the model has read to say it: all but the last token that it added.
      tokens: those that it added, an end too; of an encoder those in the blanks.
    """

    text: str
    read: Read
    tokens: tuple[Token, ...]


OnText = Callable[[str], None]
"""Hears of all of the text so far."""


def answer(
    model: LanguageModel,
    prompt: str,
    settings: Settings,
    *,
    on_text: OnText = lambda text: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Answer:
    """Continues a prompt, or fills its blanks; the text is that of `lm.generate`.

    Args:
      model: of any family; `<mask>` in the prompt of one that is no decoder is a blank.
      prompt, settings: what is asked.
      on_text: hears of the text after each token.
      stopped: asked after each token; when it says so, no other comes.

    Raises:
      UserError: as `lm.generate`.
    """
    family = model.functional.family
    fill = family == 'encoder' or (family == 'encoder_decoder' and BLANK in prompt)
    require_able(model, [prompt], fill)
    if family == 'encoder':
        return _filled(model, prompt, settings)
    asked = ask(model, prompt, fill=fill)
    begun, halted = asked.begun, None

    def watch(tokens_BN: Int[np.ndarray, '1 n']) -> Bool[np.ndarray, '1']:
        nonlocal halted
        row = _until_end(tokens_BN[0], asked.ends)
        on_text(asked.before + asked.said(row).rstrip(REPLACEMENT))
        if stopped():
            halted = row
        return np.array([halted is not None])

    out = decode(
        model.functional,
        model.params,
        **decoded_from(model, [asked], settings.max_new_tokens),
        sampling=settings.sampling,
        keys_B=keys_of(settings.seed, 1, 1)[0],
        watch=watch,
    )
    row = _until_end(out.tokens_BN[0], asked.ends) if halted is None else halted
    text = asked.before + asked.said(row)
    on_text(text)
    given = np.concatenate([begun.given, row[:-1]]).astype(np.int32)
    seen = given[: model.context]
    read = Read(begun, seen, one_row(model, begun, seen))
    places = np.arange(len(begun.given) - 1, len(seen))
    log_probs = out.log_probs_BN[0, : len(row)]
    return Answer(text, read, _tokens(model, read, places, row, np.exp(log_probs)))


def _filled(model: LanguageModel, prompt: str, settings: Settings) -> Answer:
    """A text with a token in each blank, by an encoder."""
    begun = begin(model, prompt, fill=True)
    row, keys_N = begun.given, keys_of(settings.seed, 1, 1)[0]
    [chosen] = chosen_tokens(model, row, settings.sampling, keys_N)
    read = Read(begun, row, one_row(model, begun, row))
    places = np.flatnonzero(row == model.tokenizer.vocabulary.mask_id)
    text = with_tokens(model, prompt.split(BLANK), row, chosen)
    return Answer(text, read, _tokens(model, read, places, chosen, None))


def _until_end(row: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """The ids up to the first that ends a text."""
    ended = np.flatnonzero(np.isin(row, ends))
    return row[: ended[0] + 1] if len(ended) else row


def _tokens(
    model: LanguageModel,
    read: Read,
    places: Int[np.ndarray, ' a'],
    came: Int[np.ndarray, ' n'],
    probabilities: Float[np.ndarray, ' n'] | None,
) -> tuple[Token, ...]:
    """The tokens that came, with the likeliest at those `places` of the row that there are."""
    # As long as is compiled, like the rows themselves.
    count = len(places)
    asked_A, came_A = np.zeros((2, padded_length(count)), np.int32)
    asked_A[:count], came_A[:count] = places, came[:count]
    forward = Forward(model.functional)
    found = _likeliest(model.params, read.batch, asked_A[None], came_A, forward=forward)
    of_came_A, top_AC, ids_AC = (np.asarray(x)[:count] for x in found)
    tokens = []
    if probabilities is None:
        probabilities = of_came_A
    for i, (piece, probability) in enumerate(zip(spelled(model, came), probabilities, strict=True)):
        others: tuple[tuple[str, float], ...] = ()
        if i < count:
            pieces = spelled(model, ids_AC[i])
            others = tuple(zip(pieces, map(float, top_AC[i]), strict=True))
        tokens.append(Token(piece, float(probability), others))
    return tuple(tokens)


@partial(jax.jit, static_argnames='forward')
def _likeliest(
    params: Params, batch: Batch, asked_BA: jax.Array, came_A: jax.Array, *, forward: Forward
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """At each place asked for the probability of what came, the largest ones, and their ids."""
    logits_BAV = forward.functional.apply(params, batch, asked_BA=asked_BA)
    all_AV = jax.nn.softmax(logits_BAV[0])
    return all_AV[jnp.arange(len(came_A)), came_A], *jax.lax.top_k(all_AV, ALTERNATIVES)
