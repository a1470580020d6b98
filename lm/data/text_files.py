"""Documents from files, on a disk or in a store: text, JSONL and parquet, compressed or not."""

import glob
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from lm.data.compression import kind_of, open_packed
from lm.data.sources import Document, Part, Reading, Unit, cut_documents, require_text
from lm.errors import UserError, did_you_mean
from lm.fields import require
from lm.storage import Store, StoredFile, is_hidden, is_stored

File = Path | StoredFile

_HASH_BLOCK = 1 << 20
_BUCKET = 2  # which part of an address, between slashes, is the bucket
_SNIFFED = 8192  # bytes after one that is not UTF-8 in which a NUL tells a binary file


class BinaryFileError(UserError):
    """A file that holds no text."""


class TextFiles:
    """A file, every file of a directory, or every file that a glob matches; by sorted path.

    Files in a store are read there, anew for each pass, and are the same text as on a disk: content
    and documents are told by names from the directory, or from where the glob begins, on.

    A named or matched file must be text. In a directory hidden files are not looked at and binary
    ones are left out and counted. The suffix decides the format: `.jsonl` and `.parquet` hold
    one text a record in `text_field`, anything else is plain text in
    `data.encoding`; `.gz` and `.zst` may follow.
    """

    has_validation = False
    _nothing = 'no readable text files in it; give UTF-8 text, .jsonl or .parquet'

    def __init__(self, source: str, *, text_field: str, unit: Unit, encoding: str = 'utf-8'):
        """
        Raises:
          UserError: nothing is there.
        """
        self.facts = {'source': source}
        self._source = source
        self._text_field = text_field
        self._unit = unit
        self._encoding = encoding
        find = _stored if is_stored(source) else _on_disk
        self._is_directory, files = find(source)
        self._files = dict(sorted(files.items()))
        if not self._files:
            raise UserError(f'data.source={source}: a directory without files; give one with text')

    def fingerprint(self) -> str:
        """SHA-256 over every file's name and bytes."""
        digest = hashlib.sha256()
        for name, path in self._files.items():
            digest.update(name.encode(errors='surrogateescape') + b'\0')
            content = hashlib.sha256()
            try:
                with path.open('rb') as file:
                    while block := file.read(_HASH_BLOCK):
                        content.update(block)
            except OSError as error:
                raise self._unreadable(path, error) from None
            digest.update(content.digest())
        return digest.hexdigest()

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        """See `Source.documents`."""
        before = reading.documents
        for name, path in self._files.items():
            try:
                yield from self._read(name, path, reading)
            except BinaryFileError:
                if not self._is_directory:
                    raise
                reading.dropped['binary file'] += 1
            except (OSError, EOFError, zlib.error) as error:
                raise self._unreadable(path, error) from None
        if reading.documents == before:
            raise UserError(f'data.source={self._source}: {self._nothing}')

    def _read(self, name: str, path: File, reading: Reading) -> Iterator[Document]:
        kind, packed = kind_of(path)
        if kind == '.parquet':
            yield from self._records(path, name, self._parquet(path), reading)
            return
        with open_packed(path, packed) as file:
            if kind == '.jsonl':
                yield from self._records(path, name, self._json_lines(path, file), reading)
            else:
                yield from cut_documents(name, self._lines(path, file), self._unit, reading)

    def _records(
        self, path: File, name: str, texts: Iterator[tuple[int, str]], reading: Reading
    ) -> Iterator[Document]:
        for number, text in texts:
            require_text(f'{path}:{number}', text)
            lines = io.StringIO(text, newline='\n')
            yield from cut_documents(f'{name}:{number}', lines, self._unit, reading)

    def _lines(self, path: File, file: io.BufferedIOBase) -> Iterator[str]:
        """Lines of text with their ends. Raises UserError where a byte is not text."""
        offset = 0
        for raw in file:
            try:
                text = raw.decode(self._encoding)
            except UnicodeDecodeError as error:
                raise self._undecodable(path, raw + file.read(_SNIFFED), offset, error) from None
            if b'\0' in raw:
                raise self._binary(path, offset + raw.index(b'\0'))
            yield text
            offset += len(raw)

    def _undecodable(
        self, path: File, raw: bytes, offset: int, error: UnicodeDecodeError
    ) -> UserError:
        if b'\0' in raw:
            return self._binary(path, offset + raw.index(b'\0'))
        return UserError(
            f'data.source={path}: not {self._encoding.upper()} (0x{raw[error.start]:02x} at byte '
            f'{offset + error.start}); set data.encoding, often latin-1, or convert it: iconv -f '
            f'ENCODING -t UTF-8 {path.name} > NEW'
        )

    def _binary(self, path: File, place: int) -> BinaryFileError:
        return BinaryFileError(
            f'data.source={path}: binary, not text (a NUL byte at byte {place}); give UTF-8 text'
        )

    def _json_lines(self, path: File, file: io.BufferedIOBase) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(self._lines(path, file), 1):
            if not line.strip():
                continue
            place = f'{path}:{number}'
            try:
                record = json.loads(line.removeprefix('\ufeff'))
            except ValueError as error:
                raise UserError(f'data.source={place}: not JSON ({error})') from None
            if not isinstance(record, dict):
                raise UserError(
                    f'data.source={place}: not a JSON object but {type(record).__name__}; give '
                    f'one object a line'
                )
            if self._text_field not in record:
                raise self._no_field(place, [*map(str, record)])
            text = record[self._text_field]
            if not isinstance(text, str):
                raise UserError(
                    f'data.text_field={self._text_field}: {place} holds {type(text).__name__} '
                    'there, not text'
                )
            yield number, text

    def _parquet(self, path: File) -> Iterator[tuple[int, str]]:
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.ParquetFile(path if isinstance(path, Path) else path.open())
        except pyarrow.ArrowInvalid as error:
            raise UserError(f'data.source={path}: not a parquet file ({error})') from None
        names = table.schema_arrow.names
        if self._text_field not in names:
            raise self._no_field(str(path), names)
        kind = table.schema_arrow.field(self._text_field).type
        if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
            raise UserError(
                f'data.text_field={self._text_field}: {path} holds {kind} there, not text'
            )
        number = 0
        for batch in table.iter_batches(columns=[self._text_field]):
            for text in batch.column(0).to_pylist():
                number += 1
                yield number, text or ''

    def _no_field(self, place: str, there: list[str]) -> UserError:
        return UserError(
            f'data.text_field={self._text_field}: {place} has no such field'
            f'{did_you_mean(self._text_field, there)} (fields: {", ".join(there) or "none"})'
        )

    def _unreadable(self, path: File, error: Exception) -> UserError:
        reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
        return UserError(f'data.source={path}: cannot be read: {reason}')


