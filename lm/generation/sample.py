"""`lm.generate`: prompts in, texts out, for each family."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lm.batch import Batch
from lm.errors import UserError
from lm.generation.decode import decode
from lm.generation.language_model import LanguageModel
from lm.generation.sampling import Sampling, choose
from lm.models.functional import Functional
from lm.shapes import LogitsBTV, Params

BLANK = '<mask>'
"""What stands for a blank in a text that is to be filled."""


def generate(
    model: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    num_samples: int = 1,
    seed: int = 0,
    fill: bool = False,
) -> list[str]:
    """Continues prompts, or fills their blanks.

    A decoder continues a prompt token by token until eos or `max_new_tokens`; past the context
    the oldest tokens are out of its sight. An encoder-decoder takes the continuation as one more
    blank at the end. With `fill`, each `<mask>` of a prompt is filled: by an encoder with one
    token each, chosen independently; by an encoder-decoder with a span each.

    Args:
      model: from `lm.load`.
      prompts: texts; an empty one starts from bos.
      max_new_tokens: tokens added at most.
      temperature, top_k, top_p: as in `Sampling`.
      num_samples: texts for each prompt, one after another.
      seed: decides the draws; sample i of prompt j does not depend on the others.
      fill: fill blanks instead of continuing.

    Returns:
      `len(prompts) * num_samples` texts, each with its prompt.

    Raises:
      UserError: a prompt longer than the context, a fill without a blank, or a family that
        cannot do what is asked.
    """
    if max_new_tokens < 1:
        raise UserError(f'max_new_tokens={max_new_tokens}: must be at least 1')
    if num_samples < 1:
        raise UserError(f'num_samples={num_samples}: must be at least 1')
    sampling = Sampling(temperature, top_k, top_p)
    keys = jax.random.split(jax.random.key(seed), (len(prompts), num_samples))
    texts: list[str] = []
    for prompt, keys_N in zip(prompts, keys, strict=True):
        if fill and BLANK not in prompt:
            raise UserError(f'prompt={prompt[:40]!r}: has no {BLANK} to fill')
        if model.functional.family == 'encoder':
            if not fill:
                raise UserError(
                    f'an encoder ({model.config.model.name}) does not continue text; '
                    f'give --fill and a prompt with {BLANK}'
                )
            texts += _fill_encoder(model, prompt, sampling, keys_N)
        elif model.functional.family == 'encoder_decoder':
            blanks = prompt if fill else prompt + BLANK
            texts += _fill_spans(model, blanks, max_new_tokens, sampling, keys_N)
        elif fill:
            raise UserError(f'a decoder ({model.config.model.name}) continues text; leave out fill')
        else:
            texts += _continue(model, prompt, max_new_tokens, sampling, keys_N)
    return texts


class _Logits:
    """A model's logits for `decode`; inputs are its parameters and the encoder's rows or None."""

    def __init__(self, functional: Functional):
        self._functional = functional

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Logits) and other._functional is self._functional

    def __hash__(self) -> int:
        return id(self._functional)

    def __call__(
        self, inputs: tuple[Params, jax.Array | None], tokens_BT: jax.Array
    ) -> LogitsBTV:
        params, source_BS = inputs
        if source_BS is None:
            return self._functional.apply(params, Batch(*_one_segment(tokens_BT)))
        batch = Batch(*_one_segment(source_BS), *_one_segment(tokens_BT))
        return self._functional.apply(params, batch)


def _one_segment(tokens_BT: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tokens, segment ids and positions of rows that are one text each."""
    places_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    return tokens_BT, jnp.ones_like(tokens_BT), places_BT


def _continue(
    model: LanguageModel, prompt: str, new: int, sampling: Sampling, keys_N: jax.Array
) -> list[str]:
    vocabulary = model.tokenizer.vocabulary
    given = np.concatenate([[vocabulary.bos_id], model.tokenizer.encode(prompt)])
    _check_fits(model, len(given))
    total = len(given) + new
    rows = np.full((len(keys_N), total), vocabulary.eos_id, np.int32)
    rows[:, : len(given)] = given
    out = decode(
        _Logits(model.functional),
        (model.params, None),
        rows,
        np.full(len(keys_N), len(given), np.int32),
        window=model.context,
        forbidden=_never(model, {vocabulary.eos_id}),
        eos_id=vocabulary.eos_id,
        sampling=sampling,
        keys_B=keys_N,
    )
    return [prompt + model.tokenizer.decode(row[len(given) :]) for row in out]


