"""All the text of a run: one source, or several and how much of each.

The sources of a mixture are prepared one by one, each into a store of its own, with one tokenizer
that was trained on all their training parts, source after source. Weights decide nothing of it.
Texts that are only scored (`eval.sources`) come after, with that tokenizer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from lm.config import DataConfig
from lm.data.cache import cache_root, make_once
from lm.data.prepare import (
    Prepared,
    Text,
    digest,
    given_tokenizer,
    prepare,
    prepare_text,
    tokenizer_settings,
    trained_tokenizer,
    write_tokenizer,
)
from lm.data.tokenizer import Tokenizer, load_tokenizer
from lm.data.turns import MOST_ROWS
from lm.errors import UserError, naming
from lm.examples import ExampleCodec
from lm.fields import require


@dataclass(frozen=True)
class Mixture:
    """Text ready to train on.

    Attributes:
      names: of the sources, as the config gives them.
      parts: the prepared text of each.
      weights: of each, positive, of any sum: their shares of rows.
      fingerprint: of tokens and weights, hexadecimal; of a single source, the source's own.
    """

    names: tuple[str, ...]
    parts: tuple[Prepared, ...]
    weights: tuple[Fraction, ...]
    fingerprint: str

    @property
    def tokenizer(self) -> Tokenizer:
        """The one that all sources have."""
        return self.parts[0].tokenizer

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights over their sum."""
        return tuple(float(weight / sum(self.weights)) for weight in self.weights)


def prepare_mixture(
    data: DataConfig,
    vocab_size: int | None,
    codec: ExampleCodec | None = None,
    *,
    make: bool = True,
) -> Mixture:
    """The text of `data.source`, or of `data.sources`; see `prepare` for the rest.

    Raises:
      UserError: as `prepare`; or two sources hold the same text, or one too little of it.
    """
    if data.sources is None:
        prepared = prepare(data, vocab_size, codec, make=make)
        return Mixture((data.source,), (prepared,), (Fraction(1),), prepared.fingerprint)
    with naming({'data.source': 'data.sources'}):
        texts = [
            Text(replace(data, source=name, sources=None, weights=None), codec)
            for name in data.sources
        ]
        _check_distinct(texts)
        given = given_tokenizer(data, vocab_size) or _joint_tokenizer(texts, vocab_size, make)
        parts = tuple(prepare_text(text, given, vocab_size, make=make) for text in texts)
    weights = _weights(data, parts)
    _check_amounts(data.sources, parts, weights, given_weights=data.weights is not None)
    settings = [[part.fingerprint for part in parts], [str(weight) for weight in weights]]
    return Mixture(data.sources, parts, weights, digest(settings))


def prepare_watched(
    data: DataConfig,
    names: Sequence[str],
    mixture: Mixture,
    vocab_size: int | None,
    codec: ExampleCodec | None = None,
    *,
    make: bool = True,
) -> dict[str, Prepared]:
    """The texts of `eval.sources`, by name: scored beside the mixture, and not trained on.

    They have the mixture's tokenizer, and are split by the same rule as if they were of it: a run
    that trained on one of them, with these `data` settings, has not seen its held-out part.

    Args:
      data: of the run.
      names: of the texts.
      mixture: what the run trains on, prepared with the same `data` and `vocab_size`.
      vocab_size, codec: as `prepare_mixture` had them.
      make: False where another process of the run has made them already.

    Raises:
      UserError: as `prepare`; or one is a text of the mixture or of another name, or has nothing
        held out.
    """
    taken = {p.fingerprint: name for name, p in zip(mixture.names, mixture.parts, strict=True)}
    watched: dict[str, Prepared] = {}
    for name in names:
        with naming({'data.source': 'eval.sources'}):
            alone = replace(data, source=name, sources=None, weights=None, validation_source='')
            text = Text(alone, codec)
            prepared = prepare_text(text, mixture.tokenizer, vocab_size, make=make)
        same = taken.setdefault(prepared.fingerprint, name)
        require(
            same == name,
            f'eval.sources: {name} holds the same text as {same}, which is scored already; leave '
            'it out',
        )
        require(
            prepared.validation.tokens > 0,
            f'eval.sources={name}: its validation part has no tokens; leave it out, or give a '
            'larger data.validation_fraction',
        )
        watched[name] = prepared
    return watched


def _joint_tokenizer(texts: Sequence[Text], vocab_size: int | None, make: bool) -> Tokenizer:
    """Trained on the training parts of all texts in turn: from the cache, or made now."""
    data = texts[0].data
    trained = tokenizer_settings(data, None, vocab_size)
    key = digest({'texts': [text.settings for text in texts], 'tokenizer': trained})
    folder = cache_root(data) / 'tokenizers' / key[:32]

    def build(building: Path) -> None:
        splits = [text.split for text in texts]
        tokenizer = trained_tokenizer(data.tokenizer, splits, vocab_size, texts[0].codec)
        write_tokenizer(building, tokenizer)

    make_once(data, folder, build, f'a tokenizer of {len(texts)} sources', make=make)
    return load_tokenizer(folder, vocab_size)


def _weights(data: DataConfig, parts: Sequence[Prepared]) -> tuple[Fraction, ...]:
    """As they were typed, not as they are rounded to bits; unset: tokens, or examples, of each."""
    if data.weights is None:
        stores = [part.train for part in parts]
        return tuple(Fraction(s.tokens if s.fields is None else s.documents) for s in stores)
    return tuple(Fraction(str(weight)) for weight in data.weights)


def _check_distinct(texts: Sequence[Text]) -> None:
    for i, text in enumerate(texts):
        for other in texts[:i]:
            if text.settings == other.settings:
                raise UserError(
                    f'data.sources: {other.data.source} and {text.data.source} hold the same text; '
                    'give it once, with a larger weight'
                )


def _check_amounts(
    names: Sequence[str],
    parts: Sequence[Prepared],
    weights: Sequence[Fraction],
    given_weights: bool,
) -> None:
    for name, part in zip(names, parts, strict=True):
        for side, store in (('training', part.train), ('validation', part.validation)):
            if store.tokens == 0:
                raise UserError(f'data.sources={name}: its {side} part has no tokens; leave it out')
    for name, weight in zip(names, weights, strict=True):
        if weight * MOST_ROWS < sum(weights):
            remedy = 'a larger one' if given_weights else 'data.weights'
            raise UserError(
                f'data.{"weights" if given_weights else "sources"}: {name} would get a row in '
                f'{float(sum(weights) / weight):,.0f}; give {remedy} (at least 1 in {MOST_ROWS:,}) '
                'or leave it out'
            )
