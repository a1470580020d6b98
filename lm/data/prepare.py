"""From `data` settings to tokenised text on disk, made once and checked whenever it is opened."""

import hashlib
import json
import os
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lm import processes
from lm.config import DataConfig
from lm.data import manifest
from lm.data.sentencepiece_training import DEFAULT_VOCAB_SIZE, KINDS
from lm.data.sources import PARTS, Document, Part, Reading, Source, open_source
from lm.data.split import Split, split_source
from lm.data.store import Store
from lm.data.tokenizer import Tokenizer, load_tokenizer, train_tokenizer
from lm.errors import UserError, did_you_mean

FORMAT = 1
"""Counts up when the same settings would give other files; older ones are then made anew."""

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


def prepare(data: DataConfig, vocab_size: int | None, *, make: bool = True) -> Prepared:
    """The prepared text for these settings: from the cache, or made now.

    Args:
      data: which text, and how it becomes documents and tokens.
      vocab_size: ids of a tokenizer that is trained here; at least those of one that is given,
        whose missing special ids come after them as far as there is room. None: as many as the
        tokenizer takes.
      make: False where another process of the run has made it already.

    Raises:
      UserError: text that cannot be read, a vocabulary that does not fit it, a full disk.
    """
    source = open_source(data)
    given = _given_tokenizer(data, vocab_size)
    settings = _settings(data, source, given, vocab_size)
    key = _digest(settings)
    root = cache_root(data)
    folder = root / 'prepared' / key[:32]
    flaw = manifest.flaw(folder) if folder.exists() else None
    if folder.exists() and flaw is None:
        return _open(folder, settings, vocab_size)
    if not make:
        raise UserError(
            f'data.cache_dir={root}: process {processes.index()} does not find there what process '
            '0 prepared; give a folder that all processes share'
        )
    if flaw is not None:
        print(f'lm: prepared text {folder} is broken ({flaw}); making it anew', file=sys.stderr)
    else:
        print(f'lm: preparing the text of {data.source} in {folder}', file=sys.stderr)
    try:
        with manifest.built_aside(folder) as building:
            _build(building, data, source, given, vocab_size, settings)
    except OSError as error:
        raise UserError(
            f'data.cache_dir={root}: cannot be written: {error.strerror or error}; free some '
            'space, or set data.cache_dir or $LM_CACHE to another place'
        ) from None
    return _open(folder, settings, vocab_size)


def cache_root(data: DataConfig) -> Path:
    """Where prepared text is kept: `data.cache_dir`, else $LM_CACHE, else ~/.cache/lm."""
    chosen = data.cache_dir or os.environ.get('LM_CACHE') or '~/.cache/lm'
    return Path(chosen).expanduser()


def _given_tokenizer(data: DataConfig, vocab_size: int | None) -> Tokenizer | None:
    """The tokenizer of `data.tokenizer` where that is a file or a folder."""
    if data.tokenizer in KINDS:
        return None
    path = Path(data.tokenizer).expanduser()
    if not path.exists():
        hint = did_you_mean(data.tokenizer, KINDS)
        raise UserError(f'data.tokenizer={data.tokenizer}: no such kind, file or folder{hint}')
    return load_tokenizer(path, vocab_size)


def _settings(
    data: DataConfig, source: Source, given: Tokenizer | None, vocab_size: int | None
) -> dict[str, Any]:
    """Everything that decides what the prepared text holds."""
    trained = {'kind': data.tokenizer, 'vocab_size': vocab_size or f'<= {DEFAULT_VOCAB_SIZE}'}
    return {
        'format': FORMAT,
        'source': source.fingerprint(),
        'english_of_code': data.source == 'stdlib',
        'documents': data.documents,
        'text_field': data.text_field,
        'validation_fraction': data.validation_fraction,
        'tokenizer': given.sha256 if given else trained,
    }


