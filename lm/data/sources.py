"""Where text comes from: one interface over files, the standard library, TFDS and the hub.

`open_source` turns `data.source` into a `Source`, which says what its content is (a hash, for the
cache) and yields its documents, as often as asked, always in the same order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from lm.config import DataConfig
from lm.errors import UserError

Part = Literal['train', 'validation']
PARTS: tuple[Part, Part] = ('train', 'validation')
Unit = Literal['file', 'blank_line', 'line']


class Document(NamedTuple):
    """One text. `name` does not depend on where the source lies: it decides the split."""

    name: str
    text: str


@dataclass
class Reading:
    """What one pass over a source met.

    Attributes:
      documents: texts read, those dropped included.
      text_bytes: UTF-8 bytes of them, with what separates documents within a file.
      separator_bytes: line ends and blank lines between the documents of one file.
      dropped: documents and files left out, by reason.
    """

    documents: int = 0
    text_bytes: int = 0
    separator_bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@runtime_checkable
class Source(Protocol):
    """Text that can be read again and again.

    Attributes:
      facts: what a record of the run should say about it (`source`, the Python version, ...).
      has_validation: whether it names its own held-out part.
    """

    facts: dict[str, str]
    has_validation: bool

    def fingerprint(self) -> str:
        """A hash of the content, hexadecimal; cheaper than reading the documents."""
        ...

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        """Its documents in a fixed order, counted in `reading` as they are drawn.

        Raises:
          UserError: text that cannot be read, naming the file and the place.
        """
        ...


def open_source(data: DataConfig, *, examples: bool = False) -> Source:
    """The source that `data.source` names, with what `data.validation_source` names held out.

    Args:
      data: with one source.
      examples: its documents are the records of labelled text, as JSON.

    Raises:
      UserError: there is no such file, dataset or glob.
    """
    opened = _opened_examples if examples else _opened
    if not data.validation_source:
        return opened(data)
    from lm.data.held_out_source import HeldOutSource

    held_out = replace(data, source=data.validation_source, validation_source='')
    return HeldOutSource(opened(data), lambda: opened(held_out))


def _opened_examples(data: DataConfig) -> Source:
    _require_files_for_encoding(data)
    if data.source.startswith('tfds:'):
        from lm.data.tfds_records import TfdsRecords

        return TfdsRecords(data.source)
    if data.source in ('stdlib', 'stdlib_code') or data.source.startswith('hf:'):
        raise UserError(
            f'data.source={data.source}: holds plain text, where objective.name asks for examples; '
            'give a file of records (.jsonl, .csv, .tsv, .conll, ...) or tfds:NAME'
        )
    from lm.data.record_files import RecordFiles

    return RecordFiles(data.source, unit=data.documents, encoding=data.encoding)


def _require_files_for_encoding(data: DataConfig) -> None:
    """Refuses an encoding of what is no file of the user's."""
    named = data.source in ('stdlib', 'stdlib_code') or data.source.startswith(('tfds:', 'hf:'))
    if named and data.encoding != DataConfig.encoding:
        raise UserError(
            f'data.encoding={data.encoding}: is of files, and data.source={data.source} none; '
            'leave it unset'
        )


def _opened(data: DataConfig) -> Source:
    _require_files_for_encoding(data)
    if data.source in ('stdlib', 'stdlib_code'):
        from lm.data.standard_library import StandardLibrary

        return StandardLibrary(code=data.source == 'stdlib_code', unit=data.documents)
    if data.source.startswith('tfds:'):
        from lm.data.tfds_source import TfdsSource

        return TfdsSource(data.source, text_field=data.text_field, unit=data.documents)
    if data.source.startswith('hf:'):
        from lm.data.hf_source import HfSource

        return HfSource(data)
    from lm.data.text_files import TextFiles

    return TextFiles(
        data.source, text_field=data.text_field, unit=data.documents, encoding=data.encoding
    )


def cut_documents(
    name: str, lines: Iterable[str], unit: Unit, reading: Reading
) -> Iterator[Document]:
    """The documents within one text, given line by line with line ends.

    `file`: all of it, to the byte. `line`: each line without its end. `blank_line`: each run of
    lines between lines of whitespace, without the last line end. Texts of whitespace alone are
    dropped and counted.
    """
    if unit == 'file':
        text = ''.join(lines)
        reading.text_bytes += len(text.encode())
        yield from _kept(Document(name, text), reading)
        return
    gathered: list[str] = []
    first = 1
    for number, line in enumerate(lines, 1):
        reading.text_bytes += len(line.encode())
        if unit == 'line':
            yield from _kept(_without_end(f'{name}:{number}', [line], reading), reading)
        elif line.strip():
            first = first if gathered else number
            gathered.append(line)
        else:
            reading.separator_bytes += len(line.encode())
            if gathered:
                yield from _kept(_without_end(f'{name}:{first}', gathered, reading), reading)
            gathered = []
    if gathered:
        yield from _kept(_without_end(f'{name}:{first}', gathered, reading), reading)


def require_text(name: str, text: str) -> str:
    """`text`, which must be expressible in UTF-8 (JSON can spell half a surrogate pair).

    Raises:
      UserError: it is not.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f'data.source: {name} holds an unpaired surrogate \\u{ord(text[error.start]):04x} at '
            f'character {error.start}, which is no text; remove it'
        ) from None
    return text


def _without_end(name: str, lines: list[str], reading: Reading) -> Document:
    text = ''.join(lines)
    kept = text.removesuffix('\n').removesuffix('\r')
    reading.separator_bytes += len(text) - len(kept)
    return Document(name, kept)


def _kept(document: Document, reading: Reading) -> Iterator[Document]:
    reading.documents += 1
    if document.text.strip():
        yield document
    else:
        reading.dropped['empty'] += 1