def _fill_encoder(
    model: LanguageModel, prompt: str, sampling: Sampling, keys_N: jax.Array
) -> list[str]:
    vocabulary = model.tokenizer.vocabulary
    parts = [model.tokenizer.encode(part) for part in prompt.split(BLANK)]
    tokens = [np.array([vocabulary.bos_id])]
    for part in parts:
        tokens += [part, np.array([vocabulary.mask_id])]
    row = np.concatenate([*tokens[:-1], [vocabulary.eos_id]]).astype(np.int32)
    _check_fits(model, len(row))
    logits_TV = model.logits(row[None])[0]
    blanks = np.flatnonzero(row == vocabulary.mask_id)
    logits_BV = logits_TV[blanks].at[:, np.array(_never(model, set()))].set(-jnp.inf)
    texts = []
    for key in keys_N:
        chosen = np.asarray(choose(logits_BV, jax.random.split(key, len(blanks)), sampling))
        filled = row.copy()
        filled[blanks] = chosen
        texts.append(model.tokenizer.decode(filled[1:-1]))
    return texts


def _fill_spans(
    model: LanguageModel, prompt: str, new: int, sampling: Sampling, keys_N: jax.Array
) -> list[str]:
    vocabulary = model.tokenizer.vocabulary
    parts = prompt.split(BLANK)
    sentinels = vocabulary.sentinel_ids[: len(parts) - 1]
    if len(sentinels) < len(parts) - 1:
        raise UserError(f'prompt: more than {len(vocabulary.sentinel_ids)} blanks')
    pieces: list[np.ndarray] = []
    for part, sentinel in zip(parts, [*sentinels, vocabulary.eos_id], strict=True):
        pieces += [model.tokenizer.encode(part), np.array([sentinel])]
    source = np.concatenate(pieces).astype(np.int32)
    _check_fits(model, len(source))
    # The decoder begins with the padding id, then the first blank's own sentinel.
    given = np.array([vocabulary.pad_id, sentinels[0]], np.int32)
    rows = np.full((len(keys_N), len(given) + new), vocabulary.eos_id, np.int32)
    rows[:, : len(given)] = given
    encoder_BS = np.broadcast_to(source, (len(keys_N), len(source)))
    out = decode(
        _Logits(model.functional),
        (model.params, jnp.asarray(encoder_BS)),
        rows,
        np.full(len(keys_N), len(given), np.int32),
        window=model.context,
        forbidden=_never(model, {vocabulary.eos_id, *vocabulary.sentinel_ids}),
        eos_id=vocabulary.eos_id,
        sampling=sampling,
        keys_B=keys_N,
    )
    return [_join_spans(model, parts, row[1:], sentinels) for row in out]


def _join_spans(
    model: LanguageModel, parts: list[str], answer: np.ndarray, sentinels: Sequence[int]
) -> str:
    """The prompt's parts with what the decoder said for each blank between them."""
    vocabulary = model.tokenizer.vocabulary
    ends = np.isin(answer, [vocabulary.eos_id, *vocabulary.sentinel_ids])
    text = parts[0]
    for sentinel, part in zip(sentinels, parts[1:], strict=True):
        said = np.flatnonzero(answer == sentinel)
        if len(said):
            start = said[0] + 1
            later = np.flatnonzero(ends[start:])
            stop = start + later[0] if len(later) else len(answer)
            text += model.tokenizer.decode(answer[start:stop])
        text += part
    return text


def _never(model: LanguageModel, allowed: set[int]) -> list[int]:
    """Ids that no sample may contain: special ones, and those the tokenizer does not have."""
    vocabulary = model.tokenizer.vocabulary
    beyond = range(vocabulary.size, model.config.model.padded_vocab_size)
    return sorted((vocabulary.special_ids | {vocabulary.unk_id} | set(beyond)) - allowed)


def _check_fits(model: LanguageModel, length: int) -> None:
    if length > model.context:
        raise UserError(
            f'prompt: {length} tokens with its special ones, the context is '
            f'model.max_positions={model.context}; shorten it'
        )
