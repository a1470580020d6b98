"""Which text trains and which is held out.

Several documents: by a hash of each one's name, so the side of a document does not depend on the
others. One document: by position, its last bytes are held out. A source with a validation part of
its own: that part, as it is. Where documents were split by name no long line is on both sides: it
stays on the side of the first document that has it, and is taken out of the other's and counted.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from lm.data.sources import PARTS, Document, Part, Reading, Source
from lm.errors import UserError

LONG_LINE_CHARS = 64
"""Lines of at least this many characters, blanks at the ends aside, must not be on both sides."""


@dataclass
class Removed:
    """Long lines taken out of one side, and their UTF-8 bytes with their ends."""

    lines: int = 0
    bytes: int = 0


@dataclass
class Split:
    """A source divided in two.

    Attributes:
      source: where the documents come from.
      rule: `name`, `position`, or `source` where the source has its own validation part.
      fraction: the share held out.
      moved: of documents split by name, the number of the one that changes sides so that neither
        is empty, or None.
      owners: the side that keeps a long line, by the line's hash, for those that both would have.
      removed: what the last pass over each side took out.
    """

    source: Source
    rule: Literal['name', 'position', 'source']
    fraction: float
    moved: int | None = None
    owners: dict[int, Part] = field(default_factory=dict)
    removed: dict[Part, Removed] = field(default_factory=dict, init=False)

    def documents(self, part: Part, reading: Reading) -> Iterator[Document]:
        """The documents of one side, in the source's order."""
        self.removed[part] = Removed()
        if self.rule == 'source':
            yield from self.source.documents(reading, part)
        elif self.rule == 'position':
            for document in self.source.documents(reading):
                train, held_out = cut_by_position(document.text, self.fraction)
                yield Document(document.name, train if part == 'train' else held_out)
        else:
            for side, document in self.sided(reading):
                if side != part:
                    continue
                text = self._without_others(document.text, part)
                if text.strip():
                    yield Document(document.name, text)
                else:
                    reading.dropped[f'of {part}, but the other side has all of it'] += 1

    def sided(self, reading: Reading) -> Iterator[tuple[Part, Document]]:
        """Every document whole, with its side; only for documents split by name."""
        for number, document in enumerate(self.source.documents(reading)):
            held_out = (name_hash(document.name) < self.fraction) != (number == self.moved)
            yield 'validation' if held_out else 'train', document

    def _without_others(self, text: str, part: Part) -> str:
        """`text` without the lines that belong to the other side."""
        if not self.owners:
            return text
        kept = []
        for line in text.split('\n'):
            hashed = line_hash(line)
            if hashed is None or self.owners.get(hashed, part) == part:
                kept.append(line)
            else:
                self.removed[part].lines += 1
                self.removed[part].bytes += len(line.encode()) + 1
        return '\n'.join(kept)


def split_source(source: Source, fraction: float) -> Split:
    """How `source` is divided; reads it through up to three times, in bounded memory.

    Args:
      source: the documents.
      fraction: the share held out, of documents or of a single one's bytes.

    Raises:
      UserError: there is not enough text for two sides.
    """
    split = _divided(source, fraction)
    for part in PARTS:
        first = next(split.documents(part, Reading()), None)
        if first is None or not first.text.strip():
            raise UserError(
                f'data.source={source.facts["source"]}: too little text for a {part} part with '
                f'data.validation_fraction={fraction}; give more text, or text that repeats less'
            )
    return split


def _divided(source: Source, fraction: float) -> Split:
    if source.has_validation:
        return Split(source, 'source', fraction)
    count, moved = _count(source, fraction)
    if count == 0:
        raise UserError(f'data.source={source.facts["source"]}: empty; give a file with text')
    if count == 1:
        return Split(source, 'position', fraction)
    split = Split(source, 'name', fraction, moved)
    held_out = {
        hashed
        for side, document in split.sided(Reading())
        if side == 'validation'
        for hashed in _long_lines(document)
    }
    owners: dict[int, Part] = {}
    trained_on = set()
    for side, document in split.sided(Reading()):
        for hashed in _long_lines(document):
            if hashed in held_out:
                owners.setdefault(hashed, side)
                if side == 'train':
                    trained_on.add(hashed)
    return Split(source, 'name', fraction, moved, {h: owners[h] for h in trained_on})


def name_hash(name: str) -> float:
    """A number in [0, 1) that depends on the name alone; below the fraction is held out."""
    digest = hashlib.sha256(name.encode(errors='surrogateescape')).digest()
    return int.from_bytes(digest[:8], 'big') / 2**64


def line_hash(line: str) -> int | None:
    """64 bits of a long line, blanks at its ends aside; None of a short one."""
    line = line.strip()
    if len(line) < LONG_LINE_CHARS:
        return None
    return int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), 'big')


def _long_lines(document: Document) -> Iterator[int]:
    hashes = map(line_hash, document.text.split('\n'))
    return (hashed for hashed in hashes if hashed is not None)


def cut_by_position(text: str, fraction: float) -> tuple[str, str]:
    """The first `int((1 - fraction) * bytes)` bytes, back to a whole character, and the rest."""
    encoded = text.encode()
    cut = int((1 - fraction) * len(encoded))
    while 0 < cut < len(encoded) and encoded[cut] & 0xC0 == 0x80:
        cut -= 1
    return encoded[:cut].decode(), encoded[cut:].decode()


def _count(source: Source, fraction: float) -> tuple[int, int | None]:
    """How many documents, and which of them must change sides for none to be empty."""
    count = held_out = 0
    lowest, highest = (2.0, 0), (-1.0, 0)
    for number, document in enumerate(source.documents(Reading())):
        rank = name_hash(document.name)
        lowest, highest = min(lowest, (rank, number)), max(highest, (rank, number))
        held_out += rank < fraction
        count += 1
    if held_out == 0:
        return count, lowest[1]
    return count, highest[1] if held_out == count else None
