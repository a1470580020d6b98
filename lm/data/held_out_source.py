"""Two sources as one: what is trained on, and what is held out."""

import hashlib
from collections.abc import Iterator

from lm.data.sources import Document, Part, Reading, Source


class HeldOutSource:
    """A source with another one as its validation part; what it has of its own is not read."""

    has_validation = True

    def __init__(self, source: Source, held_out: Source):
        self._source, self._held_out = source, held_out
        self.facts = {**source.facts, 'validation_source': held_out.facts['source']}

    def fingerprint(self) -> str:
        """SHA-256 over the fingerprints of both."""
        both = f'{self._source.fingerprint()}\n{self._held_out.fingerprint()}'
        return hashlib.sha256(both.encode()).hexdigest()

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        """See `Source.documents`."""
        source = self._source if part == 'train' else self._held_out
        yield from source.documents(reading)