def _on_disk(source: str) -> tuple[bool, dict[str, File]]:
    """Whether a source is a directory, and its files by their names in it."""
    path = Path(source).expanduser()
    if path.is_dir():
        root, paths = path, _files_below(path)
    elif path.exists():
        root, paths = path.parent, [path]
    else:
        root, paths = _matched(source, str(path))
    return path.is_dir(), {path.relative_to(root).as_posix(): path for path in paths}


def _stored(source: str) -> tuple[bool, dict[str, File]]:
    """The same of a source in a store, where what has objects below it is a directory."""
    words = f'data.source={source}'
    folders = source.rstrip('/').split('/')
    first = next((i for i, part in enumerate(folders) if glob.has_magic(part)), len(folders) - 1)
    first = max(first, _BUCKET + 1)
    store, rest = Store('/'.join(folders[:first]), words), '/'.join(folders[first:])
    if glob.has_magic(rest):
        names = store.glob(rest)
        require(bool(names), f'{words}: matches no file; check the glob')
    else:
        names = [rest] if rest and store.holds(rest) else []
    if names:
        return False, {name: StoredFile(store, name) for name in names}
    store = Store(source, words)
    names = [name for name in store.names() if not is_hidden(name)]
    require(bool(names), f'{words}: no such object or folder; check the address')
    return True, {name: StoredFile(store, name) for name in names}


def _files_below(root: Path) -> list[Path]:
    """Every file below `root` that is not hidden; links to folders aside."""
    found: list[Path] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith('.')]
        found += [Path(folder, file) for file in files if not file.startswith('.')]
    return found


def _matched(source: str, pattern: str) -> tuple[Path, list[Path]]:
    """The folder that a glob starts from and the files it matches."""
    if not glob.has_magic(pattern):
        hint = did_you_mean(source, ('stdlib', 'stdlib_code')) if '/' not in source else ''
        hint = hint if 'did you mean' in hint else ''
        raise UserError(
            f'data.source={source}: no such file or directory{hint or "; check the path"} '
            '(or give stdlib, stdlib_code, a glob, tfds:NAME or hf:NAME)'
        )
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    paths = [Path(path) for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    if not paths:
        raise UserError(f'data.source={source}: matches no file; check the glob')
    return root, paths
