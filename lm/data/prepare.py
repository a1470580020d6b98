"""From `data` settings to tokenised text on disk, made once and checked whenever it is opened."""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lm.config import DataConfig
from lm.data.cache import cache_root, make_once
from lm.data.encoded_examples import encoded_examples
from lm.data.sentencepiece_training import DEFAULT_VOCAB_SIZE, KINDS
from lm.data.sources import PARTS, Document, Part, Reading, Source, open_source
from lm.data.split import Split, split_source
from lm.data.store import Store
from lm.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from lm.errors import UserError, did_you_mean
from lm.examples import ExampleCodec
from lm.fields import require
from lm.storage import require_disk

FORMAT = 1
"""Counts up when the same settings would give other files; older ones are then made anew."""
EXAMPLES_FORMAT = 3
"""The same of labelled text alone."""

_BATCH_CHARS = 1 << 21


@dataclass(frozen=True)
class Prepared:
    """Text ready to train on.

    Attributes:
      tokenizer: trained on the training part, or the one given.
      train, validation: the two sides of the text.
      fingerprint: of content, settings and tokenizer, hexadecimal: equal ones hold equal tokens.
      accounting: what was read, dropped and kept; plain numbers and texts for `summary.json`.
    """

    tokenizer: Tokenizer
    train: Store
    validation: Store
    fingerprint: str
    accounting: dict[str, Any]


class Text:
    """The text of one source, opened; it is read where it is asked for."""

    def __init__(self, data: DataConfig, codec: ExampleCodec | None = None):
        """
        Args:
          data: with one source.
          codec: of labelled text, whose documents are records; None: of plain text.

        Raises:
          UserError: there is no such text.
        """
        self.data = data
        self.codec = codec
        self.source: Source = open_source(data, examples=codec is not None)

    @cached_property
    def split(self) -> Split:
        """Its two sides. Raises UserError where there is not enough text for them."""
        split = split_source(self.source, self.data.validation_fraction)
        require(
            self.codec is None or split.rule != 'position',
            f'data.source={self.data.source}: holds one record, of which none is left to hold out; '
            'give more, or set data.validation_source',
        )
        return split

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that decides what text there is on each side."""
        return {
            'format': FORMAT,
            'source': self.source.fingerprint(),
            'english_of_code': self.data.source == 'stdlib',
            'documents': self.data.documents,
            'text_field': self.data.text_field,
            'validation_fraction': self.data.validation_fraction,
            # What texts are read as by default has no say in the keys of those prepared before.
            **({} if self.data.encoding == 'utf-8' else {'encoding': self.data.encoding}),
            **({} if self.codec is None else {'examples': self._examples}),
        }

    @property
    def _examples(self) -> dict[str, Any]:
        assert self.codec is not None
        return {'format': EXAMPLES_FORMAT, **self.codec.settings}


def prepare(
    data: DataConfig,
    vocab_size: int | None,
    codec: ExampleCodec | None = None,
    *,
    make: bool = True,
) -> Prepared:
    """The prepared text for these settings, of one source: from the cache, or made now.

    Args:
      data: which text, and how it becomes documents and tokens.
      vocab_size: ids of a tokenizer that is trained here; at least those of one that is given,
        whose missing special ids come after them as far as there is room. None: as many as the
        tokenizer takes.
      codec: of labelled text; None: of plain text.
      make: False where another process of the run has made it already.

    Raises:
      UserError: text that cannot be read, a vocabulary that does not fit it, a full disk, or a
        mixture: `lm.data.mixture.prepare_mixture` takes those.
    """
    require(data.sources is None, f'{data.words}: a mixture, where one text is read')
    return prepare_text(Text(data, codec), given_tokenizer(data, vocab_size), vocab_size, make=make)


def prepare_text(
    text: Text, given: Tokenizer | None, vocab_size: int | None, *, make: bool = True
) -> Prepared:
    """`prepare` of an opened text, with the tokenizer that is given, if one is."""
    settings = {**text.settings, 'tokenizer': tokenizer_settings(text.data, given, vocab_size)}
    folder = cache_root(text.data) / 'prepared' / digest(settings)[:32]

    def build(building: Path) -> None:
        _build(building, text, given, vocab_size)

    make_once(text.data, folder, build, f'the text of {text.data.source}', make=make)
    return _open(text.data, folder, settings, vocab_size)


def given_tokenizer(data: DataConfig, vocab_size: int | None) -> Tokenizer | None:
    """The tokenizer of `data.tokenizer` where that is a file or a folder."""
    if data.tokenizer in KINDS:
        return None
    require_disk('data.tokenizer', data.tokenizer)
    path = Path(data.tokenizer).expanduser()
    if not path.exists():
        hint = did_you_mean(data.tokenizer, KINDS)
        raise UserError(f'data.tokenizer={data.tokenizer}: no such kind, file or folder{hint}')
    return load_tokenizer(path, vocab_size)


def tokenizer_settings(data: DataConfig, given: Tokenizer | None, vocab_size: int | None) -> Any:
    """What decides the ids that a text becomes: a tokenizer's hash, or how one is trained."""
    if given is not None:
        return given.sha256
    return {'kind': data.tokenizer, 'vocab_size': vocab_size or f'<= {DEFAULT_VOCAB_SIZE}'}


