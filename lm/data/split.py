"""Which text trains and which is held out.

Several documents: by a hash of each one's name, so the side of a document does not depend on the
others. One document: by position, its last bytes are held out. A source with a validation part of
its own: that part. Where documents were split by name, no long line is on both sides: a line that
training has too is taken out of the held-out documents, and counted.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from lm.data.sources import Document, Part, Reading, Source
from lm.errors import UserError

LONG_LINE_CHARS = 64
"""Lines of at least this many characters, blanks at the ends aside, must not be on both sides."""


@dataclass
class Split:
    """A source divided in two.

    Attributes:
      source: where the documents come from.
      rule: `name`, `position`, or `source` where the source has its own validation part.
      fraction: the share held out.
      moved: of documents split by name, the number of the one that changes sides so that neither
        is empty, or None.
      repeated: hashes of the long lines that both sides would have.
      removed_lines, removed_bytes: what `documents('validation')` took out, over one pass.
    """

    source: Source
    rule: Literal['name', 'position', 'source']
    fraction: float
    moved: int | None = None
    repeated: frozenset[int] = frozenset()
    removed_lines: int = field(default=0, init=False)
    removed_bytes: int = field(default=0, init=False)

    def documents(self, part: Part, reading: Reading) -> Iterator[Document]:
        """The documents of one side, in the source's order."""
        if self.rule == 'source':
            yield from self.source.documents(reading, part)
        elif self.rule == 'position':
            for document in self.source.documents(reading):
                train, held_out = cut_by_position(document.text, self.fraction)
                yield Document(document.name, train if part == 'train' else held_out)
        elif part == 'train':
            yield from self._by_name(part, reading)
        else:
            self.removed_lines = self.removed_bytes = 0
            for document in self._by_name(part, reading):
                text = self._without_repeats(document.text)
                if text.strip():
                    yield Document(document.name, text)
                else:
                    reading.dropped['held out, but all of it is in training too'] += 1

    def _by_name(self, part: Part, reading: Reading) -> Iterator[Document]:
        for number, document in enumerate(self.source.documents(reading)):
            held_out = (name_hash(document.name) < self.fraction) != (number == self.moved)
            if held_out == (part == 'validation'):
                yield document

    def _without_repeats(self, text: str) -> str:
        if not self.repeated:
            return text
        kept = []
        for line in text.split('\n'):
            if line_hash(line) in self.repeated:
                self.removed_lines += 1
                self.removed_bytes += len(line.encode()) + 1
            else:
                kept.append(line)
        return '\n'.join(kept)


def split_source(source: Source, fraction: float) -> Split:
    """How `source` is divided; reads it through up to three times, in bounded memory.

    Args:
      source: the documents.
      fraction: the share held out, of documents or of a single one's bytes.

    Raises:
      UserError: there is not enough text for two sides.
    """
    if source.has_validation:
        return Split(source, 'source', fraction)
    count, moved = _count(source, fraction)
    if count == 0:
        raise UserError(f'data.source={source.facts["source"]}: empty; give a file with text')
    if count == 1:
        split = Split(source, 'position', fraction)
        if not all(d.text.strip() for p in _PARTS for d in split.documents(p, Reading())):
            raise UserError(
                f'data.source={source.facts["source"]}: too little text to hold out '
                f'data.validation_fraction={fraction} of it; give more text'
            )
        return split
    split = Split(source, 'name', fraction, moved)
    held_out = {
        line_hash(line)
        for document in split.documents('validation', Reading())
        for line in document.text.split('\n')
    }
    repeated = {
        hashed
        for document in split.documents('train', Reading())
        for line in document.text.split('\n')
        if (hashed := line_hash(line)) is not None and hashed in held_out
    }
    return Split(source, 'name', fraction, moved, frozenset(repeated))


_PARTS: tuple[Part, Part] = ('train', 'validation')


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