def _build(
    folder: Path,
    data: DataConfig,
    source: Source,
    given: Tokenizer | None,
    vocab_size: int | None,
    settings: dict[str, Any],
) -> None:
    """Splits, trains the tokenizer, tokenises, and writes all of it into `folder`."""
    from lm.data import prepared_text

    split = split_source(source, data.validation_fraction)
    tokenizer = given or _trained(data.tokenizer, split, vocab_size)
    sides = {part: _Side(split, part, tokenizer) for part in PARTS}
    prepared_text.write(folder, {part: side.documents for part, side in sides.items()})
    for part, side in sides.items():
        np.save(folder / f'{part}.lengths.npy', np.asarray(side.lengths, np.int64))
    for name, content in tokenizer.files.items():
        (folder / name).write_bytes(content)
    accounting = _accounting(data, source, split, sides, tokenizer, settings)
    (folder / 'accounting.json').write_text(json.dumps(accounting, indent=1))
    for part, side in sides.items():
        _check_written(_store(folder, part, accounting), side)


def _trained(kind: str, split: Split, vocab_size: int | None) -> Tokenizer:
    """A tokenizer of the training part, the same whether its size was asked for or found."""

    def trained(size: int | None) -> Tokenizer:
        return train_tokenizer(kind, (d.text for d in split.documents('train', Reading())), size)

    if vocab_size is not None:
        return trained(vocab_size)
    # A resumed run asks for the size that was found: it must get this very tokenizer.
    return trained(trained(None).vocabulary.size)


class _Side:
    """One side of the split while it is tokenised, and what came of it."""

    def __init__(self, split: Split, part: Part, tokenizer: Tokenizer):
        self.reading = Reading()
        self.lengths = array('q')
        self.text_bytes = 0
        self._split = split
        self._part = part
        self._tokenizer = tokenizer

    def documents(self) -> Iterator[Any]:
        """Every document as ids; several at a time are tokenised on all cores."""
        from lm.data.prepared_text import TokenDocument

        for batch in _batched(self._split.documents(self._part, self.reading)):
            encoded = self._tokenizer.encode_batch([document.text for document in batch])
            for document, tokens in zip(batch, encoded, strict=True):
                self.lengths.append(len(tokens))
                self.text_bytes += len(document.text.encode())
                yield TokenDocument(document.name, tokens)


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


def _accounting(
    data: DataConfig,
    source: Source,
    split: Split,
    sides: dict[Part, _Side],
    tokenizer: Tokenizer,
    settings: dict[str, Any],
) -> dict[str, Any]:
    train, validation = (sides[part].reading for part in PARTS)
    readings = [train, validation] if split.rule == 'source' else [train]
    return {
        **source.facts,
        'source_sha256': settings['source'],
        'read': {
            'documents': sum(r.documents for r in readings),
            'bytes': sum(r.text_bytes for r in readings),
            'separator_bytes': sum(r.separator_bytes for r in readings),
        },
        'dropped': dict(train.dropped | validation.dropped),
        'split': split.rule,
        **{
            part: {
                'documents': len(side.lengths),
                'tokens': sum(side.lengths),
                'bytes': side.text_bytes,
                'lines_left_to_the_other_side': split.removed[part].lines,
                'bytes_left_to_the_other_side': split.removed[part].bytes,
            }
            for part, side in sides.items()
        },
        'tokenizer': {
            'kind': data.tokenizer if data.tokenizer in KINDS else 'given',
            'ids': tokenizer.vocabulary.size,
            'sha256': tokenizer.sha256,
            'lossless': tokenizer.lossless,
        },
    }


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
    return Store(
        prepared_text.open_split(folder, part),
        lengths,
        text_bytes=accounting[part]['bytes'],
        record_tokens=prepared_text.RECORD_TOKENS,
    )


def _open(folder: Path, settings: dict[str, Any], vocab_size: int | None) -> Prepared:
    accounting = json.loads((folder / 'accounting.json').read_text())
    tokenizer = load_tokenizer(folder, vocab_size)
    # The same tokens serve models with more and with fewer special ids.
    accounting['tokenizer']['ids'] = tokenizer.vocabulary.size
    return Prepared(
        tokenizer=tokenizer,
        train=_store(folder, 'train', accounting),
        validation=_store(folder, 'validation', accounting),
        fingerprint=_digest({**settings, 'tokenizer': tokenizer.sha256}),
        accounting=accounting,
    )


def _digest(settings: dict[str, Any]) -> str:
    """SHA-256 of settings, hexadecimal."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