def _build(folder: Path, text: Text, given: Tokenizer | None, vocab_size: int | None) -> None:
    """Splits, trains the tokenizer, tokenises, and writes all of it into `folder`."""
    from lm.data import prepared_text

    split = text.split
    tokenizer = given or trained_tokenizer(text.data.tokenizer, [split], vocab_size, text.codec)
    sides = {part: _Side(split, part, tokenizer, text.codec) for part in PARTS}
    prepared_text.write(folder, {part: side.documents for part, side in sides.items()})
    for part, side in sides.items():
        np.save(folder / f'{part}.lengths.npy', np.asarray(side.lengths, np.int64))
        if text.codec is not None:
            lengths_NF = np.asarray(side.fields, np.int64).reshape(-1, len(text.codec.fields))
            np.save(folder / f'{part}.fields.npy', lengths_NF)
            np.save(folder / f'{part}.record_of.npy', np.asarray(side.record_of, np.int64))
    write_tokenizer(folder, tokenizer)
    accounting = _accounting(text, sides, tokenizer)
    (folder / 'accounting.json').write_text(json.dumps(accounting, indent=1))
    for part, side in sides.items():
        _check_written(_store(folder, part, accounting), side)


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Writes a tokenizer's files into `folder`."""
    for name, content in tokenizer.files.items():
        (folder / name).write_bytes(content)


def trained_tokenizer(
    kind: str,
    splits: Sequence[Split],
    vocab_size: int | None,
    codec: ExampleCodec | None = None,
) -> Tokenizer:
    """A tokenizer of the training parts, the same whether its size was asked for or found."""

    def texts() -> Iterator[str]:
        return (text for split in splits for text in training_texts(split, codec))

    if vocab_size is None:
        # A resumed run asks for the size that was found: it must get this very tokenizer.
        vocab_size = train_tokenizer(kind, texts(), None).vocabulary.size
    return train_tokenizer(kind, texts(), vocab_size)


def training_texts(split: Split, codec: ExampleCodec | None) -> Iterator[str]:
    """The texts of the training part; of labelled text what a record has for the tokenizer."""
    for document in split.documents('train', Reading()):
        if codec is None:
            yield document.text
        else:
            yield from codec.texts(json.loads(document.text), document.name)


class _Side:
    """One side of the split while it is tokenised, and what came of it."""

    def __init__(
        self, split: Split, part: Part, tokenizer: Tokenizer, codec: ExampleCodec | None = None
    ):
        self.reading = Reading()
        self.lengths = array('q')
        self.documents_seen = self.tokens = self.unknown_tokens = 0
        self.fields = array('q')
        self.record_of = array('q')
        self.labels: Counter[str] = Counter()
        self.text_bytes = 0
        self._codec = codec
        self._split = split
        self._part = part
        self._tokenizer = tokenizer

    def documents(self) -> Iterator[Any]:
        """Every document as ids; several at a time are tokenised on all cores."""
        from lm.data.prepared_text import TokenDocument

        for batch in _batched(self._split.documents(self._part, self.reading)):
            if self._codec is None:
                texts = [document.text for document in batch]
                encoded = [[tokens] for tokens in self._tokenizer.encode_batch(texts)]
                self.tokens += sum(len(tokens) for [tokens] in encoded)
                unk_id = self._tokenizer.vocabulary.unk_id
                self.unknown_tokens += sum(int((ids == unk_id).sum()) for [ids] in encoded)
            else:
                encoded = self._examples(batch, self._codec)
            for document, stored in zip(batch, encoded, strict=True):
                self.text_bytes += len(document.text.encode())
                self.documents_seen += 1
                for tokens in stored:
                    self.lengths.append(len(tokens))
                    yield TokenDocument(document.name, tokens)

    def _examples(self, batch: list[Document], codec: ExampleCodec) -> list[list[np.ndarray]]:
        """The examples of each of some records, their fields one after another."""
        stored = []
        encoded = encoded_examples(batch, codec, self._tokenizer)
        for number, (document, record) in enumerate(
            zip(batch, encoded, strict=True), self.documents_seen
        ):
            self.tokens += record.tokens
            self.record_of.extend([number] * len(record.examples))
            for fields in record.examples:
                self.fields.extend(len(field) for field in fields)
            self.labels.update(codec.labels(json.loads(document.text)))
            stored.append([np.concatenate(fields).astype(np.int32) for fields in record.examples])
        return stored


def _batched(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _accounting(text: Text, sides: dict[Part, _Side], tokenizer: Tokenizer) -> dict[str, Any]:
    split = text.split
    train, validation = (sides[part].reading for part in PARTS)
    readings = [train, validation] if split.rule == 'source' else [train]
    return {
        **text.source.facts,
        'source_sha256': text.settings['source'],
        'read': {
            'documents': sum(r.documents for r in readings),
            'bytes': sum(r.text_bytes for r in readings),
            'separator_bytes': sum(r.separator_bytes for r in readings),
        },
        'dropped': dict(train.dropped | validation.dropped),
        'split': split.rule,
        **{
            part: {
                'documents': side.documents_seen,
                'tokens': side.tokens,
                'bytes': side.text_bytes,
                'lines_left_to_the_other_side': split.removed[part].lines,
                'bytes_left_to_the_other_side': split.removed[part].bytes,
                **(_of_text(side) if text.codec is None else _of_examples(side)),
            }
            for part, side in sides.items()
        },
        'tokenizer': {
            'kind': _kind(text.data),
            'ids': tokenizer.vocabulary.size,
            'sha256': tokenizer.sha256,
            'lossless': tokenizer.lossless,
        },
    }


def _of_text(side: _Side) -> dict[str, Any]:
    # What these stand for costs hardly a bit, and bits per byte flatter by it.
    return {'unknown_tokens': side.unknown_tokens}


def _of_examples(side: _Side) -> dict[str, Any]:
    return {'examples': len(side.lengths), 'labels': dict(sorted(side.labels.items()))}


def _check_written(store: Store, side: _Side) -> None:
    """Raises OSError unless what the writer was given can be read: it may lose a full disk's."""
    if (
        side.lengths
        and len(store.read(store.documents - 1, 0, side.lengths[-1])) == side.lengths[-1]
    ):
        return
    raise OSError('the prepared text could not be read back')


def _store(folder: Path, part: Part, accounting: dict[str, Any]) -> Store:
    from lm.data import prepared_text

    lengths = np.load(folder / f'{part}.lengths.npy', allow_pickle=False)

    def of_examples(what: str) -> np.ndarray | None:
        file = folder / f'{part}.{what}.npy'
        return np.load(file, allow_pickle=False) if file.exists() else None

    return Store(
        prepared_text.open_split(folder, part),
        lengths,
        text_bytes=accounting[part]['bytes'],
        record_tokens=prepared_text.RECORD_TOKENS,
        fields=of_examples('fields'),
        record_of=of_examples('record_of'),
    )


def _kind(data: DataConfig) -> str:
    return data.tokenizer if data.tokenizer in KINDS else 'given'


def _open(
    data: DataConfig, folder: Path, settings: dict[str, Any], vocab_size: int | None
) -> Prepared:
    accounting = json.loads((folder / 'accounting.json').read_text())
    tokenizer = load_tokenizer(folder, vocab_size)
    # The same tokens serve models with more and with fewer special ids, and runs that were given
    # this tokenizer as well as mixtures that it was trained for.
    accounting['tokenizer'] |= {'ids': tokenizer.vocabulary.size, 'kind': _kind(data)}
    return Prepared(
        tokenizer=tokenizer,
        train=_store(folder, 'train', accounting),
        validation=_store(folder, 'validation', accounting),
        fingerprint=digest({**settings, 'tokenizer': tokenizer.sha256}),
        accounting=accounting,
    )


def digest(settings: Any) -> str:
    """SHA-256 of settings, hexadecimal."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
